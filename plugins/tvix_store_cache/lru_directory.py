"""Directories in memory, as long as they are used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.nodes import Directory
from tvix_store.statistics import ServiceStats
from tvix_store.wire import decode_directory
from tvix_store_cache.lru import Lru

__all__ = ["LruDirectoryService"]


class LruDirectoryService(DirectoryService):
    """Directories in memory; those that were not used for the longest time are forgotten.

    Args:
        name: Of the service, for messages.
        lru: Holds their encodings by their raw digests; tests may damage it.
    """

    def __init__(self, name: str, lru: Lru) -> None:
        self.name = name
        self.lru = lru

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    async def get(self, digest: B3Digest) -> Directory | None:
        encoded = self.lru.use(digest.raw)
        if encoded is None:
            return None
        try:
            return decode_directory(encoded)
        except InvalidObject as exc:
            raise CorruptObject(f"{self.name}: directory {digest} is corrupt: {exc}", expected=str(digest)) from exc

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        return [await self.get(digest) for digest in digests]

    async def put(self, directory: Directory) -> None:
        self.lru.put(directory.digest.raw, directory.encode())

    async def put_many(self, directories: Sequence[Directory]) -> None:
        for directory in directories:
            self.lru.put(directory.digest.raw, directory.encode())

    async def list(self) -> AsyncIterator[B3Digest]:
        for raw, _ in self.lru.items():
            yield B3Digest(raw)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        for digest in digests:
            self.lru.remove(digest.raw)

    async def stats(self) -> ServiceStats:
        return self.lru.stats()

    async def discard_corrupt(self, digest: B3Digest) -> None:
        encoded = self.lru.look(digest.raw)
        if encoded is not None and B3Digest.of(encoded) != digest:
            self.lru.remove(digest.raw)
