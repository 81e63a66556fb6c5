"""Path infos kept near once they were found far."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from types import TracebackType
from typing import NoReturn

from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject, StoreError, Unavailable, Unsupported
from tvix_store.flights import Flight, Flights
from tvix_store.nar_calculation import FirstNarCalculation, NarCalculationService
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_cache.remembered import Remembered
from tvix_store_cache.sides import REMEMBERED_COUNT, CachePolicy, NearFailures, WriteTo, capabilities_of, is_lost

__all__ = ["CachePathInfoService"]

_PLAIN = CachePolicy()


class CachePathInfoService(PathInfoService):
    """Reads through ``near``; what it lacks is taken from ``far`` and kept in ``near``.

    An error of either is no miss, but for what is corrupt near: that is taken from ``far`` again, and only if it is not
    there is it the error.

    Args:
        name: Of the entry.
        near: Asked first; not closed with this.
        far: Asked for what ``near`` does not have, once for all who ask at the same time; not closed with this.
        policy: What else there is to settle.
    """

    relays = True

    def __init__(self, name: str, near: PathInfoService, far: PathInfoService, policy: CachePolicy = _PLAIN) -> None:
        self.name = name
        self.near = near
        self.far = far
        self.policy = policy
        self.failures = NearFailures(name, policy.skip_near_errors)
        self._absent = Remembered(policy.negative_ttl_s, REMEMBERED_COUNT)
        self._fills: Flights[bytes, PathInfo | None] = Flights()

    @property
    def _whole(self) -> PathInfoService:
        """The side that has all that was put."""
        return self.near if self.policy.write_to is WriteTo.NEAR else self.far

    @property
    def capabilities(self) -> Capabilities:
        return capabilities_of(self.near.capabilities, self.far.capabilities, self.policy.write_to)

    async def get(self, digest: bytes) -> PathInfo | None:
        damage: StoreError | None = None
        try:
            if (found := await self.near.get(digest)) is not None:
                return found
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            damage = exc
        found = await self._fills.join(digest, lambda: self._fill(digest))
        if found is None and isinstance(damage, CorruptObject):
            raise damage
        return found

    async def _fill(self, digest: bytes) -> PathInfo | None:
        try:
            if (found := await self.near.get(digest)) is not None:  # another fill may have ended after the first look
                return found
        except StoreError as exc:
            if not self.failures.may_pass(exc):
                raise
        if digest in self._absent:
            return None
        with self._absent.look() as look:
            taken = await self.far.get(digest)
            if taken is None:
                look.remember([digest])
                return None
        return (await self._put_near([taken]))[0]

    async def _put_near(self, taken: Sequence[PathInfo]) -> Sequence[PathInfo]:
        """What near made of these, which came from far."""
        if not self.policy.fills:
            return taken
        try:
            return [await self.near.put(taken[0])] if len(taken) == 1 else await self.near.put_many(taken)
        except StoreError as exc:
            if not self.failures.may_pass(exc):
                raise
            return taken

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        damage: StoreError | None = None
        try:
            if (found := await self.near.get_metadata(digest)) is not None:
                return found
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            damage = exc
        found = None
        if digest not in self._absent:
            with self._absent.look() as look:
                found = await self.far.get_metadata(digest)
                if found is None:
                    look.remember([digest])
        if found is None and isinstance(damage, CorruptObject):
            raise damage
        return found

    async def open_nar(self, digest: bytes) -> NarStream | None:
        """As ``far`` gives it. The stream ends well only once ``near`` has the path."""
        try:
            if (stream := await self.near.open_nar(digest)) is not None:
                return stream
            if await self.near.get_metadata(digest) is not None:
                return None
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
        if digest in self._absent or (stream := await self.far.open_nar(digest)) is None:
            return None
        if not self.policy.fills:
            return stream
        # A far side that fetches does so once for the stream and for this.
        fill = self._fills.find(digest) or self._fills.start(digest, lambda: self._fill(digest))
        return NarStream(stream.size, _FillingStream(stream, fill))

    async def put(self, path_info: PathInfo) -> PathInfo:
        return (await self.put_many([path_info]))[0]

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        """``get`` for each; ``far`` is asked for what is missing in one batch, beside what others ask it for."""
        damage: CorruptObject | None = None
        found: list[PathInfo | None]
        try:
            found = list(await self.near.get_many(digests))
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            found = [None] * len(digests)
            damage = exc if isinstance(exc, CorruptObject) else None
        missing = list(dict.fromkeys(digest for digest, hit in zip(digests, found, strict=True) if hit is None))
        unknown = [digest for digest in missing if digest not in self._absent]
        taken = await self._take(unknown) if unknown else {}
        if damage is not None and (rest := [digest for digest in missing if digest not in taken]):
            near = dict(zip(rest, await self.near.get_many(rest), strict=True))
            lacking = [digest.hex() for digest, hit in near.items() if hit is None]
            if is_lost(damage, {digest.hex() for digest in digests}, lacking):
                raise damage
            taken |= {digest: hit for digest, hit in near.items() if hit is not None}
        return [taken.get(digest) if hit is None else hit for digest, hit in zip(digests, found, strict=True)]

    async def _take(self, digests: Sequence[bytes]) -> dict[bytes, PathInfo]:
        """What far has of these, as near stored it."""
        with self._absent.look() as look:
            found = await self.far.get_many(digests)
            look.remember(digest for digest, hit in zip(digests, found, strict=True) if hit is None)
        taken = [hit for hit in found if hit is not None]
        if taken:
            taken = list(await self._put_near(taken))
        return {path_info.store_path.digest: path_info for path_info in taken}

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        """To ``far`` first, so that ``near`` never has what ``far`` refused."""
        try:
            if self.policy.write_to is WriteTo.NEAR:
                return await self.near.put_many(path_infos)
            stored = await self.far.put_many(path_infos)
            if self.policy.write_to is WriteTo.BOTH:
                return await self.near.put_many(stored)
            await self._refresh(stored)
            return stored
        finally:
            self._absent.forget(path_info.store_path.digest for path_info in path_infos)

    async def _refresh(self, path_infos: Sequence[PathInfo]) -> None:
        """Replace in ``near`` those of the paths that it has, lest it go on answering with the older ones."""
        there = await self.near.get_many([path_info.store_path.digest for path_info in path_infos])
        older = [path_info for path_info, hit in zip(path_infos, there, strict=True) if hit is not None]
        if older:
            await self.near.put_many(older)

    def list(self) -> AsyncIterator[PathInfo]:
        return self._whole.list()

    async def delete(self, digests: Sequence[bytes]) -> None:
        if self.policy.write_to is not WriteTo.NEAR:
            raise Unsupported(f"{self.name}: path infos that are far would come back; delete them near or far")
        await self.near.delete(digests)

    async def discard_corrupt(self, digest: bytes) -> None:
        await self.near.discard_corrupt(digest)
        await self.far.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self._whole.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self._whole.verify(progress)

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
