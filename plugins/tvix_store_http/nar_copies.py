"""Copies of rendered NARs: clients of a cache ask for the same ones again and again, and a file is sent with less work.

A copy is a file without a name. Nothing of it is left when the process has ended, nor trusted when another one begins.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import resource
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from tvix_store import nixbase32
from tvix_store.errors import CorruptObject, StoreError, Unavailable
from tvix_store.flights import Flight, Flights
from tvix_store.limits import KIB, MIB
from tvix_store.resource import AsyncResource
from tvix_store.spool import Spool, UnlinkedFile

__all__ = ["CopyLost", "CopyPart", "NarCopies", "Render"]

logger = logging.getLogger(__name__)

Render = Callable[[int, int], Awaitable[AsyncGenerator[bytes] | None]]
"""Renders a NAR from one byte up to another; ``None`` if it is gone."""

_MIN_BYTES = 256 * KIB
"""NARs below this are rendered each time: about as fast, and a copy takes a file descriptor."""
_SHARE = 4
"""A copy takes at most one part in so many of the space, and all together of the file descriptors."""
_WRITE_BYTES = 1 * MIB
_MAX_COUNTED = 2**16
"""How many NARs without a copy are remembered, at some 150 bytes each."""
_AGAIN_S = 60.0
"""After a failure to write, no copies are begun for so long."""


class CopyLost(Exception):
    """There is no copy any more, for a reason that says nothing of the NAR: it has to be rendered instead."""


class _Copy:
    """A NAR that is on disk, or gets there.

    Args:
        nar_sha256: What it has to hash to.
        folder: Where it is.
        size: In bytes.
    """

    def __init__(self, nar_sha256: bytes, folder: str, size: int) -> None:
        self.nar_sha256 = nar_sha256
        self.hasher = hashlib.sha256()
        self.spool = Spool(folder, size, self.hasher.update)
        self.flight: Flight[None] | None = None
        self.n_readers = 0


class CopyPart:
    """A part of a copy, which somebody reads. The copy stays until this is closed.

    Args:
        copies: What it is one of.
        copy: The copy.
        start: Where the part begins.
        end: Where it ends.
        render: For when the copy is lost.
    """

    def __init__(self, copies: NarCopies, copy: _Copy, start: int, end: int, render: Render) -> None:
        self._copies = copies
        self._copy: _Copy | None = copy
        self._spool = copy.spool
        self.start = start
        self.end = end
        self.render = render
        copy.n_readers += 1

    async def file(self, position: int) -> tuple[UnlinkedFile, int]:
        """The copy, and up to where in the part it may be read: beyond ``position``, which is waited for.

        Raises:
            CopyLost: There is none any more.
            StoreError: The NAR cannot be rendered, or is not what it should be.
        """
        await self._spool.wait_beyond(position)
        assert self._spool.file is not None
        return self._spool.file, min(self._spool.available, self.end)

    def lose(self, error: OSError) -> None:
        """The copy cannot be read: nobody else is to try."""
        if self._copy is not None:
            self._copies.lose(self._copy, error)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes, from the copy as far as there is one; closes this at the end.

        Raises:
            StoreError: As ``file``.
        """
        position = self.start
        try:
            while position < self.end:
                try:
                    piece = (await self._spool.read(position))[: self.end - position]
                except CopyLost:
                    async with aclosing(await self.rest(position)) as rest:
                        async for piece in rest:
                            yield piece
                    return
                position += len(piece)
                yield piece
        finally:
            self.close()

    async def rest(self, position: int) -> AsyncGenerator[bytes]:
        """What comes from ``position`` on, rendered.

        Raises:
            Unavailable: It is gone.
        """
        pieces = await self.render(position, self.end)
        if pieces is None:
            raise Unavailable("a NAR was deleted while it was sent")
        return pieces

    def close(self) -> None:
        """Nothing is read any more. The last one to say so ends the making of a copy that is not whole."""
        if self._copy is not None:
            copy, self._copy = self._copy, None
            self._copies.release(copy)


