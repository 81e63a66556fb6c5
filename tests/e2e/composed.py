"""Compositions of real services, whose entries can be looked at one by one and whose calls are written down."""

from __future__ import annotations

import textwrap
import tomllib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fakes.recorder import Recorder
from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.blob import BlobService
from tvix_store.composition import Composition, Service
from tvix_store.config import Kind
from tvix_store.directory import DirectoryService
from tvix_store.frontend import Services
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.store_config import EntryId, StoreConfig

__all__ = ["METADATA", "Composed", "composed", "parsed"]

METADATA = """
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "memory"
"""
"""For tests that are about blobs."""


def parsed(document: str | dict[str, Any], registry: Registry) -> StoreConfig:
    """A configuration of TOML, or of what a parser made of something else."""
    if isinstance(document, str):
        document = tomllib.loads(textwrap.dedent(document))
    return StoreConfig.parse(document, registry, "store.toml")


class Composed:
    """The entries of a composition. ``asked`` are the calls to each, by the entry's name."""

    def __init__(self, config: StoreConfig, registry: Registry) -> None:
        self.asked: defaultdict[str, Recorder] = defaultdict(Recorder)
        self.composition = Composition(config, registry, self._observed)

    def _observed(self, name: str, service: Service) -> Service:
        match service:
            case BlobService():
                return AroundBlobService(service, self.asked[name])
            case DirectoryService():
                return AroundDirectoryService(service, self.asked[name])
            case PathInfoService():
                return AroundPathInfoService(service, self.asked[name])

    async def _entry(self, kind: Kind, name: str) -> Service:
        entry_id = EntryId(kind, name)
        return await self.composition.service(entry_id, self.composition.config.entries[kind][name], None)

    async def blobs(self, name: str = "root") -> BlobService:
        service = await self._entry(Kind.BLOB, name)
        assert isinstance(service, BlobService)
        return service

    async def directories(self, name: str = "root") -> DirectoryService:
        service = await self._entry(Kind.DIRECTORY, name)
        assert isinstance(service, DirectoryService)
        return service

    async def path_infos(self, name: str = "root") -> PathInfoService:
        service = await self._entry(Kind.PATH_INFO, name)
        assert isinstance(service, PathInfoService)
        return service

    async def services(self) -> Services:
        return await self.composition.services()


@asynccontextmanager
async def composed(document: str | dict[str, Any] | StoreConfig, registry: Registry) -> AsyncIterator[Composed]:
    """Closed at the end."""
    config = document if isinstance(document, StoreConfig) else parsed(document, registry)
    running = Composed(config, registry)
    async with running.composition:
        yield running
