"""Directories of another service, with faults."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.around import AroundDirectoryService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.nodes import Directory
from tvix_store_fault.faults import Faults, Lifetime

__all__ = ["FaultDirectoryService"]


class FaultDirectoryService(AroundDirectoryService):
    """A directory service that fails on purpose.

    Args:
        inner: The service; not closed with this.
        faults: What goes wrong.
    """

    relays = False

    def __init__(self, inner: DirectoryService, faults: Faults) -> None:
        super().__init__(inner, faults)
        self.faults = faults

    async def put_multiple_start(self) -> DirectoryPutter:
        lifetime = self.faults.lifetime()
        return _FaultPutter(await super().put_multiple_start(), lifetime)


class _FaultPutter(DirectoryPutter):
    """An upload that a crash ends."""

    def __init__(self, inner: DirectoryPutter, lifetime: Lifetime) -> None:
        self._inner = inner
        self._lifetime = lifetime

    async def put_many(self, directories: Sequence[Directory]) -> None:
        self._lifetime.require()
        await self._inner.put_many(directories)

    async def close(self) -> B3Digest:
        self._lifetime.require()
        return await self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()
