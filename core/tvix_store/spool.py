"""A NAR on its way: written once to a file without a name, and read from there by many, each at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from types import TracebackType
from typing import NoReturn

from tvix_store.errors import OutOfSpace, Unavailable
from tvix_store.limits import MIB, PIECE_BYTES

__all__ = ["HELD_BACK_BYTES", "Spool", "SpoolReader", "UnlinkedFile"]

HELD_BACK_BYTES = 1 * MIB
"""How much of the end nobody gets before all of it was checked."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UnlinkedFile:
    """A file without a name. It is closed, and its space given back, once no thread or object refers to it.

    Args:
        folder: Where it takes its space from.

    Attributes:
        fd: Its descriptor, valid as long as this is referred to.
    """

    def __init__(self, folder: str) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            self.fd = os.dup(file.fileno())

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.fd)

    def write(self, pieces: Sequence[bytes], position: int) -> None:
        """Write from ``position`` on, all of it."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                n_bytes = os.pwrite(self.fd, view, position)
                view = view[n_bytes:]
                position += n_bytes

    def read(self, n_bytes: int, position: int) -> bytes:
        """Read at most so much, less only at the end of the file."""
        return os.pread(self.fd, n_bytes, position)


class Spool:
    """One NAR, while it comes in and is read.

    Args:
        folder: Where the file is.
        size: Of the NAR in bytes, as announced.
        see: Called in the thread that writes, with each piece in turn.

    Attributes:
        file: What was written; ``None`` before the first write, and after ``fail``.
    """

    def __init__(self, folder: str, size: int, see: Callable[[bytes], object] | None = None) -> None:
        self._folder = folder
        self._see = see
        self.size = size
        self.file: UnlinkedFile | None = None
        self._written = 0
        self._is_checked = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def available(self) -> int:
        """How much may be read."""
        if self._is_checked:
            return self.size
        return max(0, min(self._written, self.size - HELD_BACK_BYTES))

    async def write(self, *pieces: bytes) -> None:
        """Append.

        Raises:
            OutOfSpace: There is no room.
            Unavailable: It cannot be written for another reason.
        """
        with self._faults():
            self.file = await asyncio.to_thread(self._write, self.file, pieces, self._written)
        self._written += sum(map(len, pieces))
        self._tell()

    def _write(self, file: UnlinkedFile | None, pieces: Sequence[bytes], position: int) -> UnlinkedFile:
        if file is None:
            file = UnlinkedFile(self._folder)
        if self._see is not None:
            for piece in pieces:
                self._see(piece)
        file.write(pieces, position)
        return file

    def finish(self) -> None:
        """All was written, and it is what was announced."""
        assert self._written == self.size
        self._is_checked = True
        self._tell()

    def fail(self, error: Exception) -> None:
        """Let those who read fail with ``error``, and give the space back."""
        self._error = error
        self.file = None
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_beyond(self, position: int) -> None:
        """Wait until there is something to read behind ``position``.

        Raises:
            Exception: What ``fail`` was told.
        """
        while self._error is None and self.available <= position:
            await self._changed.wait()
        if self._error is not None:
            raise self._error

    async def read(self, position: int) -> bytes:
        """The next piece from ``position`` on, which is before the end; waits for it.

        Raises:
            Exception: What ``fail`` was told.
            Unavailable: The file cannot be read.
        """
        await self.wait_beyond(position)
        assert self.file is not None
        n_bytes = min(PIECE_BYTES, self.available - position)
        with self._faults():
            piece = await asyncio.to_thread(self.file.read, n_bytes, position)
        if not piece:
            raise Unavailable(f"spool in {self._folder}: shorter than what was written")
        return piece

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            kind = OutOfSpace if exc.errno in _NO_SPACE else Unavailable
            raise kind(f"spool in {self._folder}: {exc.strerror}") from exc


class SpoolReader(AsyncGenerator[bytes, None]):
    """The pieces of a spool from the start on.

    A class, because the end of a generator function that was never begun goes unnoticed.

    Args:
        spool: The spool.
        release: Called once, when the end is reached, reading fails, or this is closed.
    """

    def __init__(self, spool: Spool, release: Callable[[], None]) -> None:
        self._spool = spool
        self._release: Callable[[], None] | None = release
        self._position = 0

    async def asend(self, value: None) -> bytes:
        if self._release is None or self._position == self._spool.size:
            self._end()
            raise StopAsyncIteration
        try:
            piece = await self._spool.read(self._position)
        except BaseException:
            self._end()
            raise
        self._position += len(piece)
        return piece

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: object = None,
        tb: TracebackType | None = None,
    ) -> NoReturn:
        self._end()
        raise typ

    async def aclose(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._release is not None:
            release, self._release = self._release, None
            release()
