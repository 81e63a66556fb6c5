"""The ``sqlite`` tag: a blob, a directory and a path info service in a database file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.config import (
    BlobServiceConfig,
    Context,
    DirectoryServiceConfig,
    EntryConfig,
    PathInfoServiceConfig,
    ServiceUrl,
)
from tvix_store.directory import DirectoryService
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService

if TYPE_CHECKING:
    from tvix_store_sqlite.database import Database

__all__ = ["SqliteBlobServiceConfig", "SqliteDirectoryServiceConfig", "SqlitePathInfoServiceConfig"]

DurabilityName = Literal["commit", "batched", "none"]
_DURABILITIES: dict[str, DurabilityName] = {"commit": "commit", "batched": "batched", "none": "none"}
_MAX_READERS = 64


class _SqliteConfig(EntryConfig):
    type: Literal["sqlite"]
    path: Annotated[
        str | None,
        Field(description="The database file; made, with the directories above it, if there is none."),
    ] = None
    is_temporary: Annotated[
        bool,
        Field(description="Use a database of this service alone, in the place of a file; gone when it is closed."),
    ] = False
    durability: Annotated[
        DurabilityName,
        Field(description="What a put that returned survives: power loss, the end of the process, or nothing."),
    ] = "commit"
    max_readers: Annotated[int, Field(ge=1, le=_MAX_READERS, description="How many threads read at once.")] = 4

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        if self.is_temporary:
            if self.path is not None:
                raise ValueError("a temporary database has no path; leave out path or is_temporary")
        elif self.path is None:
            raise ValueError("path is missing; without one, say is_temporary = true")
        elif not self.path or "\0" in self.path or os.path.normpath(self.path) in ("/", "//"):
            raise ValueError(f"path {self.path!r} is no place for a database file")
        return self

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        form = "expected sqlite:///absolute/path?durability=commit&max_readers=4, or sqlite:// for a temporary one"
        if url.transport or url.host or url.parts.fragment:
            raise url.refuse(form)
        if url.path and (not url.path.startswith("/") or "\0" in url.path):
            raise url.refuse(f"the path is not absolute: {form}")
        if url.path and os.path.normpath(url.path) in ("/", "//"):
            raise url.refuse("/ is no place for a database file")
        query = url.query()
        durability = _DURABILITIES.get(query.pop("durability", "commit"))
        if durability is None:
            raise url.refuse("durability is commit, batched or none")
        readers = query.pop("max_readers", "4")
        if not (readers.isascii() and readers.isdigit() and 1 <= int(readers[:4]) <= _MAX_READERS):
            raise url.refuse(f"max_readers is a number from 1 to {_MAX_READERS}")
        if query:
            raise url.refuse(f"unknown parameter {next(iter(query))!r}: {form}")
        path = url.path or None
        return cls(
            type="sqlite",
            path=path,
            is_temporary=path is None,
            durability=durability,
            max_readers=int(readers),
        )

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities:
        durability = Durability.NONE if self.is_temporary else Durability(self.durability)
        return Capabilities(list=True, delete=True, durability=durability)

    @property
    def is_shared_between_processes(self) -> bool:
        return not self.is_temporary

    def _real_path(self) -> str | None:
        return None if self.path is None else os.path.realpath(self.path)

    async def _database(self, context: Context) -> Database:
        """The database; one for all entries of the composition that say the same about the same file."""
        from tvix_store_sqlite.database import Database

        path = self._real_path()
        durability = Durability(self.durability)
        key = ("tvix_store_sqlite", path or object(), durability, self.max_readers)

        async def open_() -> Database:
            return await Database.open(path, durability=durability, max_readers=self.max_readers)

        return await context.shared(key, open_)


class SqliteBlobServiceConfig(_SqliteConfig, BlobServiceConfig):
    """Blobs in a SQLite database; large ones cut into chunks that they share."""

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities:
        return replace(super().capabilities(inner), chunks=True)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_sqlite.blob import SqliteBlobService

        return SqliteBlobService(name, await self._database(context))


class SqliteDirectoryServiceConfig(_SqliteConfig, DirectoryServiceConfig):
    """Directories in a SQLite database."""

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_sqlite.directory import SqliteDirectoryService

        return SqliteDirectoryService(name, await self._database(context))


class SqlitePathInfoServiceConfig(_SqliteConfig, PathInfoServiceConfig):
    """Path infos in a SQLite database."""

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_sqlite.path_info import SqlitePathInfoService

        return SqlitePathInfoService(name, await self._database(context))


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [SqliteBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [SqliteDirectoryServiceConfig]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [SqlitePathInfoServiceConfig]
