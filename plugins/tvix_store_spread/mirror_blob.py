"""Blobs in several replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.blob import BlobService, BlobWriter, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, LimitExceeded, StoreError
from tvix_store.limits import BATCH_BYTES
from tvix_store.repair import fetch_blob
from tvix_store.replicated import ReplicatedService
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.blob import SeveralBlobService
from tvix_store_spread.capabilities import mirror_capabilities
from tvix_store_spread.mirror import Mirroring, MirrorOptions
from tvix_store_spread.repairs import REPAIR_BATCH_COUNT, mended_from
from tvix_store_spread.upkeep import in_all

__all__ = ["MirrorBlobService"]


class MirrorBlobService(SeveralBlobService, ReplicatedService):
    """The same blobs in each of several services.

    Args:
        name: Of the entry.
        members: The replicas by name; not closed with this.
        options: How they are written and read.
    """

    def __init__(self, name: str, members: Mapping[str, BlobService], options: MirrorOptions) -> None:
        self.mirroring: Mirroring[BlobService, B3Digest] = Mirroring(name, members, options, self._mend)
        super().__init__(name, members, self.mirroring.asking)

    @property
    def capabilities(self) -> Capabilities:
        inner = [member.capabilities for member in self.members.values()]
        return mirror_capabilities(inner, self.mirroring.quorum.min_writes)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        """None are told where a replica has none: what is read of the others would be put there as blobs."""
        if self.capabilities.chunks:
            return await super().chunks(digest)
        return [] if await self.has(digest) else None

    async def open_write(self) -> BlobWriter:
        failures: dict[str, StoreError] = {}
        writers = await self.mirroring.open("write of a blob", lambda member: member.open_write(), failures)
        return _MirrorWriter(self.mirroring, writers, failures)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        if not blobs:
            return
        took = await self.mirroring.quorum.each(
            self.members, f"put of {len(blobs)} blobs", lambda member: member.put_many(blobs)
        )
        self.mirroring.missed([blob.digest for blob in blobs], took)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        async with self.mirroring.repairs.kept_off(digests):
            await super().delete(digests)

    async def stats(self) -> ServiceStats:
        return await self.mirroring.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.mirroring.verify(progress, "blob", B3Digest.parse)

    async def resync(self, progress: VerifyProgress = no_progress) -> Mapping[str, int]:
        async def lacked(position: int, digests: Sequence[B3Digest]) -> Sequence[B3Digest]:
            there = await self._asking.members[position].has_many(digests)
            return [digest for digest, answer in zip(digests, there, strict=True) if not answer]

        put = await self.mirroring.resync([member.list for member in self._asking.members], lacked, progress)
        await in_all(self._asking.members, lambda member: member.sync())
        return put

    async def sync(self) -> None:
        await self.mirroring.quorum.each(self.members, "sync", lambda member: member.sync())

    async def aclose(self) -> None:
        await self.mirroring.repairs.aclose()

    async def _mend(self, position: int, digests: Sequence[B3Digest]) -> int:
        target = self._asking.members[position]
        there = await target.has_many(digests)
        lacking = [digest for digest, answer in zip(digests, there, strict=True) if not answer]

        async def copy(source: BlobService, wanted: Sequence[B3Digest]) -> Sequence[B3Digest]:
            try:
                found = await source.get_many(wanted, max_blob_bytes=BATCH_BYTES // REPAIR_BATCH_COUNT)
            except (LimitExceeded, CorruptObject):  # one of them is too large, or corrupt: that one by itself
                if len(wanted) > 1:
                    half = len(wanted) // 2
                    return [*await copy(source, wanted[:half]), *await copy(source, wanted[half:])]
                try:
                    return wanted if await fetch_blob(wanted[0], source, target) else []
                except CorruptObject:  # which core had the source forget
                    return []
            blobs = await asyncio.to_thread(lambda: [HashedBlob(blob) for blob in found if blob is not None])
            if blobs:
                await target.put_many(blobs)
            return [blob.digest for blob in blobs]

        return await mended_from(self.mirroring.others(position), lacking, copy)


class _MirrorWriter(BlobWriter):
    """Writes to several replicas; one that fails drops out, as long as enough are left."""

    def __init__(
        self,
        mirroring: Mirroring[BlobService, B3Digest],
        writers: dict[str, BlobWriter],
        failures: dict[str, StoreError],
    ) -> None:
        self._mirroring = mirroring
        self._writers = writers  # of those that are left
        self._opened = tuple(writers.values())
        self._failures = failures
        self._digest: B3Digest | None = None

    async def write(self, data: bytes) -> None:
        done = await self._mirroring.quorum.each(
            self._writers, "write of a blob", lambda writer: writer.write(data), self._failures
        )
        self._writers = {name: self._writers[name] for name in done}

    async def close(self) -> B3Digest:
        if self._digest is None:
            digests = await self._mirroring.quorum.each(
                self._writers, "write of a blob", lambda writer: writer.close(), self._failures
            )
            self._digest = next(iter(digests.values()))
            self._mirroring.missed([self._digest], digests)
        return self._digest

    async def aclose(self) -> None:
        await in_all(self._opened, lambda writer: writer.aclose())
