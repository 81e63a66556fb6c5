"""A path info is the commit point: what it refers to is made durable before it becomes visible."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.directory import DirectoryService
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.resource import task_group
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress

__all__ = ["CommitPointPathInfoService"]


class CommitPointPathInfoService(PathInfoService):
    """The path infos of a store, whose puts wait for its blobs and directories to be durable.

    Costs nothing where puts are durable when they return. With ``Durability.BATCHED`` it is what keeps a crash from
    leaving a path info behind whose contents are gone.

    Args:
        inner: The path infos; closed with this one.
        blobs: What the path infos refer to; not closed with this one.
        directories: Likewise.
    """

    def __init__(self, inner: PathInfoService, blobs: BlobService, directories: DirectoryService) -> None:
        self.inner = inner
        self._blobs = blobs
        self._directories = directories

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def _sync(self) -> None:
        async with task_group() as group:
            group.create_task(self._blobs.sync())
            group.create_task(self._directories.sync())

    async def get(self, digest: bytes) -> PathInfo | None:
        return await self.inner.get(digest)

    async def put(self, path_info: PathInfo) -> PathInfo:
        await self._sync()
        return await self.inner.put(path_info)

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return await self.inner.get_metadata(digest)

    async def open_nar(self, digest: bytes) -> NarStream | None:
        return await self.inner.open_nar(digest)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        return await self.inner.get_many(digests)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        await self._sync()
        return await self.inner.put_many(path_infos)

    def list(self) -> AsyncIterator[PathInfo]:
        return self.inner.list()

    async def delete(self, digests: Sequence[bytes]) -> None:
        await self.inner.delete(digests)

    async def discard_corrupt(self, digest: bytes) -> None:
        await self.inner.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self.inner.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.inner.verify(progress)

    def nar_calculation(self) -> NarCalculationService | None:
        return self.inner.nar_calculation()

    async def aclose(self) -> None:
        await self.inner.aclose()
