"""Far sides that count what they are asked, wait when they are told to, or fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence

from tvix_store.errors import StoreError
from tvix_store.path_info import NarStream, PathInfo, PathMetadata
from tvix_store_memory.path_info import MemoryPathInfoService

__all__ = ["NAR", "CountingService", "FailingService", "StreamingService"]

NAR = [b"first ", b"second ", b"last"]


class CountingService(MemoryPathInfoService):
    """Path infos in memory; ``asked`` counts the calls, which go on once ``may_answer`` is set."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.asked: Counter[str] = Counter()
        self.is_asked = asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def _count(self, method: str) -> None:
        self.asked[method] += 1
        self.is_asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise

    async def get(self, digest: bytes) -> PathInfo | None:
        await self._count("get")
        return await super().get(digest)

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        await self._count("get_metadata")
        return await super().get(digest)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        await self._count("get_many")
        return [await MemoryPathInfoService.get(self, digest) for digest in digests]

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        await self._count("put_many")
        return [await MemoryPathInfoService.put(self, path_info) for path_info in path_infos]


class FailingService(MemoryPathInfoService):
    """Fails in the methods that are named."""

    def __init__(self, error: StoreError, *methods: str) -> None:
        super().__init__("failing")
        self.error = error
        self.methods = methods

    def __getattribute__(self, name: str) -> object:
        if name != "methods" and name in object.__getattribute__(self, "__dict__").get("methods", ()):

            async def fail(*args: object) -> None:
                raise self.error

            return fail
        return super().__getattribute__(name)


class StreamingService(CountingService):
    """Has a NAR under way for every path it has. ``get`` answers when the stream was read, as one fetch does both."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    async def open_nar(self, digest: bytes) -> NarStream | None:
        self.asked["open_nar"] += 1
        if digest not in self.encodings:
            return None
        return NarStream(sum(map(len, NAR)), self._pieces())

    async def _pieces(self) -> AsyncGenerator[bytes]:
        try:
            for piece in NAR:
                yield piece
        finally:
            self.closed += 1
