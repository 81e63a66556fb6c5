"""The ``fallback`` tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

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
from tvix_store.path_info import PathInfoService
from tvix_store_spread.capabilities import fallback_capabilities
from tvix_store_spread.members import known, labels, refuse_repetition

__all__ = ["FallbackBlobServiceConfig", "FallbackDirectoryServiceConfig", "FallbackPathInfoServiceConfig"]

_SERVICES = Field(min_length=1, description="Asked in this order; puts go to the first that takes any.")


class _FallbackConfig(EntryConfig):
    type: Literal["fallback"]
    services: list[str]
    skip_errors: bool = Field(
        default=False, description="Whether to ask the next one, too, where one fails instead of answering."
    )

    @field_validator("services")
    @classmethod
    def _each_once(cls, services: list[str]) -> list[str]:
        return [*refuse_repetition(services)]

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        members = known(inner, [f"services[{i}]" for i in range(len(self.services))])
        return None if members is None else fallback_capabilities(members)

    @property
    def reads_in_order(self) -> bool:
        return True

    @property
    def _labels(self) -> Sequence[str]:
        return labels("services", self.services)


class FallbackBlobServiceConfig(_FallbackConfig, BlobServiceConfig):
    """Blobs of the first of several services that has them."""

    services: list[BlobServiceRef] = _SERVICES

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_spread.fallback import FallbackBlobService

        members = [await context.blob_service(service) for service in self.services]
        return FallbackBlobService(name, dict(zip(self._labels, members, strict=True)), skips_errors=self.skip_errors)


class FallbackDirectoryServiceConfig(_FallbackConfig, DirectoryServiceConfig):
    """Directories of the first of several services that has them."""

    services: list[DirectoryServiceRef] = _SERVICES

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_spread.fallback import FallbackDirectoryService

        members = [await context.directory_service(service) for service in self.services]
        return FallbackDirectoryService(
            name, dict(zip(self._labels, members, strict=True)), skips_errors=self.skip_errors
        )


class FallbackPathInfoServiceConfig(_FallbackConfig, PathInfoServiceConfig):
    """Path infos of the first of several services that has them."""

    services: list[PathInfoServiceRef] = _SERVICES

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_spread.fallback import FallbackPathInfoService

        members = [await context.path_info_service(service) for service in self.services]
        return FallbackPathInfoService(
            name, dict(zip(self._labels, members, strict=True)), skips_errors=self.skip_errors
        )
