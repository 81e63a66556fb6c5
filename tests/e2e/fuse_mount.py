"""Stores that are mounted by a process of their own, which is ended and unmounted whatever a test has done to it."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from e2e.http_chain import Server, _command, tvix_store

__all__ = [
    "DEADLINE_S",
    "Mounted",
    "add",
    "clear",
    "fuse_frontend",
    "is_mounted",
    "local_store",
    "require_fuse",
    "required",
]

DEADLINE_S = 60.0
"""No single step takes so long."""

LONGEST_S = 600.0
"""Whoever waits for a mount that does not answer is let go by its end: that of its process, after so long."""

_DETACH = 2  # MNT_DETACH of mount.h


def required(program: str, package: str) -> str:
    """Path of a program. Where CI installed it, its absence is a failure rather than a skip."""
    path = shutil.which(program)
    if path is None:
        _cannot_run(f"{program} missing: apt-get install {package}")
    return str(path)


def require_fuse() -> None:
    """Skip the test if nothing can be mounted here; in CI, fail."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        _cannot_run(f"/dev/fuse: {exc.strerror}: modprobe fuse; a container needs --device /dev/fuse")
    if importlib.util.find_spec("pyfuse3") is None:
        _cannot_run("pyfuse3 missing: apt-get install libfuse3-dev pkg-config, pip install -e '.[fuse]'")
    if os.geteuid() != 0:
        required("fusermount3", "fuse3")


def _cannot_run(message: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def local_store(folder: Path, more: str = "") -> Path:
    """The configuration of a store in ``folder``: files and a database. ``more`` is put at its end."""
    folder.mkdir(parents=True, exist_ok=True)
    database = f'type = "sqlite"\npath = {json.dumps(f"{folder}/metadata.sqlite")}\ndurability = "none"\n'
    config = folder / "store.toml"
    config.write_text(
        f'[blobservices.root]\ntype = "fs"\npath = {json.dumps(f"{folder}/blobs")}\ndurability = "none"\n'
        f"[directoryservices.root]\n{database}[pathinfoservices.root]\n{database}{more}"
    )
    return config


def fuse_frontend(path: Path, name: str = "mount", **settings: object) -> str:
    """The table of a frontend that mounts at ``path``; ``settings`` are as in the configuration."""
    given = {"type": "fuse", "mount_point": str(path), **settings}
    lines = (f"{key} = {json.dumps(value)}\n" for key, value in given.items())
    return f"[frontends.{name}]\n{''.join(lines)}"


def add(config: Path, *paths: Path) -> list[str]:
    """Import into a store; the base names of the store paths."""
    printed = tvix_store("import", "--config", config, *paths)
    return [os.path.basename(line) for line in printed.splitlines()]


class Mounted(Server):
    """A store mounted by a process of its own.

    Never look below ``path`` from the process that serves it. Tests are another one, and may; what could hang is
    better left to a program that is started with a timeout.

    Attributes:
        path: The mount point, without symlinks.
        process: What serves it; it leads a process group of its own, as under a shell with job control.
        log: The lines that it has written so far.
    """

    def __init__(self, path: Path, arguments: Sequence[object], *, prefix: Sequence[str] = (), **popen: Any) -> None:
        """Start ``tvix-store ARGUMENTS``, which mounts at ``path``, and wait until it is ready.

        Args:
            path: An existing directory.
            arguments: The command line.
            prefix: What starts it, with its arguments, such as ``setpriv``; has to become it in the end.
            popen: Further arguments of `subprocess.Popen`, such as ``env`` and ``user``.
        """
        self.path = path.resolve()
        self.url = str(self.path)
        self.log = []
        self._has_grown = threading.Condition()
        command = [*prefix, _command(), *map(str, arguments)]
        self.process = self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, **popen
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._watchdog = threading.Timer(LONGEST_S, self.process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()
        try:
            self.logged("ready, serving")
        except BaseException:
            self.close()
            raise

    @classmethod
    def mount(cls, config: Path, path: Path, *flags: object, options: Sequence[object] = (), **popen: Any) -> Self:
        """By ``tvix-store OPTIONS mount --config CONFIG FLAGS PATH``; ``path`` is made if it is missing."""
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, [*options, "mount", "--config", config, *flags, path], **popen)

    @classmethod
    def run(cls, config: Path, path: Path, **popen: Any) -> Self:
        """By ``tvix-store run CONFIG``, one of whose frontends mounts at ``path``, which is made if it is missing."""
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, ["run", config], **popen)

    @property
    def is_mounted(self) -> bool:
        return is_mounted(self.path)

    def unmount(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """What ``umount FLAGS`` says, or ``fusermount3 -u FLAGS`` where we are not root."""
        program = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        command = [*program, *flags, str(self.path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def send(self, number: int) -> None:
        """Send a signal to the process alone."""
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """What Ctrl-C in a terminal does: SIGINT to the process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def status(self) -> int:
        """The exit status, once the process has ended and the log is complete; negative: the signal that killed it."""
        status = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert not self._reader.is_alive(), "somebody else has the log open"
        return status

    def close(self) -> None:
        """Kill the process if it has not ended, and detach the mount if it is still there."""
        self._watchdog.cancel()
        try:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(DEADLINE_S)
            self._reader.join(DEADLINE_S)
        finally:
            clear(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def is_mounted(path: Path) -> bool:
    """Whether something is mounted exactly at ``path``, which has no symlinks; does not look at the mount itself."""
    return any(line.split(" ")[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def clear(path: Path) -> None:
    """Detach whatever is mounted at ``path``, also if nobody serves it any more."""
    for _ in range(8):  # one may be mounted over another
        if not is_mounted(path):
            return
        if os.geteuid() != 0 or ctypes.CDLL(None).umount2(os.fsencode(path), _DETACH):
            subprocess.run(["fusermount3", "-uz", str(path)], timeout=DEADLINE_S, check=False)
    raise AssertionError(f"{path} is still mounted")
