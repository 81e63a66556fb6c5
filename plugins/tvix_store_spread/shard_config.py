"""The ``shard`` tag."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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
from tvix_store.errors import ConfigError
from tvix_store.path_info import PathInfoService
from tvix_store_spread.capabilities import shard_capabilities
from tvix_store_spread.members import known, refuse_repetition, without_puts

__all__ = ["ShardBlobServiceConfig", "ShardDirectoryServiceConfig", "ShardPathInfoServiceConfig"]

_SHARDS = Field(
    min_length=1,
    description="Services by shard. The names of the shards decide what belongs where; the services may change.",
)


class _ShardConfig(EntryConfig):
    needs_different_stores = True

    type: Literal["shard"]
    shards: dict[str, str]
    weights: dict[str, Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="How much belongs to a shard, beside others; 1 where none is given."
    )

    @model_validator(mode="after")
    def _shards_are_told_apart(self) -> Self:
        refuse_repetition([*self.shards.values()])
        if unknown := [name for name in self.weights if name not in self.shards]:
            raise ValueError(f"weights: there is no shard {unknown[0]!r}")
        return self

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        members = known(inner, [f"shards.{name}" for name in self.shards])
        return None if members is None else shard_capabilities(members)

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        keys = [f"shards.{name}" for name in self.shards]
        takers = [key for key in keys if (found := inner.get(key)) is not None and found.put]
        if takers:  # otherwise it may be meant for reading alone
            yield from without_puts(inner, keys)


class ShardBlobServiceConfig(_ShardConfig, BlobServiceConfig):
    """Each blob in one of several services."""

    shards: dict[str, BlobServiceRef] = _SHARDS
    spool_dir: str = Field(
        default="/var/tmp", description="Where blobs above 1 MiB are until their digest, and so their shard, is known."
    )

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_spread.shard_blob import ShardBlobService

        if not await asyncio.to_thread(Path(self.spool_dir).is_dir):
            raise ConfigError(f"spool_dir {self.spool_dir} is no folder")
        members = {shard: await context.blob_service(service) for shard, service in self.shards.items()}
        return ShardBlobService(name, members, self.weights, self.spool_dir)


class ShardDirectoryServiceConfig(_ShardConfig, DirectoryServiceConfig):
    """Each directory in one of several services."""

    shards: dict[str, DirectoryServiceRef] = _SHARDS

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_spread.shard_directory import ShardDirectoryService

        members = {shard: await context.directory_service(service) for shard, service in self.shards.items()}
        return ShardDirectoryService(name, members, self.weights)


class ShardPathInfoServiceConfig(_ShardConfig, PathInfoServiceConfig):
    """Each path info in one of several services."""

    shards: dict[str, PathInfoServiceRef] = _SHARDS

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_spread.shard_path_info import ShardPathInfoService

        members = {shard: await context.path_info_service(service) for shard, service in self.shards.items()}
        return ShardPathInfoService(name, members, self.weights)
