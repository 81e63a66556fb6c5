"""One service for reads and another one for writes."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService, ForwardingPathInfoService
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store_spread.capabilities import read_write_capabilities
from tvix_store_spread.upkeep import in_all

__all__ = ["ReadWriteBlobService", "ReadWriteDirectoryService", "ReadWritePathInfoService"]


class ReadWriteBlobService(ForwardingBlobService):
    """Reads of one service, writes to another one, which is expected to have the same in the end.

    Args:
        read: Asked for everything, and listed and verified; not closed with this.
        write: Put to and deleted from; not closed with this.
    """

    relays = True

    def __init__(self, read: BlobService, write: BlobService) -> None:
        super().__init__(read)
        self.write = write

    @property
    def capabilities(self) -> Capabilities:
        return read_write_capabilities(self.inner.capabilities, self.write.capabilities)

    async def open_write(self) -> BlobWriter:
        return await self.write.open_write()

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await self.write.put_many(blobs)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        await self.write.delete(digests)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await in_all([self.inner, self.write], lambda member: member.discard_corrupt(digest))

    async def compact(self) -> int:
        return await self.write.compact()

    async def sync(self) -> None:
        await self.write.sync()


class ReadWriteDirectoryService(ForwardingDirectoryService):
    """Reads of one service, writes to another one; arguments as for `ReadWriteBlobService`."""

    relays = True

    def __init__(self, read: DirectoryService, write: DirectoryService) -> None:
        super().__init__(read)
        self.write = write

    @property
    def capabilities(self) -> Capabilities:
        return read_write_capabilities(self.inner.capabilities, self.write.capabilities)

    async def put(self, directory: Directory) -> None:
        await self.write.put(directory)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self.write.put_many(directories)

    async def put_multiple_start(self) -> DirectoryPutter:
        return await self.write.put_multiple_start()

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        await self.write.delete(digests)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await in_all([self.inner, self.write], lambda member: member.discard_corrupt(digest))

    async def sync(self) -> None:
        await self.write.sync()


class ReadWritePathInfoService(ForwardingPathInfoService):
    """Reads of one service, writes to another one; arguments as for `ReadWriteBlobService`."""

    relays = True

    def __init__(self, read: PathInfoService, write: PathInfoService) -> None:
        super().__init__(read)
        self.write = write

    @property
    def capabilities(self) -> Capabilities:
        return read_write_capabilities(self.inner.capabilities, self.write.capabilities)

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self.write.put(path_info)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        return await self.write.put_many(path_infos)

    async def delete(self, digests: Sequence[bytes]) -> None:
        await self.write.delete(digests)

    async def discard_corrupt(self, digest: bytes) -> None:
        await in_all([self.inner, self.write], lambda member: member.discard_corrupt(digest))