class NarCopies(AsyncResource):
    """Makes copies, and keeps those that were used last.

    A NAR is rendered by a task of its own, at its own pace. Whoever wants it reads from the copy as far as that is.
    What is being read is not removed, so that all together never take more than they may; a NAR for which there is no
    room has no copy.

    Args:
        folder: Where they are.
        max_bytes: What they may take together; 0: there are none.
        after: How often a NAR is rendered without one: writing it costs more than it saves if nobody comes back.
    """

    def __init__(self, folder: str, max_bytes: int, after: int = 0) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._after = after
        self._asked: OrderedDict[bytes, int] = OrderedDict()  # how often, of those without a copy
        n_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._max_count = 2**16 if n_files == resource.RLIM_INFINITY else n_files // _SHARE
        self._copies: OrderedDict[bytes, _Copy] = OrderedDict()  # the least recently used one first
        self._count = self._n_bytes = 0  # also of those that are no longer among these, but still read
        self._begin_after = 0.0
        self._flights: Flights[_Copy, None] = Flights()
        self._is_closed = False

    @property
    def n_bytes(self) -> int:
        """What all of them take, or will when they are whole."""
        return self._n_bytes

    def find(self, nar_sha256: bytes, size: int, start: int, end: int, render: Render) -> CopyPart | None:
        """A part of the NAR with this hash; ``None`` if there is no copy, and none is being made.

        Args:
            nar_sha256: The hash.
            size: Of the whole NAR.
            start: Where the part begins.
            end: Where it ends.
            render: For when the copy is lost.
        """
        copy = self._copies.get(nar_sha256)
        if copy is None or copy.spool.size != size or start >= end:
            return None
        self._copies.move_to_end(nar_sha256)
        return CopyPart(self, copy, start, end, render)

    def begin(self, nar_sha256: bytes, size: int, render: Render) -> CopyPart | None:
        """As ``find``, for the whole NAR, of which a copy is made; ``None`` if it cannot have one, or not yet."""
        part = self.find(nar_sha256, size, 0, size, render)
        if part is not None or not self._is_due(nar_sha256) or not self._has_room(size):
            return part
        copy = _Copy(nar_sha256, self._folder, size)
        copy.flight = self._flights.start(copy, lambda: self._make(copy, render))
        copy.flight.task.add_done_callback(lambda task: self._made(copy, task))
        self._copies[nar_sha256] = copy
        self._count += 1
        self._n_bytes += size
        return CopyPart(self, copy, 0, size, render)

    def _is_due(self, nar_sha256: bytes) -> bool:
        """Whether the NAR has been asked for often enough; counts this time."""
        times = self._asked.pop(nar_sha256, 0)
        if times < self._after:
            self._asked[nar_sha256] = times + 1
            if len(self._asked) > _MAX_COUNTED:
                self._asked.popitem(last=False)
            return False
        return True

    def _has_room(self, size: int) -> bool:
        """Whether a NAR may have a copy; removes others for it."""
        if self._is_closed or not _MIN_BYTES <= size <= self._max_bytes // _SHARE or self._now() < self._begin_after:
            return False
        idle, n_bytes, count = [], self._n_bytes + size, self._count + 1
        if n_bytes > self._max_bytes or count > self._max_count:
            for copy in self._copies.values():
                if not copy.n_readers:
                    idle.append(copy)
                    n_bytes, count = n_bytes - copy.spool.size, count - 1
                    if n_bytes <= self._max_bytes and count <= self._max_count:
                        break
            else:
                return False
        for copy in idle:
            self._drop(copy)
        return True

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _make(self, copy: _Copy, render: Render) -> None:
        spool = copy.spool
        pieces = await render(0, spool.size)
        if pieces is None:
            raise CopyLost
        left = spool.size
        async with aclosing(pieces), aclosing(_gathered(pieces)) as batches:
            async for batch, n_bytes in batches:
                left -= n_bytes
                if left < 0:
                    raise CorruptObject(f"a NAR goes on after the {spool.size} bytes that were announced")
                try:
                    await spool.write(*batch)
                except StoreError as exc:
                    self._fail(exc)
                    raise CopyLost from exc
        if left:
            raise CorruptObject(f"a NAR ended after {spool.size - left} of {spool.size} bytes")
        if (actual := copy.hasher.digest()) != copy.nar_sha256:
            expected, actual_text = nixbase32.encode(copy.nar_sha256), nixbase32.encode(actual)
            raise CorruptObject(
                f"the NAR of what is stored has sha256:{actual_text}, its path info says sha256:{expected}",
                expected=expected,
                actual=actual_text,
            )

    def _made(self, copy: _Copy, task: asyncio.Task[None]) -> None:
        error = Unavailable("the server was closed") if task.cancelled() else task.exception()
        if error is None:
            copy.spool.finish()
        elif self._copies.get(copy.nar_sha256) is copy:  # else who dropped it has told its readers
            self._drop(copy)
            copy.spool.fail(error if isinstance(error, Exception) else CopyLost())

    def _fail(self, error: Exception) -> None:
        logger.warning("no copies of NARs for %d s: %s", _AGAIN_S, error)
        self._begin_after = self._now() + _AGAIN_S

    def lose(self, copy: _Copy, error: OSError) -> None:
        """A copy cannot be read."""
        self._fail(error)
        self._drop(copy)
        copy.spool.fail(CopyLost())
        if copy.flight is not None:
            copy.flight.task.cancel()

    def release(self, copy: _Copy) -> None:
        """One reader less."""
        copy.n_readers -= 1
        if copy.n_readers:
            return
        if self._copies.get(copy.nar_sha256) is not copy:
            self._give_back(copy)
        elif copy.flight is not None and not copy.flight.task.done():
            copy.flight.task.cancel()
            self._drop(copy)

    def _drop(self, copy: _Copy) -> None:
        """Let nobody else read it; its space is given back once nobody reads it."""
        if self._copies.get(copy.nar_sha256) is copy:
            del self._copies[copy.nar_sha256]
            if not copy.n_readers:
                self._give_back(copy)

    def _give_back(self, copy: _Copy) -> None:
        self._count -= 1
        self._n_bytes -= copy.spool.size

    async def aclose(self) -> None:
        self._is_closed = True
        await self._flights.aclose()
        for copy in list(self._copies.values()):
            self._drop(copy)


async def _gathered(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[tuple[list[bytes], int]]:
    """Pieces that are written at once, and how many bytes they are."""
    batch: list[bytes] = []
    n_bytes = 0
    async for piece in pieces:
        batch.append(piece)
        n_bytes += len(piece)
        if n_bytes >= _WRITE_BYTES:
            yield batch, n_bytes
            batch, n_bytes = [], 0
    if batch:
        yield batch, n_bytes
