"""Programs that use a mount while something happens to it, and the store of another process that it shows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from e2e.fuse_mount import DEADLINE_S, fuse_frontend, local_store

__all__ = ["Reader", "far_store", "over_far", "until"]

_PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
what, path = sys.argv[1:]
try:
    if what == "list":
        os.chdir(path)
    file = os.open(path, os.O_RDONLY)
    print("has it open", flush=True)
    if what == "hold":
        sys.stdin.read()
    if what == "list":
        os.listdir(".")
    else:
        while data := os.read(file, 1 << 16):
            os.write(1, data)
except OSError as exc:
    os._exit(exc.errno)
"""


class Reader:
    """A program that opens a file and reads it; its status is the errno when that fails, and else 0.

    Args:
        path: Of the file.
        what: ``hold`` to begin to read only when told, ``list`` to list a directory.
    """

    def __init__(self, path: Path, what: str = "read") -> None:
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, what, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"has it open\n"

    def until_it_waits(self) -> None:
        """Until it is stuck in its next call."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] in "SD")

    def read_on(self) -> tuple[int, bytes]:
        """Let it go on to its end; its status, and what it has read."""
        found, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, found

    def status(self) -> int:
        return self.read_on()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()


def until(holds: Callable[[], bool]) -> None:
    """Ask until it is so, which is to be soon."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline


def far_store(folder: Path) -> Path:
    """The configuration of a store that is served over a socket in its folder."""
    listen = json.dumps(f"{folder}/far.sock")
    return local_store(folder, f'[frontends.far]\ntype = "grpc"\nlisten = {listen}\nunix_listen_unlink = true\n')


def over_far(folder: Path, mount_point: Path, **settings: object) -> Path:
    """The configuration of a mount of the store that is served in ``folder``; ``settings`` as in the frontend."""
    config = mount_point.with_suffix(".toml")
    service = f'type = "grpc"\nurl = {json.dumps(f"grpc+unix://{folder}/far.sock")}\n'
    tables = (f"[{kind}.root]\n{service}" for kind in ("blobservices", "directoryservices", "pathinfoservices"))
    config.write_text("".join(tables) + fuse_frontend(mount_point, "mount", **settings))
    return config
