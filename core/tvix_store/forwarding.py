"""What combinators begin with: services that pass every call on to another one.

A subclass overrides what it is about. One that gives what the other gives, unchanged, sets ``relays``. Closing is not
passed on, since others may refer to the same service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.explain import Explainer
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.nodes import Directory
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress

__all__ = ["ForwardingBlobService", "ForwardingDirectoryService", "ForwardingPathInfoService"]


class ForwardingBlobService(BlobService):
    """A blob service that is another one, but for what a subclass does otherwise.

    Args:
        inner: The other one; not closed with this.
    """

    def __init__(self, inner: BlobService) -> None:
        self.inner = inner

    @property
    def capabilities(self) -> Capabilities:
        capabilities = self.inner.capabilities
        return replace(capabilities, verifies=False) if capabilities.verifies and not self.relays else capabilities

    async def has(self, digest: B3Digest) -> bool:
        return await self.inner.has(digest)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        return await self.inner.open_read(digest)

    async def open_write(self) -> BlobWriter:
        return await self.inner.open_write()

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        return await self.inner.chunks(digest)

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return await self.inner.has_many(digests)

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        return await self.inner.get_many(digests, max_blob_bytes=max_blob_bytes)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await self.inner.put_many(blobs)

    def list(self) -> AsyncIterator[B3Digest]:
        return self.inner.list()

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        await self.inner.delete(digests)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await self.inner.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self.inner.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.inner.verify(progress)

    async def compact(self) -> int:
        return await self.inner.compact()

    async def sync(self) -> None:
        await self.inner.sync()


class ForwardingDirectoryService(DirectoryService):
    """A directory service that is another one, but for what a subclass does otherwise.

    Args:
        inner: The other one; not closed with this.
    """

    def __init__(self, inner: DirectoryService) -> None:
        self.inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def get(self, digest: B3Digest) -> Directory | None:
        return await self.inner.get(digest)

    async def put(self, directory: Directory) -> None:
        await self.inner.put(directory)

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        return await self.inner.get_many(digests)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self.inner.put_many(directories)

    def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        return self.inner.get_recursive(root)

    async def put_multiple_start(self) -> DirectoryPutter:
        return await self.inner.put_multiple_start()

    def list(self) -> AsyncIterator[B3Digest]:
        return self.inner.list()

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        await self.inner.delete(digests)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await self.inner.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self.inner.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.inner.verify(progress)

    async def sync(self) -> None:
        await self.inner.sync()


class ForwardingPathInfoService(PathInfoService):
    """A path info service that is another one, but for what a subclass does otherwise.

    Args:
        inner: The other one; not closed with this.
    """

    def __init__(self, inner: PathInfoService) -> None:
        self.inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def get(self, digest: bytes) -> PathInfo | None:
        return await self.inner.get(digest)

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self.inner.put(path_info)

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return await self.inner.get_metadata(digest)

    async def open_nar(self, digest: bytes) -> NarStream | None:
        return await self.inner.open_nar(digest)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        return await self.inner.get_many(digests)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
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

    def explainer(self) -> Explainer | None:
        return self.inner.explainer()
