"""What the entries have in common that do something around each call to one service."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # loaded when it is used
    from tvix_store.around import Around

__all__ = ["INNER", "AroundBlobConfig", "AroundConfig", "AroundDirectoryConfig", "AroundPathInfoConfig", "GuardConfig"]

INNER = "The service that is asked."


class GuardConfig(EntryConfig):
    """An entry that can do what its inner service can."""

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return inner.get("inner")


class AroundConfig(GuardConfig):
    """An entry that does something around each call."""

    @abstractmethod
    def around(self, name: str) -> Around:
        """What it does.

        Args:
            name: Of the entry.
        """


class AroundBlobConfig(AroundConfig, BlobServiceConfig):
    """Something around each call to a blob service."""

    inner: BlobServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store.around import AroundBlobService

        return AroundBlobService(await context.blob_service(self.inner), self.around(name))


class AroundDirectoryConfig(AroundConfig, DirectoryServiceConfig):
    """Something around each call to a directory service."""

    inner: DirectoryServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store.around import AroundDirectoryService

        return AroundDirectoryService(await context.directory_service(self.inner), self.around(name))


class AroundPathInfoConfig(AroundConfig, PathInfoServiceConfig):
    """Something around each call to a path info service."""

    inner: PathInfoServiceRef = Field(description=INNER)

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store.around import AroundPathInfoService

        return AroundPathInfoService(await context.path_info_service(self.inner), self.around(name))
