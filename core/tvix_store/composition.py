"""Names to running services: builds each entry once, when it is first asked for, and closes them in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.config import (
    BlobServiceConfig,
    DirectoryServiceConfig,
    EntryConfig,
    FrontendConfig,
    Kind,
    PathInfoServiceConfig,
    Reference,
)
from tvix_store.directory import DirectoryService
from tvix_store.errors import ConfigError
from tvix_store.frontend import Frontend, Services
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.resource import AsyncResource
from tvix_store.store_config import EntryId, StoreConfig

__all__ = ["Composition"]

T = TypeVar("T")

Service = BlobService | DirectoryService | PathInfoService


class Composition:
    """The running services of a configuration; an async context manager that closes what it built.

    Args:
        config: Its references are followed once more here; a circle or a dangling name is a ConfigError.
        registry: Where anonymous entries find their models.
    """

    def __init__(self, config: StoreConfig, registry: Registry) -> None:
        config.check(registry)
        self.config = config
        self.registry = registry
        self._stack = AsyncExitStack()
        self._built: dict[EntryId, asyncio.Task[Service]] = {}
        self._shared: dict[Hashable, asyncio.Task[Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close everything, last built first; what fails to close does not keep the rest open."""
        building = [task for task in (*self._built.values(), *self._shared.values()) if not task.done()]
        for task in building:
            task.cancel()
        await asyncio.gather(*building, return_exceptions=True)
        await self._stack.aclose()

    async def services(self) -> Services:
        """The roots: what commands work with and frontends serve.

        Raises:
            ConfigError: A kind has no root.
        """
        return await _Context(self, ()).services()

    async def frontends(self) -> dict[str, Frontend]:
        """The frontends by name, built but not serving yet."""
        frontends: dict[str, Frontend] = {}
        for name, entry in self.config.entries.get(Kind.FRONTEND, {}).items():
            assert isinstance(entry, FrontendConfig)
            context = _Context(self, (EntryId(Kind.FRONTEND, name),))
            frontends[name] = await self._building(EntryId(Kind.FRONTEND, name), entry.build(name, context))
        return frontends

    async def service(self, entry_id: EntryId, entry: EntryConfig, path: tuple[EntryId, ...]) -> Service:
        """The service of an entry, built at the first call, shared by all that ask, also at the same time.

        Raises:
            ConfigError: The entry is being built by the one that asks, or building it failed.
        """
        if entry_id in path:
            steps = " -> ".join(map(str, (*path[path.index(entry_id) :], entry_id)))
            raise ConfigError(f"{self.config.source}: entries refer to each other in a circle: {steps}")
        task = self._built.get(entry_id)
        if task is None:
            task = asyncio.create_task(self._build(entry_id, entry, path))
            self._built[entry_id] = task
        return await asyncio.shield(task)

    async def _build(self, entry_id: EntryId, entry: EntryConfig, path: tuple[EntryId, ...]) -> Service:
        context = _Context(self, (*path, entry_id))
        match entry:
            case BlobServiceConfig():
                built: AsyncResource = await self._building(entry_id, entry.build(entry_id.name, context))
            case DirectoryServiceConfig():
                built = await self._building(entry_id, entry.build(entry_id.name, context))
            case PathInfoServiceConfig():
                built = await self._building(entry_id, entry.build(entry_id.name, context))
            case _:
                raise ConfigError(f"{self.config.source}: {entry_id} is no service")
        match built:
            case BlobService():
                service: Service = CheckedBlobService(entry_id.name, built)
            case DirectoryService():
                service = CheckedDirectoryService(entry_id.name, built)
            case PathInfoService():
                service = CheckedPathInfoService(entry_id.name, built)
            case _:
                raise ConfigError(f"{self.config.source}: {entry_id}: {type(entry).__name__}.build made {built!r}")
        return await self._stack.enter_async_context(service)

    async def _building(self, entry_id: EntryId, building: Awaitable[T]) -> T:
        """Name the entry once in what goes wrong while it is built."""
        try:
            return await building
        except ConfigError as exc:
            if str(exc).startswith(f"{self.config.source}: "):
                raise
            raise ConfigError(f"{self.config.source}: {entry_id}: {exc}") from exc

    async def shared(self, key: Hashable, open_: Callable[[], Awaitable[AbstractAsyncContextManager[T]]]) -> T:
        """See ``Context.shared``."""

        async def enter() -> T:
            return await self._stack.enter_async_context(await open_())

        task = self._shared.get(key)
        if task is None:
            task = self._shared[key] = asyncio.create_task(enter())
        value: T = await asyncio.shield(task)
        return value


class _Context:
    """The way from one entry to the others, remembering how it came to be built."""

    def __init__(self, composition: Composition, path: tuple[EntryId, ...]) -> None:
        self._composition = composition
        self._path = path
        self._anonymous = 0

    async def blob_service(self, target: str) -> BlobService:
        service = await self._service(Kind.BLOB, target)
        assert isinstance(service, BlobService)
        return service

    async def directory_service(self, target: str) -> DirectoryService:
        service = await self._service(Kind.DIRECTORY, target)
        assert isinstance(service, DirectoryService)
        return service

    async def path_info_service(self, target: str) -> PathInfoService:
        service = await self._service(Kind.PATH_INFO, target)
        assert isinstance(service, PathInfoService)
        return service

    async def _service(self, kind: Kind, target: str) -> Service:
        reference = Reference("reference", kind, target)
        if reference.is_url:  # each occurrence is an instance of its own
            self._anonymous += 1
            reference = Reference(f"{kind.value}[{self._anonymous}]", kind, target)
        owner = self._path[-1] if self._path else EntryId(kind, "root")
        config = self._composition.config
        entry_id, entry = config.resolve(owner, reference, self._composition.registry)
        return await self._composition.service(entry_id, entry, self._path)

    async def services(self) -> Services:
        config = self._composition.config
        roots = {}
        for kind in (Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO):
            entry_id = config.root(kind)
            roots[kind] = await self._composition.service(entry_id, config.entries[kind][entry_id.name], self._path)
        blobs, directories, path_infos = roots[Kind.BLOB], roots[Kind.DIRECTORY], roots[Kind.PATH_INFO]
        assert isinstance(blobs, BlobService)
        assert isinstance(directories, DirectoryService)
        assert isinstance(path_infos, PathInfoService)
        calculation = path_infos.nar_calculation() or RenderingNarCalculation(blobs, directories)
        return Services(blobs, directories, path_infos, calculation)

    async def shared(self, key: Hashable, open_: Callable[[], Awaitable[AbstractAsyncContextManager[T]]]) -> T:
        return await self._composition.shared(key, open_)
