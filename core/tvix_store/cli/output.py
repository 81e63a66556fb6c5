"""Bytes to stdout."""

from __future__ import annotations

import os
import select
import sys

__all__ = ["write_stdout"]


def write_stdout(data: bytes) -> None:
    """Write all of ``data`` at once; blocks while the reader is slow."""
    stdout = sys.stdout.fileno()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(stdout, view) :]
        except BlockingIOError:  # somebody made the pipe non-blocking
            select.select([], [stdout], [])
