"""Bytes from a file or stdin."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from tvix_store.limits import MIB

__all__ = ["read_pieces"]

_PIECE_BYTES = 1 * MIB


async def read_pieces(file: Path) -> AsyncGenerator[bytes]:
    """What is in ``file``, or comes from stdin if that is ``-``, in pieces of up to 1 MiB.

    Waiting for a pipe or a terminal can be cancelled.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = sys.stdin.fileno() if str(file) == "-" else await asyncio.to_thread(os.open, file, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # it is no pipe; one would hold 64 KiB
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIECE_BYTES)
        while piece := await _read(descriptor):
            yield piece
    finally:
        if str(file) != "-":
            os.close(descriptor)


async def _read(descriptor: int) -> bytes:
    while True:
        try:
            await _readable(descriptor)
        except PermissionError:  # files on disk cannot be waited for, and need not be
            return await asyncio.to_thread(os.read, descriptor, _PIECE_BYTES)
        with contextlib.suppress(BlockingIOError):  # somebody else was faster
            return os.read(descriptor, _PIECE_BYTES)


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read.

    Raises:
        PermissionError: It is a file on disk.
    """
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
