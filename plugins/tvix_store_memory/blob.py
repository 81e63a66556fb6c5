"""Blobs in a dict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from tvix_store.blob import BlobReader, BlobService, BlobWriter, BytesReader
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import LimitExceeded
from tvix_store.limits import KIB, SMALL_BLOB_BYTES
from tvix_store.statistics import ServiceStats

__all__ = ["MemoryBlobService"]

_HASH_IN_THREAD_BYTES = 64 * KIB


class MemoryBlobService(BlobService):
    """Blobs in memory, each in one piece.

    ``contents`` holds them by their raw digests; tests may damage it.
    """

    def __init__(self) -> None:
        self.contents: dict[bytes, bytes] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    async def has(self, digest: B3Digest) -> bool:
        return digest.raw in self.contents

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        data = self.contents.get(digest.raw)
        return None if data is None else BytesReader(data)

    async def open_write(self) -> BlobWriter:
        return _MemoryWriter(self)

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return [digest.raw in self.contents for digest in digests]

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        blobs = [self.contents.get(digest.raw) for digest in digests]
        for digest, data in zip(digests, blobs, strict=True):
            if data is not None and len(data) > max_blob_bytes:
                raise LimitExceeded(f"blob {digest} is longer than the {max_blob_bytes} bytes asked for")
        return blobs

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        for blob in blobs:
            self.contents.setdefault(blob.digest.raw, blob.data)

    async def list(self) -> AsyncIterator[B3Digest]:
        for raw in tuple(self.contents):
            yield B3Digest(raw)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        for digest in digests:
            self.contents.pop(digest.raw, None)

    async def stats(self) -> ServiceStats:
        n_bytes = sum(map(len, self.contents.values()))
        return ServiceStats(len(self.contents), n_bytes, n_bytes)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        data = self.contents.get(digest.raw)
        if data is not None and await _digest(data) != digest and self.contents.get(digest.raw) is data:
            del self.contents[digest.raw]


async def _digest(data: bytes) -> B3Digest:
    return B3Digest.of(data) if len(data) <= _HASH_IN_THREAD_BYTES else await asyncio.to_thread(B3Digest.of, data)


class _MemoryWriter(BlobWriter):
    def __init__(self, service: MemoryBlobService) -> None:
        self._service = service
        self._pieces: list[bytes] = []
        self._digest: B3Digest | None = None

    async def write(self, data: bytes) -> None:
        self._pieces.append(bytes(data))

    async def close(self) -> B3Digest:
        if self._digest is None:
            data = b"".join(self._pieces)
            digest = await _digest(data)
            self._service.contents.setdefault(digest.raw, data)
            self._pieces.clear()
            self._digest = digest
        return self._digest

    async def aclose(self) -> None:
        self._pieces.clear()
