"""The ``verify`` tag: what is stored and read is looked at once more, and what is corrupt is replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Self

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
from tvix_store.limits import MIB
from tvix_store.path_info import PathInfoService
from tvix_store_guard.around_config import INNER, GuardConfig

if TYPE_CHECKING:
    from tvix_store_guard.quarantine import Quarantine

__all__ = ["VerifyBlobServiceConfig", "VerifyDirectoryServiceConfig", "VerifyPathInfoServiceConfig"]

_REFETCH = "Where a sound copy is got from; without it, what is corrupt stays an error."


class _VerifyConfig(GuardConfig):
    on_put: bool = Field(default=True, description="Whether what was put is read back and compared.")
    on_get: bool = Field(default=True, description="Whether what is read is checked, and replaced if it is corrupt.")
    quarantine: str | None = Field(
        default=None, min_length=1, description="A directory where what was found to be corrupt is written down."
    )
    quarantine_max_bytes: int = Field(
        default=16 * MIB, ge=4096, description="How long corrupt.jsonl there gets; there is one older file beside it."
    )

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.on_put and not self.on_get:
            raise ValueError("nothing is verified: on_put and on_get are both false")
        return self

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        known = inner.get("inner")
        if "refetch" in inner and known is not None and not known.put:
            yield "inner", "it does not take puts, so that nothing can be replaced by what refetch has"

    def opened_quarantine(self, name: str) -> Quarantine | None:
        """Where to write down what is corrupt, if anywhere."""
        from tvix_store_guard.quarantine import Quarantine

        return None if self.quarantine is None else Quarantine(name, self.quarantine, self.quarantine_max_bytes)


class VerifyBlobServiceConfig(_VerifyConfig, BlobServiceConfig):
    """Looks once more at what a blob service stores and gives, and replaces what is corrupt."""

    type: Literal["verify"]
    inner: BlobServiceRef = Field(description=INNER)
    refetch: BlobServiceRef | None = Field(default=None, description=_REFETCH)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_guard.verify_blob import VerifyBlobService

        return VerifyBlobService(
            name,
            await context.blob_service(self.inner),
            refetch=None if self.refetch is None else await context.blob_service(self.refetch),
            on_put=self.on_put,
            on_get=self.on_get,
            quarantine=self.opened_quarantine(name),
        )


class VerifyDirectoryServiceConfig(_VerifyConfig, DirectoryServiceConfig):
    """Looks once more at what a directory service stores and gives, and replaces what is corrupt."""

    type: Literal["verify"]
    inner: DirectoryServiceRef = Field(description=INNER)
    refetch: DirectoryServiceRef | None = Field(default=None, description=_REFETCH)

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_guard.verify_directory import VerifyDirectoryService

        return VerifyDirectoryService(
            name,
            await context.directory_service(self.inner),
            refetch=None if self.refetch is None else await context.directory_service(self.refetch),
            on_put=self.on_put,
            on_get=self.on_get,
            quarantine=self.opened_quarantine(name),
        )


class VerifyPathInfoServiceConfig(_VerifyConfig, PathInfoServiceConfig):
    """Looks once more at what a path info service stores and gives, and replaces what is corrupt."""

    type: Literal["verify"]
    inner: PathInfoServiceRef = Field(description=INNER)
    refetch: PathInfoServiceRef | None = Field(default=None, description=_REFETCH)

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_guard.verify_path_info import VerifyPathInfoService

        return VerifyPathInfoService(
            name,
            await context.path_info_service(self.inner),
            refetch=None if self.refetch is None else await context.path_info_service(self.refetch),
            on_put=self.on_put,
            on_get=self.on_get,
            quarantine=self.opened_quarantine(name),
        )
