"""Directories in a dict, as their canonical encodings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.nodes import Directory
from tvix_store.statistics import ServiceStats
from tvix_store.wire import decode_directory

__all__ = ["MemoryDirectoryService"]


class MemoryDirectoryService(DirectoryService):
    """Directories in memory.

    ``encodings`` holds them by their raw digests; tests may damage it.

    Args:
        name: Of the service, for messages.
    """

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.encodings: dict[bytes, bytes] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    async def get(self, digest: B3Digest) -> Directory | None:
        encoded = self.encodings.get(digest.raw)
        if encoded is None:
            return None
        try:
            return decode_directory(encoded)
        except InvalidObject as exc:
            raise CorruptObject(f"{self._name}: directory {digest} is corrupt: {exc}", expected=str(digest)) from exc

    async def put(self, directory: Directory) -> None:
        self.encodings[directory.digest.raw] = directory.encode()

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        return [await self.get(digest) for digest in digests]

    async def put_many(self, directories: Sequence[Directory]) -> None:
        for directory in directories:
            self.encodings[directory.digest.raw] = directory.encode()

    async def list(self) -> AsyncIterator[B3Digest]:
        for raw in tuple(self.encodings):
            yield B3Digest(raw)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        for digest in digests:
            self.encodings.pop(digest.raw, None)

    async def stats(self) -> ServiceStats:
        n_bytes = sum(map(len, self.encodings.values()))
        return ServiceStats(len(self.encodings), n_bytes, n_bytes)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        encoded = self.encodings.get(digest.raw)
        if encoded is not None and B3Digest.of(encoded) != digest:
            del self.encodings[digest.raw]
