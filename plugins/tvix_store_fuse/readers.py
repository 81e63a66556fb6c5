"""Blobs that are not split: a few of them are kept open, so that reading on does not start over."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict

from tvix_store.blob import BlobReader
from tvix_store.digest import B3Digest
from tvix_store.errors import DanglingReference, StoreError, Unavailable
from tvix_store.resource import AsyncResource
from tvix_store_fuse.asking import Asking

__all__ = ["MAX_READERS", "Readers"]

MAX_READERS = 16


class _Place:
    """For one open reader. It is taken by those who use it and those who wait for it."""

    __slots__ = ("lock", "n_users", "position", "reader")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.n_users = 0
        self.reader: BlobReader | None = None
        self.position = 0


class Readers(AsyncResource):
    """Open readers by blob, `MAX_READERS` at most; the one not used for longest is closed for another.

    Args:
        asking: Opens them.
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._places: OrderedDict[bytes, _Place] = OrderedDict()
        self._users = asyncio.Semaphore(MAX_READERS)

    async def read(self, digest: B3Digest, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` bytes of a blob from ``start`` on; fewer only at its end.

        Raises:
            DanglingReference: The blob is absent.
        """
        async with self._users:
            place = self._places.setdefault(digest.raw, _Place())
            self._places.move_to_end(digest.raw)
            place.n_users += 1
            try:
                await self._close_idle()
                async with place.lock:
                    is_fresh = place.reader is None
                    try:
                        return await self._read(place, digest, start, n_bytes)
                    except Unavailable:
                        if is_fresh:
                            raise
                    # It was open for long, perhaps, and the other end has gone.
                    return await self._read(place, digest, start, n_bytes)
            finally:
                place.n_users -= 1

    async def _close_idle(self) -> None:
        """Make room, if there are too many. As there are no more users than places, one of them is idle then."""
        if len(self._places) > MAX_READERS:
            idle = next(raw for raw, place in self._places.items() if not place.n_users)
            await self._close(self._places.pop(idle))

    async def _read(self, place: _Place, digest: B3Digest, start: int, n_bytes: int) -> bytes:
        name = f"blob {digest}"
        try:
            if place.reader is None:
                place.reader = await self._asking.call(name, self._asking.blobs.open_read(digest))
                place.position = 0
            if place.reader is None:
                raise DanglingReference(f"{name} does not exist")
            if place.position != start:  # core checks the whole of a blob only if it is read without a seek
                await self._asking.call(name, place.reader.seek(start))
                place.position = start
            parts: list[bytes] = []
            left = n_bytes
            while left and (part := await self._asking.call(name, place.reader.read(left))):
                parts.append(part)
                left -= len(part)
                place.position += len(part)
        except BaseException:
            await self._close(place)
            raise
        if left:  # the end: nobody reads on
            await self._close(place)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _close(self, place: _Place) -> None:
        reader, place.reader = place.reader, None
        if reader is not None:
            with contextlib.suppress(StoreError):  # what was read is right all the same
                await self._asking.call("a reader that is closed", reader.aclose())

    async def aclose(self) -> None:
        """Close what is open; nothing may be under way."""
        for place in self._places.values():
            await self._close(place)
        self._places.clear()
