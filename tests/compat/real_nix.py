"""A real Nix with a store of its own, which nobody else uses."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

__all__ = ["NixFailed", "RealNix"]

_CONF = """\
experimental-features = nix-command
sandbox = false
build-users-group =
substituters =
"""
_NAME = "8kvnsxia6gn1zjm4301jrv7s7vlzzqww-by-its-inputs"


class NixFailed(Exception):
    """Nix ended with another exit status than 0; the message is what it wrote to stderr."""


class RealNix:
    """Runs the programs of Nix.

    Args:
        folder: For everything: configuration, home, store.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "NIX_CONF_DIR": str(folder),
            "NIX_USER_CONF_FILES": "",
        }
        folder.mkdir()
        (folder / "nix.conf").write_text(_CONF)

    def run(self, program: str, *arguments: str | Path, stdin: str = "") -> str:
        """What it writes to stdout.

        Raises:
            NixFailed: It says that something went wrong.
        """
        command = [program, *map(str, arguments)]
        done = subprocess.run(
            command, env=self._environment, input=stdin, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise NixFailed(done.stderr)
        return done.stdout

    def add_closure(self) -> str:
        """Add a path that is not content-addressed, and refers to itself, to a derivation and through it to a text."""
        expression = (
            'derivation { name = "d"; system = "none"; builder = builtins.toFile "one" "x"; args = [ ./nix.conf ]; }'
        )
        source = Path(self._environment["NIX_CONF_DIR"]) / "default.nix"
        source.write_text(expression)
        derivation = self.run("nix-instantiate", "--store", self.root, source).strip()
        path = f"/nix/store/{_NAME}"
        file = self.where(path) / "bin" / "x"
        file.parent.mkdir(parents=True)
        file.write_text(f"{path} {derivation}" * 1000)
        sha256 = self.run("nix-hash", "--type", "sha256", self.where(path)).strip()
        nar = subprocess.run(["nix-store", "--dump", self.where(path)], check=True, capture_output=True).stdout
        lines = (path, sha256, len(nar), "", 2, *sorted([path, derivation]))
        self.run("nix-store", "--store", self.root, "--load-db", stdin="".join(f"{line}\n" for line in lines))
        return path

    def graph(self, path: str) -> object:
        """What there is to know of a path and all that it refers to, as JSON."""
        return json.loads(self.run("nix", "path-info", "--store", self.root, "--json", "--recursive", path))

    def where(self, path: str) -> Path:
        """Where a store path is in the file system."""
        return self.root / path.removeprefix("/")
