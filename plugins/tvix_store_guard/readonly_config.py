"""The ``readonly`` tag: a service that nothing is put into, or deleted from, through this entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    PathInfoServiceConfig,
    PathInfoServiceRef,
)
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store_guard.around_config import INNER

__all__ = ["ReadonlyBlobServiceConfig", "ReadonlyDirectoryServiceConfig", "ReadonlyPathInfoServiceConfig"]


class _ReadonlyConfig(EntryConfig):
    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        known = inner.get("inner")
        return None if known is None else replace(known, put=False, delete=False, compact=False)


class ReadonlyBlobServiceConfig(_ReadonlyConfig, BlobServiceConfig):
    """A blob service that only reads are let through to."""

    type: Literal["readonly"]
    inner: BlobServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_guard.readonly import ReadonlyBlobService

        return ReadonlyBlobService(name, await context.blob_service(self.inner))


class ReadonlyDirectoryServiceConfig(_ReadonlyConfig, DirectoryServiceConfig):
    """A directory service that only reads are let through to."""

    type: Literal["readonly"]
    inner: DirectoryServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_guard.readonly import ReadonlyDirectoryService

        return ReadonlyDirectoryService(name, await context.directory_service(self.inner))


class ReadonlyPathInfoServiceConfig(_ReadonlyConfig, PathInfoServiceConfig):
    """A path info service that only reads are let through to."""

    type: Literal["readonly"]
    inner: PathInfoServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_guard.readonly import ReadonlyPathInfoService

        return ReadonlyPathInfoService(name, await context.path_info_service(self.inner))
