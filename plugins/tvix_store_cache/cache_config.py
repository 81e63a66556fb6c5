"""The ``cache`` and ``combined`` tags: what is near, else what is far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

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
    from tvix_store_cache.sides import CachePolicy

__all__ = [
    "CacheBlobServiceConfig",
    "CacheDirectoryServiceConfig",
    "CachePathInfoServiceConfig",
    "CombinedBlobServiceConfig",
    "CombinedDirectoryServiceConfig",
    "CombinedPathInfoServiceConfig",
]

WriteToName = Literal["near", "far", "both"]

NEAR = Field(description="Asked first, and filled.")
FAR = Field(description="Asked for what is not near.")


def _capabilities(inner: Mapping[str, Capabilities | None], write: WriteToName) -> Capabilities | None:
    from tvix_store_cache.sides import WriteTo, capabilities_of

    near, far = inner["near"], inner["far"]
    return None if near is None or far is None else capabilities_of(near, far, WriteTo(write))


class _CacheConfig(QueryUrlConfig):
    type: Literal["cache"]
    write: Annotated[WriteToName, Field(description="Where puts go.")] = "near"
    negative_ttl_s: Annotated[
        float,
        Field(
            ge=0,
            le=86_400,
            description="For how long what far lacked is not asked for again, in seconds; 0: not at all.",
        ),
    ] = 0.0
    skip_near_errors: Annotated[
        bool,
        Field(description="Whether far answers, and near is not filled, while near is unavailable or full."),
    ] = False

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return _capabilities(inner, self.write)

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        near, far = inner["near"], inner["far"]
        if near is not None and not near.put:
            yield "near", "it does not take puts, so it cannot be filled"
        if far is not None and not far.put and self.write != "near":
            yield "far", f'it does not take puts, which write = "{self.write}" sends there'

    @property
    def is_shared_between_processes(self) -> bool:
        return not self.negative_ttl_s or self.write == "near"  # what others put far is near of nobody else

    def _policy(self) -> CachePolicy:
        from tvix_store_cache.sides import CachePolicy, WriteTo

        return CachePolicy(
            write_to=WriteTo(self.write),
            negative_ttl_s=self.negative_ttl_s,
            skip_near_errors=self.skip_near_errors,
        )


class _CombinedConfig(QueryUrlConfig):
    type: Literal["combined"]

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        """Take the names that tvix gives to the two sides."""
        if not isinstance(data, dict):
            return data
        names = {"local": "near", "remote": "far"}
        return {names[key] if key in names and names[key] not in data else key: value for key, value in data.items()}

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return _capabilities(inner, "near")

    def _policy(self) -> CachePolicy:
        from tvix_store_cache.sides import CachePolicy

        return CachePolicy(fills=False)


class CacheBlobServiceConfig(_CacheConfig, BlobServiceConfig):
    """Reads blobs through ``near``; what it lacks is taken from ``far`` and kept."""

    near: Annotated[BlobServiceRef, NEAR]
    far: Annotated[BlobServiceRef, FAR]

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_cache.blob import CacheBlobService

        near, far = await context.blob_service(self.near), await context.blob_service(self.far)
        return CacheBlobService(name, near, far, self._policy())


class CacheDirectoryServiceConfig(_CacheConfig, DirectoryServiceConfig):
    """Reads directories through ``near``; what it lacks is taken from ``far`` and kept."""

    near: Annotated[DirectoryServiceRef, NEAR]
    far: Annotated[DirectoryServiceRef, FAR]

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_cache.directory import CacheDirectoryService

        near, far = await context.directory_service(self.near), await context.directory_service(self.far)
        return CacheDirectoryService(name, near, far, self._policy())


class CachePathInfoServiceConfig(_CacheConfig, PathInfoServiceConfig):
    """Reads path infos through ``near``; what it lacks is taken from ``far`` and kept."""

    near: Annotated[PathInfoServiceRef, NEAR]
    far: Annotated[PathInfoServiceRef, FAR]

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_cache.path_info import CachePathInfoService

        near, far = await context.path_info_service(self.near), await context.path_info_service(self.far)
        return CachePathInfoService(name, near, far, self._policy())


class CombinedBlobServiceConfig(_CombinedConfig, BlobServiceConfig):
    """Reads blobs from ``near``, else from ``far``, and keeps nothing; puts go to ``near``."""

    near: Annotated[BlobServiceRef, Field(description="Asked first; puts go there. Also called local.")]
    far: Annotated[BlobServiceRef, Field(description="Asked for what is not near. Also called remote.")]

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_cache.blob import CacheBlobService

        near, far = await context.blob_service(self.near), await context.blob_service(self.far)
        return CacheBlobService(name, near, far, self._policy())


class CombinedDirectoryServiceConfig(_CombinedConfig, DirectoryServiceConfig):
    """Reads directories from ``near``, else from ``far``, and keeps nothing; puts go to ``near``."""

    near: Annotated[DirectoryServiceRef, Field(description="Asked first; puts go there. Also called local.")]
    far: Annotated[DirectoryServiceRef, Field(description="Asked for what is not near. Also called remote.")]

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_cache.directory import CacheDirectoryService

        near, far = await context.directory_service(self.near), await context.directory_service(self.far)
        return CacheDirectoryService(name, near, far, self._policy())


class CombinedPathInfoServiceConfig(_CombinedConfig, PathInfoServiceConfig):
    """Reads path infos from ``near``, else from ``far``, and keeps nothing; puts go to ``near``."""

    near: Annotated[PathInfoServiceRef, Field(description="Asked first; puts go there. Also called local.")]
    far: Annotated[PathInfoServiceRef, Field(description="Asked for what is not near. Also called remote.")]

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_cache.path_info import CachePathInfoService

        near, far = await context.path_info_service(self.near), await context.path_info_service(self.far)
        return CachePathInfoService(name, near, far, self._policy())
