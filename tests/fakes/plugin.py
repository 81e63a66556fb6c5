"""A plugin whose services do nothing but tell when they are built and closed, and wait or fail when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import Field, SecretStr

from tvix_store.blob import BlobService
from tvix_store.config import (
    BlobServiceConfig,
    BlobServiceRef,
    Context,
    DirectoryServiceConfig,
    DirectoryServiceRef,
    EntryConfig,
    FrontendConfig,
    PathInfoServiceConfig,
    PathInfoServiceRef,
    ServiceUrl,
)
from tvix_store.directory import DirectoryService
from tvix_store.frontend import Frontend, Services
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService
from tvix_store.resource import AsyncResource, task_group
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService, MinimalPathInfoService

__all__ = [
    "Gate",
    "Script",
    "TelltaleBlobs",
    "TelltaleFrontend",
    "TelltaleResource",
    "script",
]


class Gate:
    """Where a build stops until it is let through."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


@dataclass
class Script:
    """What the services are to do, by the names of their entries, and what they did."""

    journal: list[str] = field(default_factory=list)
    gates: dict[str, Gate] = field(default_factory=dict)
    build_errors: dict[str, Exception] = field(default_factory=dict)
    close_errors: dict[str, Exception] = field(default_factory=dict)
    makes: Callable[[], object] | None = None

    def clear(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]  # a dataclass starts anew

    async def build(self, name: str) -> None:
        """What every build does first."""
        if name in self.gates:
            self.gates[name].reached.set()
            await self.gates[name].opened.wait()
        if name in self.build_errors:
            raise self.build_errors[name]
        self.journal.append(f"build {name}")

    def close(self, name: str) -> None:
        """What every service does when it is closed."""
        self.journal.append(f"close {name}")
        if name in self.close_errors:
            raise self.close_errors[name]


script = Script()


class TelltaleBlobs(MinimalBlobService):
    def __init__(self, name: str, *inner: object) -> None:
        super().__init__()
        self.name = name
        self.inner = inner

    async def aclose(self) -> None:
        script.close(self.name)


class TelltaleDirectories(MinimalDirectoryService):
    def __init__(self, name: str, *inner: object) -> None:
        super().__init__()
        self.name = name
        self.inner = inner

    async def aclose(self) -> None:
        script.close(self.name)


class TelltalePathInfos(MinimalPathInfoService):
    def __init__(self, name: str, *inner: object) -> None:
        super().__init__()
        self.name = name
        self.inner = inner

    async def aclose(self) -> None:
        script.close(self.name)


class TelltaleResource(AsyncResource):
    """What entries share."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def aclose(self) -> None:
        script.close(self.name)


class _PlainConfig(EntryConfig):
    type: Literal["plain"]
    max_bytes: int = Field(default=1, ge=1)
    secret: SecretStr | None = None

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        return cls(type="plain", **url.query())  # type: ignore[arg-type]  # wrong types are for the model to find


class PlainBlobs(_PlainConfig, BlobServiceConfig):
    """Blobs, no options that do anything."""

    async def build(self, name: str, context: Context) -> BlobService:
        await script.build(name)
        return script.makes() if script.makes else TelltaleBlobs(name)  # type: ignore[return-value]  # on purpose


class PlainDirectories(_PlainConfig, DirectoryServiceConfig):
    """Directories, no options that do anything."""

    async def build(self, name: str, context: Context) -> DirectoryService:
        await script.build(f"{name} directories")
        return TelltaleDirectories(f"{name} directories")


class PlainPathInfos(_PlainConfig, PathInfoServiceConfig):
    """Path infos, no options that do anything."""

    async def build(self, name: str, context: Context) -> PathInfoService:
        await script.build(f"{name} path infos")
        return TelltalePathInfos(f"{name} path infos")


class PairBlobs(BlobServiceConfig):
    """Two blob services, built at the same time."""

    type: Literal["pair"]
    near: BlobServiceRef
    far: BlobServiceRef

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        return cls(type="pair", **url.query())

    async def build(self, name: str, context: Context) -> BlobService:
        async with task_group() as group:
            near = group.create_task(context.blob_service(self.near))
            far = group.create_task(context.blob_service(self.far))
        await script.build(name)
        return TelltaleBlobs(name, near.result(), far.result())


class ManyBlobs(BlobServiceConfig):
    """Any number of blob services."""

    type: Literal["many"]
    members: list[BlobServiceRef] = Field(default_factory=list)
    by_name: dict[str, BlobServiceRef] = Field(default_factory=dict)
    fallback: BlobServiceRef | None = None

    async def build(self, name: str, context: Context) -> BlobService:
        return TelltaleBlobs(name, *[await context.blob_service(member) for member in self.members])


class HidingBlobs(BlobServiceConfig):
    """Asks for services that none of its fields is known to refer to, all at once."""

    type: Literal["hiding"]
    asks: list[str] = Field(default_factory=list)

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        return cls(type="hiding", asks=url.query().get("asks", "").split())

    async def build(self, name: str, context: Context) -> BlobService:
        async with task_group() as group:
            asked = [group.create_task(context.blob_service(target)) for target in self.asks]
        return TelltaleBlobs(name, *[task.result() for task in asked])


class EndlessBlobs(BlobServiceConfig):
    """Refers to a service of its own kind by a URL, and so on."""

    type: Literal["endless"]
    then: BlobServiceRef = "endless://"

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        return cls(type="endless")

    async def build(self, name: str, context: Context) -> BlobService:
        return TelltaleBlobs(name, await context.blob_service(self.then))


class BottomlessBlobs(BlobServiceConfig):
    """Does the same, but no field tells of it."""

    type: Literal["bottomless"]

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        return cls(type="bottomless")

    async def build(self, name: str, context: Context) -> BlobService:
        return TelltaleBlobs(name, await context.blob_service("bottomless://"))


class SharingBlobs(BlobServiceConfig):
    """Blob services that share something."""

    type: Literal["sharing"]
    what: str

    async def build(self, name: str, context: Context) -> BlobService:
        async def open_() -> TelltaleResource:
            await script.build(self.what)
            return TelltaleResource(self.what)

        return TelltaleBlobs(name, await context.shared(("fakes", self.what), open_))


class FetchingPathInfos(PathInfoServiceConfig):
    """Path infos that come with blobs and directories."""

    type: Literal["fetching"]
    blob_service: BlobServiceRef
    directory_service: DirectoryServiceRef = "root"
    then: PathInfoServiceRef | None = None

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        return cls(type="fetching", **url.query())

    async def build(self, name: str, context: Context) -> PathInfoService:
        blobs = await context.blob_service(self.blob_service)
        directories = await context.directory_service(self.directory_service)
        return TelltalePathInfos(f"{name} path infos", blobs, directories)


class TelltaleFrontend(Frontend):
    """Serves nobody."""

    def __init__(self, name: str, services: Services) -> None:
        self.name = name
        self.services = services

    async def serve(self, ready: Callable[[str], None]) -> None:
        ready(self.name)


class StubFrontend(FrontendConfig):
    """A frontend that serves nobody."""

    type: Literal["stub"]

    async def build(self, name: str, context: Context) -> Frontend:
        await script.build(name)
        return TelltaleFrontend(name, await context.services())


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    return [PlainBlobs, PairBlobs, ManyBlobs, HidingBlobs, EndlessBlobs, BottomlessBlobs, SharingBlobs]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    return [PlainDirectories]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    return [PlainPathInfos, FetchingPathInfos]


@hookimpl
def tvix_store_frontends() -> Sequence[type[FrontendConfig]]:
    return [StubFrontend]
