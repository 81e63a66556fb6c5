"""Names to running services: builds each entry once, when it is first asked for, and closes them in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.commit_point import CommitPointPathInfoService
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
from tvix_store.errors import ConfigError, StoreError
from tvix_store.explain import Explainer
from tvix_store.explain_entries import EntriesExplainer, RunningEntry
from tvix_store.frontend import Frontend, Services
from tvix_store.nar_calculation import FirstNarCalculation, NarCalculationService
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.resource import AsyncResource
from tvix_store.store_config import SERVICE_KINDS, EntryId, StoreConfig

__all__ = ["BuiltEntry", "Composition", "Service"]

T = TypeVar("T")

Service = BlobService | DirectoryService | PathInfoService


@dataclass(frozen=True, slots=True)
class BuiltEntry:
    """An entry of a configuration with its service.

    Args:
        entry_id: Where it stands.
        config: Its settings.
        service: The service, closed by the composition.
    """

    entry_id: EntryId
    config: EntryConfig
    service: Service

    @property
    def is_made_of_others(self) -> bool:
        """Whether it refers to an entry of its own kind, as combinators do: what it holds is held by that one."""
        return any(reference.kind is self.entry_id.kind for reference in self.config.references())


class Composition(AsyncResource):
    """The running services of a configuration; an async context manager that closes what it built.

    Args:
        config: Its references are followed once more here; a circle or a dangling name is a ConfigError.
        registry: Where anonymous entries find their models.
        observe: Puts something around each service that is built, such as ``telemetry_observer.observed``; is told the
            entry's name.
    """

    def __init__(
        self,
        config: StoreConfig,
        registry: Registry,
        observe: Callable[[str, Service], Service] | None = None,
    ) -> None:
        self.graph = config.check(registry)
        self.config = config
        self.registry = registry
        self._observe = observe
        self._stack = AsyncExitStack()
        self._built: dict[EntryId, asyncio.Task[Service]] = {}
        self._entries: dict[EntryId, EntryConfig] = {}
        self._waiting: dict[EntryId, list[EntryId]] = {}  # what is being built, and what it waits for
        self._shared: dict[Hashable, asyncio.Task[Any]] = {}
        self._closed = False

    async def aclose(self) -> None:
        """Close everything, last built first; what fails to close does not keep the rest open."""
        self._closed = True
        building = [task for task in (*self._built.values(), *self._shared.values()) if not task.done()]
        for task in building:
            task.cancel()
        try:
            await asyncio.gather(*building, return_exceptions=True)
        finally:
            await self._stack.aclose()

    async def services(self) -> Services:
        """The roots: what commands work with and frontends serve.

        Raises:
            ConfigError: A kind has no root.
        """
        return await _Context(self).services()

    def explainer(self) -> Explainer:
        """What explains the entries that the roots need; once these are built."""
        graph, running = self.graph, []
        roots = [self.config.root(kind) for kind in SERVICE_KINDS]
        used = graph.below(*roots)
        for entry_id in (*roots, *(entry_id for entry_id in graph.entries if entry_id in used.difference(roots))):
            task = self._built.get(entry_id)
            if task is not None and task.done():  # an entry need not have all that it refers to
                config = graph.entries[entry_id]
                inner = [str(to) for owner, _, to in graph.edges if owner == entry_id and to.kind is entry_id.kind]
                in_order = config.reads_in_order
                running.append(RunningEntry(str(entry_id), entry_id.kind, config.type, task.result(), inner, in_order))
        return EntriesExplainer(running, self.config.references.hide)

    async def entries(self) -> Sequence[BuiltEntry]:
        """Every service, used or not: those with a name, then those that URLs in them stand for.

        Raises:
            StoreError: One of them cannot be built.
        """
        named = [(entry_id, entry) for entry_id, entry in self.config if entry_id.kind in SERVICE_KINDS]
        for entry_id, entry in named:
            await self.service(entry_id, entry, None)
        entries = {**dict(named), **self._entries}
        return [BuiltEntry(entry_id, entry, await self._built[entry_id]) for entry_id, entry in entries.items()]

    async def frontends(self) -> dict[str, Frontend]:
        """The frontends by name, built but not serving yet."""
        frontends: dict[str, Frontend] = {}
        for name, entry in self.config.entries.get(Kind.FRONTEND, {}).items():
            assert isinstance(entry, FrontendConfig)
            entry_id = EntryId(Kind.FRONTEND, name)
            built = await self._building(entry_id, entry.build(name, _Context(self, entry_id, entry)))
            if not isinstance(built, Frontend):
                raise self._misbuilt(entry_id, entry, built)
            frontends[name] = built
        return frontends

    async def service(self, entry_id: EntryId, entry: EntryConfig, owner: EntryId | None) -> Service:
        """The service of an entry, built at the first call, shared by all that ask, also at the same time.

        Args:
            entry_id: Of the entry.
            entry: Its settings.
            owner: The entry for which it is wanted, which is being built.

        Raises:
            ConfigError: Building it needs ``owner`` itself.
            StoreError: Building it failed.
        """
        if owner is not None and (way := self._way(entry_id, owner)):
            raise self.config.circle(*way, entry_id)
        task = self._built.get(entry_id)
        if task is None:
            if self._closed:
                raise RuntimeError("the composition is closed")
            self._entries[entry_id] = entry
            task = self._built[entry_id] = asyncio.create_task(self._build(entry_id, entry))
        if owner is None:
            return await asyncio.shield(task)
        waits_for = self._waiting.setdefault(owner, [])
        waits_for.append(entry_id)
        try:
            return await asyncio.shield(task)
        finally:
            waits_for.remove(entry_id)

    def _way(self, start: EntryId, end: EntryId) -> tuple[EntryId, ...]:
        """How ``start`` waits for ``end``, directly or through others; empty if it does not."""
        ways: list[tuple[EntryId, ...]] = [(start,)]
        seen = {start}
        while ways:
            way = ways.pop()
            if way[-1] == end:
                return way
            following = [entry_id for entry_id in self._waiting.get(way[-1], ()) if entry_id not in seen]
            seen.update(following)
            ways += [(*way, entry_id) for entry_id in following]
        return ()

    async def _build(self, entry_id: EntryId, entry: EntryConfig) -> Service:
        self.config.refuse_repetition(entry_id, entry, self._entries)
        assert isinstance(entry, BlobServiceConfig | DirectoryServiceConfig | PathInfoServiceConfig)
        context = _Context(self, entry_id, entry)
        built: object = await self._building(entry_id, entry.build(entry_id.name, context))
        match entry_id.kind, built:
            case Kind.BLOB, BlobService():
                service: Service = built if built.relays else CheckedBlobService(entry_id.name, built)
            case Kind.DIRECTORY, DirectoryService():
                service = built if built.relays else CheckedDirectoryService(entry_id.name, built)
            case Kind.PATH_INFO, PathInfoService():
                service = built if built.relays else CheckedPathInfoService(entry_id.name, built)
            case _:
                raise self._misbuilt(entry_id, entry, built)
        await self._stack.enter_async_context(service)
        return service if self._observe is None else self._observe(entry_id.name, service)

    async def _building(self, entry_id: EntryId, building: Awaitable[T]) -> T:
        """Name the entry once in what goes wrong while it is built."""
        try:
            return await building
        except StoreError as exc:
            if not str(exc).startswith(f"{self.config.source}: "):
                exc.args = (self.config.references.hide(f"{self.config.source}: {entry_id}: {exc}"), *exc.args[1:])
            raise

    def _misbuilt(self, entry_id: EntryId, entry: EntryConfig, built: object) -> ConfigError:
        made = f"{type(entry).__qualname__}.build made {built!r}, which is no {entry_id.kind.label}"
        return ConfigError(f"{self.config.source}: {entry_id}: {made}")

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
    """The way to the entries; for ``owner``, if there is one, which is being built."""

    def __init__(
        self, composition: Composition, owner: EntryId | None = None, entry: EntryConfig | None = None
    ) -> None:
        self._composition = composition
        self._owner = owner
        self._declared = [] if entry is None else list(entry.references())
        self._undeclared = 0

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
        assert self._owner is not None, "only entries refer to others"
        composition = self._composition
        entry_id, entry = composition.config.resolve(self._owner, self._reference(kind, target), composition.registry)
        return await composition.service(entry_id, entry, self._owner)

    def _reference(self, kind: Kind, target: str) -> Reference:
        """Which of the entry's references is meant; each occurrence of a URL is an instance of its own."""
        for reference in self._declared:
            if (reference.kind, reference.target) == (kind, target):
                if reference.is_url:
                    self._declared.remove(reference)
                return reference
        self._undeclared += 1
        return Reference(f"reference[{self._undeclared}]", kind, target)

    async def services(self) -> Services:
        config = self._composition.config
        roots: Sequence[Service] = [
            await self._composition.service(entry_id, config.entries[entry_id.kind][entry_id.name], self._owner)
            for entry_id in map(config.root, SERVICE_KINDS)
        ]
        blobs, directories, path_infos = roots
        assert isinstance(blobs, BlobService)
        assert isinstance(directories, DirectoryService)
        assert isinstance(path_infos, PathInfoService)
        calculation: NarCalculationService = RenderingNarCalculation(blobs, directories)
        if (far := path_infos.nar_calculation()) is not None:
            calculation = FirstNarCalculation(far, calculation)
        committing = CommitPointPathInfoService(path_infos, blobs, directories)
        return Services(blobs, directories, committing, calculation, self._composition.explainer())

    async def shared(self, key: Hashable, open_: Callable[[], Awaitable[AbstractAsyncContextManager[T]]]) -> T:
        return await self._composition.shared(key, open_)
