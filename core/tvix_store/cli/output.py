"""Bytes to stdout."""

from __future__ import annotations

import sys

__all__ = ["write_stdout"]


def write_stdout(data: bytes) -> None:
    """Write all of ``data`` at once; blocks while the reader is slow."""
    view = memoryview(data)
    while view:
        written = sys.stdout.buffer.raw.write(view)  # type: ignore[union-attr]  # a file or pipe has a raw stream
        view = view[written:]
