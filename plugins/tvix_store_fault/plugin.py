"""The ``fault`` tag: a service that fails on purpose, to see what becomes of what is around it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

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
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService

if TYPE_CHECKING:
    from tvix_store_fault.faults import Faults

__all__ = ["FaultBlobServiceConfig", "FaultDirectoryServiceConfig", "FaultPathInfoServiceConfig"]

logger = logging.getLogger(__name__)

_ALL = frozenset({"get_many", "put_many", "list", "delete", "discard_corrupt", "stats", "verify"})


class _FaultConfig(EntryConfig):
    type: Literal["fault"]
    seed: int = Field(default=0, description="What the dice begin with: the same calls then fail in the same way.")
    error_rate: float = Field(default=0.0, ge=0, le=1, description="Calls that are not made, but fail.")
    error_after_rate: float = Field(default=0.0, ge=0, le=1, description="Calls that are made, and then fail.")
    out_of_space_rate: float = Field(default=0.0, ge=0, le=1, description="Calls that write and find no space.")
    hang_rate: float = Field(default=0.0, ge=0, le=1, description="Calls that wait until they are cancelled.")
    latency_s: float = Field(default=0.0, ge=0, description="How late each call begins, in seconds.")
    max_latency_s: float = Field(
        default=0.0, ge=0, description="If more than latency_s: each call begins at random that late, or less late."
    )
    methods: list[str] = Field(
        default=[], description="The only calls that fail, such as get_many or reader.read; empty: all."
    )

    METHODS: ClassVar[frozenset[str]] = _ALL

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, methods: list[str]) -> list[str]:
        if unknown := sorted(set(methods) - cls.METHODS):
            raise ValueError(f"there is no method {unknown[0]!r}; there are: {', '.join(sorted(cls.METHODS))}")
        return methods

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        given = inner["inner"]
        return None if given is None else replace(given, verifies=False)

    def faults(self, name: str) -> Faults:
        """What goes wrong, as the keys say."""
        from tvix_store_fault.faults import FaultRates, Faults

        keys = FaultRates.__dataclass_fields__.keys() & type(self).model_fields.keys()
        rates = FaultRates(**{key: getattr(self, key) for key in keys})
        stated = ", ".join(f"{key} = {getattr(self, key):g}" for key in sorted(keys) if getattr(self, key))
        logger.warning("%s fails on purpose, seed = %d: %s", name, self.seed, stated or "not yet")
        return Faults(name, self.seed, rates, self.methods)


class FaultBlobServiceConfig(_FaultConfig, BlobServiceConfig):
    """Blobs of ``inner``, with calls that fail, wait, or give something else, as often as is said here."""

    inner: BlobServiceRef = Field(description="Whose calls go wrong.")
    short_read_rate: float = Field(
        default=0.0, ge=0, le=1, description="Reads that give less than asked for; half of them fail at the next read."
    )
    truncate_rate: float = Field(default=0.0, ge=0, le=1, description="Reads at which a blob ends too early.")
    corrupt_rate: float = Field(default=0.0, ge=0, le=1, description="Reads that give a blob with a bit flipped.")

    METHODS: ClassVar[frozenset[str]] = _ALL | {
        "has", "has_many", "open_read", "reader.read", "reader.seek", "open_write", "writer.write", "writer.close",
        "chunks", "compact", "sync",
    }  # fmt: skip

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_fault.blob import FaultBlobService

        return FaultBlobService(await context.blob_service(self.inner), self.faults(name))


class FaultDirectoryServiceConfig(_FaultConfig, DirectoryServiceConfig):
    """Directories of ``inner``, with calls that fail or wait as often as is said here."""

    inner: DirectoryServiceRef = Field(description="Whose calls go wrong.")

    METHODS: ClassVar[frozenset[str]] = _ALL | {
        "get", "put", "get_recursive", "put_multiple_start", "putter.put_many", "putter.close", "sync",
    }  # fmt: skip

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_fault.directory import FaultDirectoryService

        return FaultDirectoryService(await context.directory_service(self.inner), self.faults(name))


class FaultPathInfoServiceConfig(_FaultConfig, PathInfoServiceConfig):
    """Path infos of ``inner``, with calls that fail or wait as often as is said here."""

    inner: PathInfoServiceRef = Field(description="Whose calls go wrong.")

    METHODS: ClassVar[frozenset[str]] = _ALL | {"get", "put", "get_metadata", "open_nar"}

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_fault.path_info import FaultPathInfoService

        return FaultPathInfoService(await context.path_info_service(self.inner), self.faults(name))


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [FaultBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [FaultDirectoryServiceConfig]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [FaultPathInfoServiceConfig]
