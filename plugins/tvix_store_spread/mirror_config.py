"""The ``mirror`` tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

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
from tvix_store_spread.capabilities import mirror_capabilities
from tvix_store_spread.members import known, labels, refuse_repetition, without_puts

__all__ = ["MirrorBlobServiceConfig", "MirrorDirectoryServiceConfig", "MirrorPathInfoServiceConfig"]

_REPLICAS = Field(min_length=1, description="All are written to; each can answer.")


class _MirrorConfig(EntryConfig):
    needs_different_stores = True

    type: Literal["mirror"]
    replicas: list[str]
    min_writes: int | None = Field(
        default=None, ge=1, description="How many replicas have to take a put; all of them if not given."
    )
    spread_reads: Literal["first", "round-robin", "by-digest"] = Field(
        default="by-digest", description="Which replica is asked first."
    )
    repair: bool = Field(default=True, description="Whether what one replica lacks is put there from another.")

    @field_validator("replicas")
    @classmethod
    def _each_once(cls, replicas: list[str]) -> list[str]:
        return [*refuse_repetition(replicas)]

    @model_validator(mode="after")
    def _enough_replicas(self) -> Self:
        if self.min_writes is not None and self.min_writes > len(self.replicas):
            raise ValueError(f"min_writes: there are only {len(self.replicas)} replicas")
        return self

    @property
    def n_writes(self) -> int:
        """How many replicas have to take a put."""
        return self.min_writes or len(self.replicas)

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        members = known(inner, [f"replicas[{i}]" for i in range(len(self.replicas))])
        return None if members is None else mirror_capabilities(members, self.n_writes)

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        yield from without_puts(inner, [f"replicas[{i}]" for i in range(len(self.replicas))])

    @property
    def reads_in_order(self) -> bool:
        return self.spread_reads == "first"

    @property
    def _labels(self) -> Sequence[str]:
        return labels("replicas", self.replicas)


class MirrorBlobServiceConfig(_MirrorConfig, BlobServiceConfig):
    """The same blobs in several services."""

    replicas: list[BlobServiceRef] = _REPLICAS

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_spread.mirror import MirrorOptions, SpreadReads
        from tvix_store_spread.mirror_blob import MirrorBlobService

        members = [await context.blob_service(replica) for replica in self.replicas]
        options = MirrorOptions(self.n_writes, SpreadReads(self.spread_reads), self.repair)
        return MirrorBlobService(name, dict(zip(self._labels, members, strict=True)), options)


class MirrorDirectoryServiceConfig(_MirrorConfig, DirectoryServiceConfig):
    """The same directories in several services."""

    replicas: list[DirectoryServiceRef] = _REPLICAS

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_spread.mirror import MirrorOptions, SpreadReads
        from tvix_store_spread.mirror_directory import MirrorDirectoryService

        members = [await context.directory_service(replica) for replica in self.replicas]
        options = MirrorOptions(self.n_writes, SpreadReads(self.spread_reads), self.repair)
        return MirrorDirectoryService(name, dict(zip(self._labels, members, strict=True)), options)


class MirrorPathInfoServiceConfig(_MirrorConfig, PathInfoServiceConfig):
    """The same path infos in several services."""

    replicas: list[PathInfoServiceRef] = _REPLICAS

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_spread.mirror import MirrorOptions, SpreadReads
        from tvix_store_spread.mirror_path_info import MirrorPathInfoService

        members = [await context.path_info_service(replica) for replica in self.replicas]
        options = MirrorOptions(self.n_writes, SpreadReads(self.spread_reads), self.repair)
        return MirrorPathInfoService(name, dict(zip(self._labels, members, strict=True)), options)
