"""The ``observe`` tag: counts, times and traces what goes through a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.config import (
    BlobServiceConfig,
    BlobServiceRef,
    Context,
    DirectoryServiceConfig,
    DirectoryServiceRef,
    EntryConfig,
    Kind,
    PathInfoServiceConfig,
    PathInfoServiceRef,
)
from tvix_store.directory import DirectoryService
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService

__all__ = ["ObserveBlobServiceConfig", "ObserveDirectoryServiceConfig", "ObservePathInfoServiceConfig"]


class _ObserveConfig(EntryConfig):
    type: Literal["observe"]
    name: str | None = Field(
        default=None, min_length=1, description="The label `entry` of the metrics; unset: the name of this entry."
    )

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return inner["inner"]


class ObserveBlobServiceConfig(_ObserveConfig, BlobServiceConfig):
    """Counts, times and traces what goes through ``inner``."""

    inner: BlobServiceRef = Field(description="What is observed.")

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store.telemetry_observer import ObservedBlobService, Observer

        inner = await context.blob_service(self.inner)
        return ObservedBlobService(inner, Observer(self.name or name, Kind.BLOB))


class ObserveDirectoryServiceConfig(_ObserveConfig, DirectoryServiceConfig):
    """Counts, times and traces what goes through ``inner``."""

    inner: DirectoryServiceRef = Field(description="What is observed.")

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store.telemetry_observer import ObservedDirectoryService, Observer

        inner = await context.directory_service(self.inner)
        return ObservedDirectoryService(inner, Observer(self.name or name, Kind.DIRECTORY))


class ObservePathInfoServiceConfig(_ObserveConfig, PathInfoServiceConfig):
    """Counts, times and traces what goes through ``inner``."""

    inner: PathInfoServiceRef = Field(description="What is observed.")

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store.telemetry_observer import ObservedPathInfoService, Observer

        inner = await context.path_info_service(self.inner)
        return ObservedPathInfoService(inner, Observer(self.name or name, Kind.PATH_INFO))


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """The observer of blobs."""
    return [ObserveBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """The observer of directories."""
    return [ObserveDirectoryServiceConfig]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """The observer of path infos."""
    return [ObservePathInfoServiceConfig]
