"""Path infos kept near once they were found far."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from enum import Enum
from types import TracebackType
from typing import NoReturn

from tvix_store.capabilities import Capabilities
from tvix_store.errors import Unavailable
from tvix_store.flights import Flight, Flights
from tvix_store.nar_calculation import FirstNarCalculation, NarCalculationService
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress

__all__ = ["CachePathInfoService", "WriteTo"]


class WriteTo(Enum):
    """Where puts go."""

    NEAR = "near"
    FAR = "far"
    BOTH = "both"


class CachePathInfoService(PathInfoService):
    """Reads through ``near``; what it lacks is taken from ``far`` and kept in ``near``.

    An error of either is an error of this: it is never taken for a miss.

    Args:
        name: Of the entry.
        near: Asked first; not closed with this.
        far: Asked for what ``near`` does not have, once for all who ask at the same time; not closed with this.
        write_to: Where puts go.
    """

    def __init__(
        self, name: str, near: PathInfoService, far: PathInfoService, write_to: WriteTo = WriteTo.NEAR
    ) -> None:
        self.name = name
        self.near = near
        self.far = far
        self._write_to = write_to
        self._fills: Flights[bytes, PathInfo | None] = Flights()

    @property
    def capabilities(self) -> Capabilities:
        """Those of ``near``: what is listed and deleted, and how durable a fill is. A put to ``far`` may be less so."""
        return self.near.capabilities

    async def get(self, digest: bytes) -> PathInfo | None:
        found = await self.near.get(digest)
        if found is None:
            found = await self._fills.join(digest, lambda: self._fill(digest))
        return found

    async def _fill(self, digest: bytes) -> PathInfo | None:
        found = await self.near.get(digest)  # another fill may have ended after the first look
        if found is None and (taken := await self.far.get(digest)) is not None:
            found = await self.near.put(taken)
        return found

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        metadata = await self.near.get_metadata(digest)
        return await self.far.get_metadata(digest) if metadata is None else metadata

    async def open_nar(self, digest: bytes) -> NarStream | None:
        """As ``far`` gives it. The stream ends well only once ``near`` has the path."""
        if (stream := await self.near.open_nar(digest)) is not None:
            return stream
        if await self.near.get_metadata(digest) is not None:
            return None
        if (stream := await self.far.open_nar(digest)) is None:
            return None
        # A far side that fetches does so once for the stream and for this.
        fill = self._fills.find(digest) or self._fills.start(digest, lambda: self._fill(digest))
        return NarStream(stream.size, _FillingStream(stream, fill))

    async def put(self, path_info: PathInfo) -> PathInfo:
        return (await self.put_many([path_info]))[0]

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        """``get`` for each; ``far`` is asked for what is missing in one batch, beside what others ask it for."""
        found = list(await self.near.get_many(digests))
        missing = list(dict.fromkeys(digest for digest, hit in zip(digests, found, strict=True) if hit is None))
        if not missing:
            return found
        taken = [path_info for path_info in await self.far.get_many(missing) if path_info is not None]
        if not taken:
            return found
        stored = {path_info.store_path.digest: path_info for path_info in await self.near.put_many(taken)}
        return [stored.get(digest) if hit is None else hit for digest, hit in zip(digests, found, strict=True)]

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        """To ``far`` first, so that ``near`` never has what ``far`` refused."""
        if self._write_to is WriteTo.NEAR:
            return await self.near.put_many(path_infos)
        stored = await self.far.put_many(path_infos)
        if self._write_to is WriteTo.BOTH:
            return await self.near.put_many(stored)
        await self._refresh(stored)
        return stored

    async def _refresh(self, path_infos: Sequence[PathInfo]) -> None:
        """Replace in ``near`` those of the paths that it has, lest it go on answering with the older ones."""
        there = await self.near.get_many([path_info.store_path.digest for path_info in path_infos])
        older = [path_info for path_info, hit in zip(path_infos, there, strict=True) if hit is not None]
        if older:
            await self.near.put_many(older)

    def list(self) -> AsyncIterator[PathInfo]:
        return self.near.list()

    async def delete(self, digests: Sequence[bytes]) -> None:
        await self.near.delete(digests)

    async def discard_corrupt(self, digest: bytes) -> None:
        await self.near.discard_corrupt(digest)
        await self.far.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self.near.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.near.verify(progress)

    def nar_calculation(self) -> NarCalculationService | None:
        near, far = self.near.nar_calculation(), self.far.nar_calculation()
        return FirstNarCalculation(near, far) if near and far else near or far

    async def aclose(self) -> None:
        await self._fills.aclose()


class _FillingStream(AsyncGenerator[bytes, None]):
    """The pieces of a stream, the last of which waits until the near side is filled.

    A class, because the end of a generator function that was never begun goes unnoticed.
    """

    def __init__(self, stream: NarStream, fill: Flight[PathInfo | None]) -> None:
        self._pieces = stream.pieces
        self._left = stream.size
        self._fill = fill
        self._is_held = True
        fill.hold()

    async def asend(self, value: None) -> bytes:
        try:
            piece = await anext(self._pieces)
            self._left -= len(piece)
            if self._left <= 0 and await self._fill.result() is None:
                raise Unavailable("the far side gave the NAR of a path, and then said that there is none")
        except BaseException:
            await self.aclose()
            raise
        return piece

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: object = None,
        tb: TracebackType | None = None,
    ) -> NoReturn:
        await self.aclose()
        raise typ

    async def aclose(self) -> None:
        if self._is_held:
            self._is_held = False
            self._fill.release()
        await self._pieces.aclose()
