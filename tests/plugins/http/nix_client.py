"""A real Nix that substitutes from a binary cache into a store of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

__all__ = ["Nix", "NixFailed"]

_CONF = """\
experimental-features = nix-command ca-derivations
sandbox = false
build-users-group =
substituters =
"""


class NixFailed(Exception):
    """Nix ended with an exit status other than 0; the message is what it wrote to stderr."""


class Nix:
    """Runs commands with a configuration, a home and a store below ``path``."""

    def __init__(self, path: Path) -> None:
        self.store = path / "nix"
        self._path = path
        (path / "conf").mkdir(parents=True)
        (path / "conf" / "nix.conf").write_text(_CONF)

    async def run(self, program: str, *arguments: str | Path) -> bytes:
        """What the command writes to stdout.

        Raises:
            NixFailed: It says that something went wrong.
        """
        if shutil.which(program) is None:
            message = f"{program} missing: apt-get install nix-bin"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._path / "home"),
            "NIX_CONF_DIR": str(self._path / "conf"),
            "NIX_STATE_DIR": str(self._path / "var"),
            "NIX_USER_CONF_FILES": "",
        }
        process = await asyncio.create_subprocess_exec(
            program,
            *map(str, arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode:
            raise NixFailed(err.decode(errors="replace"))
        return out

    async def substitute(self, url: str, path: str, *options: str) -> None:
        """``nix-store --realise`` from ``url`` alone."""
        arguments = ("--store", str(self.store), "--option", "substituters", url, *options)
        await self.run("nix-store", *arguments, "--realise", path)

    def read(self, path: str) -> Path:
        """Where a path of the store is in the file system."""
        return self.store / path.removeprefix("/")
