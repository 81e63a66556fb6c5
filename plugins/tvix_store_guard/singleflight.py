"""Services of all kinds in which those who ask for the same at the same time share one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tvix_store.around import (
    Access,
    Around,
    AroundBlobService,
    AroundDirectoryService,
    AroundPathInfoService,
    Call,
)
from tvix_store.blob import BlobService, ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo, PathInfoService, PathMetadata
from tvix_store_guard.shared_calls import SharedCalls

__all__ = ["SingleflightBlobService", "SingleflightDirectoryService", "SingleflightPathInfoService"]

T = TypeVar("T")


class _Forgetting(Around):
    """After everything that may have changed what is stored, lookups that began before are not shared any more.

    Otherwise somebody whose put has returned could be told that the object is absent.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        self._forget = forget

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        if call.access is Access.READ:
            return await operation()
        try:
            return await operation()
        finally:
            self._forget()


class SingleflightBlobService(AroundBlobService):
    """A blob service that is asked once for what several want at the same time. Streams are not shared.

    Args:
        inner: The service; not closed with this.
    """

    def __init__(self, inner: BlobService) -> None:
        super().__init__(inner, _Forgetting(self._forget))
        self._presence: SharedCalls[B3Digest, bool] = SharedCalls(str)
        self._chunks: SharedCalls[B3Digest, Sequence[ChunkMeta] | None] = SharedCalls(str)
        self._contents: SharedCalls[tuple[B3Digest, int], bytes | None] = SharedCalls(lambda key: str(key[0]))

    def _forget(self) -> None:
        self._presence.forget()
        self._chunks.forget()
        self._contents.forget()

    async def has(self, digest: B3Digest) -> bool:
        return await self._presence.one(digest, lambda: self.inner.has(digest))

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        return await self._chunks.one(digest, lambda: self.inner.chunks(digest))

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return await self._presence.many(digests, self.inner.has_many)

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        async def ask(keys: Sequence[tuple[B3Digest, int]]) -> Sequence[bytes | None]:
            return await self.inner.get_many([digest for digest, _ in keys], max_blob_bytes=max_blob_bytes)

        return await self._contents.many([(digest, max_blob_bytes) for digest in digests], ask)

    async def aclose(self) -> None:
        await self._presence.aclose()
        await self._chunks.aclose()
        await self._contents.aclose()


class SingleflightDirectoryService(AroundDirectoryService):
    """A directory service that is asked once for what several want at the same time. Trees are not shared.

    Args:
        inner: The service; not closed with this.
    """

    def __init__(self, inner: DirectoryService) -> None:
        self._directories: SharedCalls[B3Digest, Directory | None] = SharedCalls(str)
        super().__init__(inner, _Forgetting(self._directories.forget))

    async def get(self, digest: B3Digest) -> Directory | None:
        return await self._directories.one(digest, lambda: self.inner.get(digest))

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        return await self._directories.many(digests, self.inner.get_many)

    async def aclose(self) -> None:
        await self._directories.aclose()


class SingleflightPathInfoService(AroundPathInfoService):
    """A path info service that is asked once for what several want at the same time. NARs are not shared.

    Args:
        inner: The service; not closed with this.
    """

    def __init__(self, inner: PathInfoService) -> None:
        super().__init__(inner, _Forgetting(self._forget))
        self._path_infos: SharedCalls[bytes, PathInfo | None] = SharedCalls(bytes.hex)
        self._metadata: SharedCalls[bytes, PathMetadata | None] = SharedCalls(bytes.hex)

    def _forget(self) -> None:
        self._path_infos.forget()
        self._metadata.forget()

    async def get(self, digest: bytes) -> PathInfo | None:
        return await self._path_infos.one(digest, lambda: self.inner.get(digest))

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return await self._metadata.one(digest, lambda: self.inner.get_metadata(digest))

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        return await self._path_infos.many(digests, self.inner.get_many)

    async def aclose(self) -> None:
        await self._path_infos.aclose()
        await self._metadata.aclose()
