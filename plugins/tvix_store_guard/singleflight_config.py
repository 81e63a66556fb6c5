"""The ``singleflight`` tag: those who ask for the same at the same time share one call."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tvix_store.blob import BlobService
from tvix_store.config import (
    BlobServiceConfig,
    BlobServiceRef,
    Context,
    DirectoryServiceConfig,
    DirectoryServiceRef,
    PathInfoServiceConfig,
    PathInfoServiceRef,
)
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store_guard.around_config import INNER, GuardConfig

__all__ = ["SingleflightBlobServiceConfig", "SingleflightDirectoryServiceConfig", "SingleflightPathInfoServiceConfig"]


class SingleflightBlobServiceConfig(GuardConfig, BlobServiceConfig):
    """Asks a blob service once for what several want at the same time."""

    type: Literal["singleflight"]
    inner: BlobServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_guard.singleflight import SingleflightBlobService

        return SingleflightBlobService(await context.blob_service(self.inner))


class SingleflightDirectoryServiceConfig(GuardConfig, DirectoryServiceConfig):
    """Asks a directory service once for what several want at the same time."""

    type: Literal["singleflight"]
    inner: DirectoryServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_guard.singleflight import SingleflightDirectoryService

        return SingleflightDirectoryService(await context.directory_service(self.inner))


class SingleflightPathInfoServiceConfig(GuardConfig, PathInfoServiceConfig):
    """Asks a path info service once for what several want at the same time."""

    type: Literal["singleflight"]
    inner: PathInfoServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_guard.singleflight import SingleflightPathInfoService

        return SingleflightPathInfoService(await context.path_info_service(self.inner))
