"""The ``audit`` tag: what the entry point names. Imports what it needs to be listed, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService

if TYPE_CHECKING:
    from tvix_store_audit.log import Audit

__all__ = ["AuditBlobServiceConfig", "AuditDirectoryServiceConfig", "AuditPathInfoServiceConfig"]

_INNER = "The service whose puts and deletions are written down."


class _AuditConfig(EntryConfig):
    type: Literal["audit"]
    path: str = Field(min_length=1, description="The file that lines are appended to; entries may have it in common.")
    who: str | None = Field(
        default=None, min_length=1, description="Whom the lines name; unset: the user that the program runs as."
    )

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return inner["inner"]

    async def _audit(self, name: str, context: Context) -> Audit:
        from tvix_store_audit.log import Audit, AuditLog  # loaded when it is used

        path = Path(self.path)
        log = await context.shared(("audit", path), lambda: AuditLog.open(path))
        return Audit(log, name, self.who)


class AuditBlobServiceConfig(_AuditConfig, BlobServiceConfig):
    """Write down what blobs are put and deleted."""

    inner: BlobServiceRef = Field(description=_INNER)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_audit.blob import AuditBlobService

        inner = await context.blob_service(self.inner)
        return AuditBlobService(inner, await self._audit(name, context))


class AuditDirectoryServiceConfig(_AuditConfig, DirectoryServiceConfig):
    """Write down what directories are put and deleted."""

    inner: DirectoryServiceRef = Field(description=_INNER)

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_audit.directory import AuditDirectoryService

        inner = await context.directory_service(self.inner)
        return AuditDirectoryService(inner, await self._audit(name, context))


class AuditPathInfoServiceConfig(_AuditConfig, PathInfoServiceConfig):
    """Write down what path infos are put and deleted."""

    inner: PathInfoServiceRef = Field(description=_INNER)

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_audit.path_info import AuditPathInfoService

        inner = await context.path_info_service(self.inner)
        return AuditPathInfoService(inner, await self._audit(name, context))


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [AuditBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [AuditDirectoryServiceConfig]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [AuditPathInfoServiceConfig]
