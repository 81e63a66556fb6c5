"""The ``lru`` tag: what was used last, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.config import BlobServiceConfig, Context, DirectoryServiceConfig, PathInfoServiceConfig
from tvix_store.directory import DirectoryService
from tvix_store.limits import KIB, MIB
from tvix_store.path_info import PathInfoService
from tvix_store_cache.query_url import QueryUrlConfig

if TYPE_CHECKING:
    from tvix_store_cache.lru import Lru

__all__ = ["LruBlobServiceConfig", "LruDirectoryServiceConfig", "LruPathInfoServiceConfig"]


class _LruConfig(QueryUrlConfig):
    type: Literal["lru"]
    capacity: Annotated[
        int | None, Field(ge=1, description="How many objects are held at most; left out: as many as fit.")
    ] = None
    max_bytes: Annotated[
        int,
        Field(
            ge=64 * KIB,
            description="How many bytes are held at most, with 256 for each object. What is longer than a quarter of "
            "it is not held.",
        ),
    ] = 64 * MIB

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return Capabilities(list=True, delete=True)

    @property
    def is_shared_between_processes(self) -> bool:
        return False

    def _lru(self) -> Lru:
        from tvix_store_cache.lru import Lru

        return Lru(self.max_bytes, self.capacity)


class LruBlobServiceConfig(_LruConfig, BlobServiceConfig):
    """The blobs in memory that were used last. It forgets: for the near side of a cache."""

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_cache.lru_blob import LruBlobService

        return LruBlobService(self._lru())


class LruDirectoryServiceConfig(_LruConfig, DirectoryServiceConfig):
    """The directories in memory that were used last. It forgets: for the near side of a cache."""

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_cache.lru_directory import LruDirectoryService

        return LruDirectoryService(name, self._lru())


class LruPathInfoServiceConfig(_LruConfig, PathInfoServiceConfig):
    """The path infos in memory that were used last. It forgets: for the near side of a cache."""

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_cache.lru_path_info import LruPathInfoService

        return LruPathInfoService(name, self._lru())
