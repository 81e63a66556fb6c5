"""The ``memory`` tag: a blob, a directory and a path info service without options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.config import (
    BlobServiceConfig,
    Context,
    DirectoryServiceConfig,
    EntryConfig,
    PathInfoServiceConfig,
    ServiceUrl,
)
from tvix_store.directory import DirectoryService
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService

__all__ = ["MemoryBlobServiceConfig", "MemoryDirectoryServiceConfig", "MemoryPathInfoServiceConfig"]


class _MemoryConfig(EntryConfig):
    type: Literal["memory"]

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        if url.transport or url.host or url.path:
            raise url.refuse("a memory service has neither host nor path, write memory://")
        return cls(type="memory")

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities:
        return Capabilities(list=True, delete=True)

    @property
    def is_shared_between_processes(self) -> bool:
        return False


class MemoryBlobServiceConfig(_MemoryConfig, BlobServiceConfig):
    """Blobs in memory, gone when the process ends."""

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_memory.blob import MemoryBlobService

        return MemoryBlobService()


class MemoryDirectoryServiceConfig(_MemoryConfig, DirectoryServiceConfig):
    """Directories in memory, gone when the process ends."""

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_memory.directory import MemoryDirectoryService

        return MemoryDirectoryService(name)


class MemoryPathInfoServiceConfig(_MemoryConfig, PathInfoServiceConfig):
    """Path infos in memory, gone when the process ends."""

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_memory.path_info import MemoryPathInfoService

        return MemoryPathInfoService(name)


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [MemoryBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [MemoryDirectoryServiceConfig]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [MemoryPathInfoServiceConfig]
