"""Files of the file system, opened so that nobody who replaces one meanwhile redirects or hangs the reader.

All functions raise Unavailable, naming the file, if the system reports an error. They block, so they run in threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from tvix_store.errors import InvalidObject, Unavailable
from tvix_store.nodes import quote

__all__ = ["cannot_import", "changed", "open_file", "opened", "read", "read_into", "unreadable"]

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_file(path: bytes) -> tuple[int, os.stat_result]:
    """Open the regular file at ``path``; returns its descriptor, for the caller to close, and its status.

    Raises:
        InvalidObject: It is not a regular file, or no longer.
        Unavailable: It cannot be opened.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as exc:
        raise unreadable(path, exc) from exc
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise changed(path)
    return descriptor, status


@contextmanager
def opened(path: bytes, position: int) -> Iterator[int]:
    """``open_file`` for a ``with``, to go on reading ``position`` bytes from the start."""
    descriptor, _ = open_file(path)
    try:
        os.lseek(descriptor, position, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int, n_bytes: int, path: bytes, expected: int | None = None) -> bytes:
    """The next ``n_bytes``; fewer only at the end of the file, or if there are ``expected``, where that should be."""
    try:
        data = os.read(descriptor, n_bytes)
        while 0 < len(data) < n_bytes and len(data) != expected and (more := os.read(descriptor, n_bytes - len(data))):
            data += more
    except OSError as exc:
        raise unreadable(path, exc) from exc
    return data


def read_into(descriptor: int, buffer: bytearray, path: bytes) -> int:
    """Read into ``buffer``; returns how much, 0 at the end of the file."""
    try:
        return os.readv(descriptor, [buffer])
    except OSError as exc:
        raise unreadable(path, exc) from exc


def changed(path: bytes) -> InvalidObject:
    """What was read at ``path`` is not what it was announced to be."""
    return cannot_import(path, "it changed while it was read")


def cannot_import(path: bytes, reason: str) -> InvalidObject:
    """What is at ``path`` cannot be stored."""
    return InvalidObject(f"cannot import {quote(path, 4096)}: {reason}")


def unreadable(path: bytes, exc: OSError) -> Unavailable:
    """The system reported an error for ``path``."""
    return Unavailable(f"cannot import {quote(path, 4096)}: {exc.strerror}")
