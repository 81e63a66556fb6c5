"""A path info is the commit point: what it refers to is made durable before it becomes visible."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.blob import BlobService
from tvix_store.directory import DirectoryService
from tvix_store.forwarding import ForwardingPathInfoService
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.resource import task_group

__all__ = ["CommitPointPathInfoService"]


class CommitPointPathInfoService(ForwardingPathInfoService):
    """The path infos of a store, whose puts wait for its blobs and directories to be durable.

    Costs nothing where puts are durable when they return. With ``Durability.BATCHED`` it is what keeps a crash from
    leaving a path info behind whose contents are gone.

    Args:
        inner: The path infos; closed with this one.
        blobs: What the path infos refer to; not closed with this one.
        directories: Likewise.
    """

    def __init__(self, inner: PathInfoService, blobs: BlobService, directories: DirectoryService) -> None:
        super().__init__(inner)
        self._blobs = blobs
        self._directories = directories

    async def _sync(self) -> None:
        async with task_group() as group:
            group.create_task(self._blobs.sync())
            group.create_task(self._directories.sync())

    async def put(self, path_info: PathInfo) -> PathInfo:
        await self._sync()
        return await self.inner.put(path_info)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        await self._sync()
        return await self.inner.put_many(path_infos)

    async def aclose(self) -> None:
        await self.inner.aclose()
