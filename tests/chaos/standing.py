"""A plugin whose services are objects that stand outside of the composition, as a store in another process would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tvix_store.blob import BlobService
from tvix_store.config import BlobServiceConfig, Context, DirectoryServiceConfig, EntryConfig, PathInfoServiceConfig
from tvix_store.directory import DirectoryService
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService, ForwardingPathInfoService
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

__all__ = ["clear"]

_blobs: dict[str, BlobService] = {}
_directories: dict[str, DirectoryService] = {}
_path_infos: dict[str, PathInfoService] = {}


def clear() -> None:
    """Begin with empty stores."""
    for services in (_blobs, _directories, _path_infos):
        services.clear()


class _StandingConfig(EntryConfig):
    type: Literal["standing"]
    at: str


class StandingBlobs(_StandingConfig, BlobServiceConfig):
    """Blobs that stay when the composition is closed."""

    async def build(self, name: str, context: Context) -> BlobService:
        return ForwardingBlobService(_blobs.setdefault(self.at, MemoryBlobService()))


class StandingDirectories(_StandingConfig, DirectoryServiceConfig):
    """Directories that stay when the composition is closed."""

    async def build(self, name: str, context: Context) -> DirectoryService:
        return ForwardingDirectoryService(_directories.setdefault(self.at, MemoryDirectoryService(self.at)))


class StandingPathInfos(_StandingConfig, PathInfoServiceConfig):
    """Path infos that stay when the composition is closed."""

    async def build(self, name: str, context: Context) -> PathInfoService:
        return ForwardingPathInfoService(_path_infos.setdefault(self.at, MemoryPathInfoService(self.at)))


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [StandingBlobs]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [StandingDirectories]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [StandingPathInfos]
