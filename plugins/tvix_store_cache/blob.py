"""Blobs kept near once they were found far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, DanglingReference, StoreError, Unsupported
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.resource import task_group
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_cache.blob_reader import FarReader, NearReader
from tvix_store_cache.blob_writer import SidesWriter
from tvix_store_cache.remembered import Remembered
from tvix_store_cache.sides import REMEMBERED_COUNT, CachePolicy, NearFailures, WriteTo, capabilities_of, is_lost

__all__ = ["CacheBlobService"]

_PLAIN = CachePolicy()


class CacheBlobService(BlobService):
    """Reads through ``near``; what it lacks is taken from ``far`` and kept in ``near``.

    An error of either is no miss, but for what is corrupt near: that is taken from ``far`` again, and only if it is not
    there is it the error.

    Args:
        name: Of the entry.
        near: Asked first; not closed with this.
        far: Asked for what ``near`` does not have; not closed with this.
        policy: What else there is to settle.
    """

    relays = True

    def __init__(self, name: str, near: BlobService, far: BlobService, policy: CachePolicy = _PLAIN) -> None:
        self.name = name
        self.near = near
        self.far = far
        self.policy = policy
        self.failures = NearFailures(name, policy.skip_near_errors)
        self._absent = Remembered(policy.negative_ttl_s, REMEMBERED_COUNT)

    @property
    def _whole(self) -> BlobService:
        """The side that has all that was put."""
        return self.near if self.policy.write_to is WriteTo.NEAR else self.far

    @property
    def capabilities(self) -> Capabilities:
        return capabilities_of(self.near.capabilities, self.far.capabilities, self.policy.write_to)

    # Looking

    async def has(self, digest: B3Digest) -> bool:
        return (await self.has_many([digest]))[0]

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        """``near``'s answers, and those of ``far`` to the rest, as one batch."""
        try:
            found = list(await self.near.has_many(digests))
        except StoreError as exc:
            if not self.failures.may_pass(exc):
                raise
            found = [False] * len(digests)
        missing = self._unknown([digest for digest, hit in zip(digests, found, strict=True) if not hit])
        if not missing:
            return found
        with self._absent.look() as look:
            far = dict(zip(missing, await self.far.has_many(missing), strict=True))
            look.remember(digest.raw for digest, hit in far.items() if not hit)
        return [hit or far.get(digest, False) for digest, hit in zip(digests, found, strict=True)]

    def _unknown(self, digests: Sequence[B3Digest]) -> list[B3Digest]:
        """Each once, without those of which it is known that far lacks them."""
        return [digest for digest in dict.fromkeys(digests) if digest.raw not in self._absent]

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        damage: StoreError | None = None
        try:
            if (chunks := await self.near.chunks(digest)) is not None:
                return chunks
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            damage = exc
        chunks = await self._far_chunks(digest)
        if chunks is None and isinstance(damage, CorruptObject):
            raise damage
        return chunks

    async def _far_chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        if digest.raw in self._absent:
            return None
        with self._absent.look() as look:
            chunks = await self.far.chunks(digest)
            if chunks is None:
                look.remember([digest.raw])
        return chunks

    # Reading

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        """Of ``near``; else of ``far``, and ``near`` is filled while it is read from start to end."""
        damage: StoreError | None = None
        try:
            if (reader := await self.near.open_read(digest)) is not None:
                return NearReader(self, digest, reader)
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            damage = exc
        far = await self.open_far(digest)
        if far is None and isinstance(damage, CorruptObject):
            raise damage
        return far

    async def open_far(self, digest: B3Digest) -> BlobReader | None:
        """A reader of what is far, which fills near; ``None`` if it is absent there."""
        if digest.raw in self._absent:
            return None
        with self._absent.look() as look:
            reader = await self.far.open_read(digest)
            if reader is None:
                look.remember([digest.raw])
        return None if reader is None else FarReader(self, digest, reader)

    async def fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]:
        """The contents of chunks, each of which is a blob to both sides; kept near like others.

        Raises:
            DanglingReference: One is in neither.
        """
        most = max(chunk.size for chunk in chunks)
        contents: list[bytes] = []
        found = await self.get_many([chunk.digest for chunk in chunks], max_blob_bytes=most)
        for chunk, data in zip(chunks, found, strict=True):
            if data is None:
                raise DanglingReference(f"{self.name}: chunk {chunk.digest} does not exist")
            contents.append(data)
        return contents

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        """From ``near``; the rest from ``far`` as one batch, which is put in ``near`` as one."""
        damage: CorruptObject | None = None
        found: list[bytes | None]
        try:
            found = list(await self.near.get_many(digests, max_blob_bytes=max_blob_bytes))
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            found = [None] * len(digests)
            damage = exc if isinstance(exc, CorruptObject) else None
        missing = list(dict.fromkeys(digest for digest, data in zip(digests, found, strict=True) if data is None))
        unknown = self._unknown(missing)
        taken = await self._take(unknown, max_blob_bytes) if unknown else {}
        if damage is not None and (rest := [digest for digest in missing if digest not in taken]):
            near = dict(zip(rest, await self.near.get_many(rest, max_blob_bytes=max_blob_bytes), strict=True))
            if is_lost(damage, set(map(str, digests)), [str(digest) for digest, data in near.items() if data is None]):
                raise damage
            taken |= {digest: data for digest, data in near.items() if data is not None}
        return [taken.get(digest) if data is None else data for digest, data in zip(digests, found, strict=True)]

    async def _take(self, digests: Sequence[B3Digest], max_blob_bytes: int) -> dict[B3Digest, bytes]:
        """What far has of these; near has it, too, when this returns."""
        with self._absent.look() as look:
            found = await self.far.get_many(digests, max_blob_bytes=max_blob_bytes)
            look.remember(digest.raw for digest, data in zip(digests, found, strict=True) if data is None)
        taken = {digest: data for digest, data in zip(digests, found, strict=True) if data is not None}
        if taken and self.policy.fills:
            try:
                await self._fill(list(taken.values()))
            except StoreError as exc:
                if not self.failures.may_pass(exc):
                    raise
        return taken

    async def _fill(self, contents: Sequence[bytes]) -> None:
        small = [data for data in contents if len(data) <= SMALL_BLOB_BYTES]
        if small:
            in_thread = sum(map(len, small)) > PIECE_BYTES
            await self.near.put_many(await asyncio.to_thread(_hash, small) if in_thread else _hash(small))
        for data in contents:
            if len(data) > SMALL_BLOB_BYTES:
                async with await self.near.open_write() as writer:
                    await writer.write(data)
                    await writer.close()

    # Writing

    async def open_write(self) -> BlobWriter:
        match self.policy.write_to:
            case WriteTo.NEAR:
                sides = [self.near]
            case WriteTo.FAR:
                sides = [self.far]
            case WriteTo.BOTH:
                sides = [self.far, self.near]
        return await SidesWriter.open(self.name, sides, self._absent)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        """To ``far`` first, so that ``near`` never has what ``far`` refused."""
        try:
            if self.policy.write_to is not WriteTo.NEAR:
                await self.far.put_many(blobs)
            if self.policy.write_to is not WriteTo.FAR:
                await self.near.put_many(blobs)
        finally:
            self._absent.forget(blob.digest.raw for blob in blobs)

    # Upkeep

    def list(self) -> AsyncIterator[B3Digest]:
        return self._whole.list()

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        if self.policy.write_to is not WriteTo.NEAR:
            raise Unsupported(f"{self.name}: blobs that are far would come back; delete them near or far")
        await self.near.delete(digests)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await self.near.discard_corrupt(digest)
        await self.far.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self._whole.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self._whole.verify(progress)

    async def compact(self) -> int:
        return await self.near.compact()

    async def sync(self) -> None:
        async with task_group() as group:
            if self.policy.write_to is not WriteTo.NEAR:
                group.create_task(self.far.sync())
            if self.policy.write_to is not WriteTo.FAR:
                group.create_task(self.near.sync())


def _hash(contents: Sequence[bytes]) -> list[HashedBlob]:
    return [HashedBlob(data) for data in contents]
