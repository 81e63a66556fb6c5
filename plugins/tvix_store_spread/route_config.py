"""The ``route`` tag: the keys that are given say what decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Self

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
from tvix_store.limits import KIB, SMALL_BLOB_BYTES
from tvix_store.path_info import PathInfoService
from tvix_store_spread.capabilities import part_capabilities, read_write_capabilities
from tvix_store_spread.members import known, without_puts

__all__ = ["RouteBlobServiceConfig", "RouteDirectoryServiceConfig", "RoutePathInfoServiceConfig"]

_READ = "Asked for everything, listed and verified; with `write`."
_WRITE = "Put to and deleted from; with `read`."


class _RouteConfig(EntryConfig):
    type: Literal["route"]

    def _either(self, *ways: tuple[str, ...]) -> tuple[str, ...]:
        """The keys of the one way that is given, all of them.

        Raises:
            ValueError: They are not, or there are others.
        """
        given = {key for way in ways for key in way if getattr(self, key) is not None}
        for way in ways:
            if given == set(way):
                return way
        raise ValueError(f"give {', or '.join(' and '.join(way) for way in ways)}")

    def _read_write(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        members = known(inner, ["read", "write"])
        return None if members is None else read_write_capabilities(*members)


class RouteBlobServiceConfig(_RouteConfig, BlobServiceConfig):
    """Blobs in one of two services, by their size; or reads of one and writes to the other."""

    small: BlobServiceRef | None = Field(default=None, description="Takes small blobs, asked first; with `large`.")
    large: BlobServiceRef | None = Field(default=None, description="Takes the others; with `small`.")
    max_small_bytes: int = Field(
        default=64 * KIB,
        ge=0,
        le=SMALL_BLOB_BYTES,
        description="The longest blob that is small. So much of each blob that is written is held in memory.",
    )
    read: BlobServiceRef | None = Field(default=None, description=_READ)
    write: BlobServiceRef | None = Field(default=None, description=_WRITE)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        way = self._either(("small", "large"), ("read", "write"))
        if "read" in way and self.max_small_bytes != 64 * KIB:  # said or not: `config show` says the default
            raise ValueError("max_small_bytes: it goes with small and large")
        if self.small is not None and self.small == self.large and "://" not in self.small:
            raise ValueError("small and large are the same service")
        return self

    @property
    def reads_in_order(self) -> bool:
        return self.read is None

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        if self.read is not None:
            return self._read_write(inner)
        members = known(inner, ["small", "large"])
        return None if members is None else part_capabilities(members)

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        yield from without_puts(inner, ["small", "large", "write"])

    async def build(self, name: str, context: Context) -> BlobService:
        if self.read is not None and self.write is not None:
            from tvix_store_spread.route import ReadWriteBlobService

            return ReadWriteBlobService(await context.blob_service(self.read), await context.blob_service(self.write))
        from tvix_store_spread.route_blob import SizeRouteBlobService

        assert self.small is not None
        assert self.large is not None
        small, large = await context.blob_service(self.small), await context.blob_service(self.large)
        return SizeRouteBlobService(name, small, large, self.max_small_bytes)


class RouteDirectoryServiceConfig(_RouteConfig, DirectoryServiceConfig):
    """Reads of one directory service, writes to another one."""

    read: DirectoryServiceRef = Field(description=_READ)
    write: DirectoryServiceRef = Field(description=_WRITE)

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return self._read_write(inner)

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        yield from without_puts(inner, ["write"])

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_spread.route import ReadWriteDirectoryService

        read, write = await context.directory_service(self.read), await context.directory_service(self.write)
        return ReadWriteDirectoryService(read, write)


class RoutePathInfoServiceConfig(_RouteConfig, PathInfoServiceConfig):
    """Path infos in one of several services, by their names; or reads of one and writes to the other."""

    patterns: dict[str, PathInfoServiceRef] | None = Field(
        default=None,
        min_length=1,
        description="Services by pattern, as of file names; the first that matches the name of a path counts.",
    )
    default: PathInfoServiceRef | None = Field(default=None, description="Takes the others; with `patterns`.")
    read: PathInfoServiceRef | None = Field(default=None, description=_READ)
    write: PathInfoServiceRef | None = Field(default=None, description=_WRITE)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        self._either(("patterns", "default"), ("read", "write"))
        return self

    @property
    def _pattern_keys(self) -> Sequence[str]:
        return [*(f"patterns.{pattern}" for pattern in self.patterns or ()), "default"]

    @property
    def reads_in_order(self) -> bool:
        return self.read is None

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        if self.read is not None:
            return self._read_write(inner)
        members = known(inner, self._pattern_keys)
        return None if members is None else part_capabilities(members)

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        yield from without_puts(inner, [*self._pattern_keys, "write"])

    async def build(self, name: str, context: Context) -> PathInfoService:
        if self.read is not None and self.write is not None:
            from tvix_store_spread.route import ReadWritePathInfoService

            read, write = await context.path_info_service(self.read), await context.path_info_service(self.write)
            return ReadWritePathInfoService(read, write)
        from tvix_store_spread.route_path_info import PatternRoutePathInfoService

        assert self.patterns is not None
        assert self.default is not None
        members = {pattern: await context.path_info_service(service) for pattern, service in self.patterns.items()}
        return PatternRoutePathInfoService(name, members, await context.path_info_service(self.default))
