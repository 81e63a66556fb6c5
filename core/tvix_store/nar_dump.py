"""The NAR of a path in the file system, which is what ``nix-store --dump`` prints."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from tvix_store.errors import InvalidObject
from tvix_store.limits import PIECE_BYTES
from tvix_store.nar import MAX_DEPTH, NarWriter
from tvix_store.nodes import quote

__all__ = ["dump_path"]


def dump_path(path: str | bytes | os.PathLike[str], *, max_depth: int = MAX_DEPTH) -> Iterator[bytes]:
    """Render what is at ``path``, without following a symlink.

    Files are executable if their owner may execute them; no other metadata is kept.

    Args:
        path: A file, symlink or directory.
        max_depth: How many levels to render, see NarWriter.

    Raises:
        InvalidObject: A socket, pipe or device, or a file whose size changed while it was read.
        LimitExceeded: More than ``max_depth`` levels.
        OSError: Something could not be read.
    """
    writer = NarWriter(max_depth=max_depth)
    pending: list[tuple[bytes, list[bytes]]] = []  # open directories: path, and names to come in descending order
    here = os.fsencode(path)
    while True:
        mode = os.lstat(here).st_mode
        if stat.S_ISREG(mode):
            yield from _dump_file(writer, here)
        elif stat.S_ISLNK(mode):
            yield writer.symlink(os.readlink(here))
        elif stat.S_ISDIR(mode):
            yield writer.begin_directory()
            pending.append((here, sorted(os.listdir(here), reverse=True)))
        else:
            raise InvalidObject(f"cannot archive {quote(here)}: neither file, directory nor symlink")
        while pending and not pending[-1][1]:
            pending.pop()
            yield writer.end_directory()
        if not pending:
            break
        directory, names = pending[-1]
        name = names.pop()
        yield writer.entry(name)
        here = os.path.join(directory, name)
    writer.finish()


def _dump_file(writer: NarWriter, path: bytes) -> Iterator[bytes]:
    # Whoever replaces the file by a symlink or a pipe after it was looked at must not redirect or hang us.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidObject(f"cannot archive {quote(path)}: no longer a regular file")
        size = status.st_size
        yield writer.begin_file(size, executable=bool(status.st_mode & stat.S_IXUSR))
        left = size
        while left:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise InvalidObject(f"cannot archive {quote(path)}: ended after {size - left} of {size} bytes")
            left -= len(piece)
            yield writer.content(piece)
        if file.read(1):
            raise InvalidObject(f"cannot archive {quote(path)}: grew beyond its {size} bytes while it was read")
        yield writer.end_file()
