"""The ``exists`` tag: what is there and what is not, remembered for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
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
from tvix_store_cache.query_url import QueryUrlConfig

if TYPE_CHECKING:
    from tvix_store_cache.answers import Answers

__all__ = ["ExistsBlobServiceConfig", "ExistsDirectoryServiceConfig", "ExistsPathInfoServiceConfig"]

MOST_S = 86_400


class _ExistsConfig(QueryUrlConfig):
    type: Literal["exists"]
    capacity: Annotated[
        int, Field(ge=1, description="How many objects are remembered at most, of those that are there and of others.")
    ] = 262_144
    negative_ttl_s: float

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return inner["inner"]

    @property
    def is_shared_between_processes(self) -> bool:
        return not self.negative_ttl_s

    def _answers(self, positive_ttl_s: float) -> Answers:
        from tvix_store_cache.answers import Answers
        from tvix_store_cache.remembered import Remembered

        return Answers(Remembered(positive_ttl_s, self.capacity), Remembered(self.negative_ttl_s, self.capacity))


class ExistsBlobServiceConfig(_ExistsConfig, BlobServiceConfig):
    """Remembers which blobs ``inner`` has, and which it lacks."""

    inner: Annotated[BlobServiceRef, Field(description="The service that is asked.")]
    positive_ttl_s: Annotated[
        float,
        Field(
            ge=0,
            le=MOST_S,
            description="For how long a blob is said to be there without asking again, in seconds. Somebody else may "
            "delete it meanwhile.",
        ),
    ] = 60.0
    negative_ttl_s: Annotated[
        float,
        Field(
            ge=0,
            le=MOST_S,
            description="For how long a blob is taken to be absent without asking again, in seconds. Somebody else may "
            "put it meanwhile.",
        ),
    ] = 0.0

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_cache.exists_blob import ExistsBlobService

        return ExistsBlobService(await context.blob_service(self.inner), self._answers(self.positive_ttl_s))


class ExistsDirectoryServiceConfig(_ExistsConfig, DirectoryServiceConfig):
    """Remembers which directories ``inner`` lacks."""

    inner: Annotated[DirectoryServiceRef, Field(description="The service that is asked.")]
    negative_ttl_s: Annotated[
        float,
        Field(
            gt=0,
            le=MOST_S,
            description="For how long a directory is taken to be absent without asking again, in seconds. Somebody "
            "else may put it meanwhile.",
        ),
    ]

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_cache.exists_directory import ExistsDirectoryService

        return ExistsDirectoryService(await context.directory_service(self.inner), self._answers(0))


class ExistsPathInfoServiceConfig(_ExistsConfig, PathInfoServiceConfig):
    """Remembers which path infos ``inner`` lacks."""

    inner: Annotated[PathInfoServiceRef, Field(description="The service that is asked.")]
    negative_ttl_s: Annotated[
        float,
        Field(
            gt=0,
            le=MOST_S,
            description="For how long a path info is taken to be absent without asking again, in seconds. Somebody "
            "else may put it meanwhile.",
        ),
    ]

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_cache.exists_path_info import ExistsPathInfoService

        return ExistsPathInfoService(await context.path_info_service(self.inner), self._answers(0))
