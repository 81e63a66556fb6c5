"""The mount table of this process, and who uses what is mounted. Nothing here looks at a mounted filesystem itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MountLine", "mounted_around", "mounted_at", "mounted_by", "users"]

_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class MountLine:
    """A line of ``/proc/self/mountinfo``; see proc(5).

    Args:
        number: Of the mount; it may be given to another one as soon as this one is gone.
        device: The filesystem's, as ``MAJOR:MINOR``.
        path: Where it is.
        source: What is mounted, as whoever mounted it calls it.
        options: Those of the filesystem.
    """

    number: int
    device: str
    path: str
    source: str
    options: Sequence[str]

    @classmethod
    def parse(cls, line: str) -> MountLine:
        """Read a line."""
        mount, _, filesystem = line.partition(" - ")
        number, _, device, _, path, *_ = mount.split(" ")
        _, source, options, *_ = filesystem.split(" ")
        return cls(int(number), device, _unescaped(path), _unescaped(source), options.split(","))


def mounted_at(path: str) -> MountLine | None:
    """What is mounted exactly there, so that it is to be seen: if there are several, the last one."""
    found = None
    for line in _mounts():
        if line.path == path:
            found = line
    return found


def mounted_by(number: int, device: str) -> MountLine | None:
    """The mount with this number, if it is of this filesystem; ``None`` if it is gone."""
    return next((line for line in _mounts() if line.number == number and line.device == device), None)


def mounted_around(path: str) -> MountLine | None:
    """What the filesystem that ``path`` is in was mounted as."""
    found = None
    for line in _mounts():
        is_around = path == line.path or path.startswith(line.path.rstrip("/") + "/")
        if is_around and (found is None or len(line.path) >= len(found.path)):
            found = line
    return found


def _mounts() -> Iterator[MountLine]:
    return map(MountLine.parse, Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines())


def _unescaped(text: str) -> str:
    for character in " \t\n#\\":
        text = text.replace(f"\\{ord(character):03o}", character)
    return text


def users(path: str) -> str:
    """Which processes keep the mount at ``path`` in use, as ``NAME (PID), NAME (PID)``; some of them, if many do.

    Empty if there are none, or none that we may know of.
    """
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()) and _uses(process, path):
            try:
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
            except OSError:
                continue  # it has ended
    more = [f"{len(found) - _MAX_NAMED} more"] if len(found) > _MAX_NAMED else []
    return " and ".join([", ".join(found[:_MAX_NAMED]), *more])


def _uses(process: Path, path: str) -> bool:
    return any(used == path or used.startswith(f"{path}/") for used in _used(process))


def _used(process: Path) -> Iterator[str]:
    """Paths that a process has in use, as far as we may know; none once it has ended."""
    links = [process / "cwd", process / "root"]
    try:
        links += (process / "fd").iterdir()
        maps = (process / "maps").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    for link in links:
        try:
            yield os.readlink(link)
        except OSError:
            continue  # closed meanwhile
    for line in maps:
        _, _, mapped = line.partition("/")
        yield f"/{mapped}"
