"""Services that count what is done to them, wait or fail when told to; they keep their contents in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tvix_store.blob import BlobWriter
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import ClosurePutter, DirectoryPutter
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.nodes import Directory
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService

__all__ = ["CountingBlobs", "CountingDirectories", "Hang"]

Hook = Callable[[], Awaitable[None]]


class CountingBlobs(MinimalBlobService):
    """Counts what is put and got; ``on_has``, ``on_put`` and ``on_get`` are called before."""

    def __init__(self) -> None:
        super().__init__()
        self.put: list[B3Digest] = []
        self.written = 0
        self.batches: list[int] = []
        self.got: list[int] = []
        self.on_has: Hook | None = None
        self.on_put: Hook | None = None
        self.on_get: Hook | None = None

    async def has(self, digest: B3Digest) -> bool:
        if self.on_has is not None:
            await self.on_has()
        return await super().has(digest)

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return [digest in self.blobs for digest in digests]

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        self.batches.append(len(blobs))
        if self.on_put is not None:
            await self.on_put()
        self.put += [blob.digest for blob in blobs]
        self.blobs.update({blob.digest: blob.data for blob in blobs})

    async def open_write(self) -> BlobWriter:
        self.written += 1
        return await super().open_write()

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        self.got.append(len(digests))
        if self.on_get is not None:
            await self.on_get()
        return [self.blobs.get(digest) for digest in digests]


class CountingDirectories(MinimalDirectoryService):
    """Counts uploads: how many were started, finished, and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.started = self.finished = self.closed = 0
        self.on_put: Hook | None = None

    async def put_multiple_start(self) -> DirectoryPutter:
        self.started += 1
        return _CountingPutter(self)


class _CountingPutter(ClosurePutter):
    def __init__(self, service: CountingDirectories) -> None:
        super().__init__(service)
        self._counts = service

    async def put_many(self, directories: Sequence[Directory]) -> None:
        if self._counts.on_put is not None:
            await self._counts.on_put()
        await super().put_many(directories)

    async def close(self) -> B3Digest:
        root = await super().close()
        self._counts.finished += 1
        return root

    async def aclose(self) -> None:
        self._counts.closed += 1
        await super().aclose()


class Hang:
    """A hook that never comes back, and knows whether it was called and cancelled."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> None:
        self.called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
