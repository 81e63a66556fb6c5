"""Blobs in memory, as long as they are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from blake3 import blake3

from tvix_store.blob import BlobReader, BlobService, BlobWriter, BytesReader
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import LimitExceeded, StoreError, Unavailable
from tvix_store.limits import MIB, SMALL_BLOB_BYTES
from tvix_store.statistics import ServiceStats
from tvix_store_cache.lru import Lru

__all__ = ["LruBlobService"]

_HASH_IN_THREAD_BYTES = 1 * MIB


class LruBlobService(BlobService):
    """Blobs in memory; those that were not used for the longest time are forgotten.

    To ask whether a blob is there is a use of it.

    Args:
        lru: Holds them by their raw digests; tests may damage it.
    """

    def __init__(self, lru: Lru) -> None:
        self.lru = lru

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    async def has(self, digest: B3Digest) -> bool:
        return self.lru.use(digest.raw) is not None

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        data = self.lru.use(digest.raw)
        return None if data is None else BytesReader(data)

    async def open_write(self) -> BlobWriter:
        return _LruWriter(self.lru)

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return [self.lru.use(digest.raw) is not None for digest in digests]

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        blobs = [self.lru.use(digest.raw) for digest in digests]
        for digest, data in zip(digests, blobs, strict=True):
            if data is not None and len(data) > max_blob_bytes:
                raise LimitExceeded(f"blob {digest} is longer than the {max_blob_bytes} bytes asked for")
        return blobs

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        for blob in blobs:
            if self.lru.use(blob.digest.raw) is None:
                self.lru.put(blob.digest.raw, blob.data)

    async def list(self) -> AsyncIterator[B3Digest]:
        for raw, _ in self.lru.items():
            yield B3Digest(raw)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        for digest in digests:
            self.lru.remove(digest.raw)

    async def stats(self) -> ServiceStats:
        return self.lru.stats()

    async def discard_corrupt(self, digest: B3Digest) -> None:
        data = self.lru.look(digest.raw)
        if data is None:
            return
        actual = await asyncio.to_thread(B3Digest.of, data) if len(data) > _HASH_IN_THREAD_BYTES else B3Digest.of(data)
        if actual != digest and self.lru.look(digest.raw) is data:
            self.lru.remove(digest.raw)


class _LruWriter(BlobWriter):
    """Gathers a blob as long as it may be held; from then on it is only hashed."""

    def __init__(self, lru: Lru) -> None:
        self._lru = lru
        self._hasher = blake3()
        self._pieces: list[bytes] | None = []
        self._n_bytes = 0
        self._digest: B3Digest | None = None
        self._failure: StoreError | None = None

    async def write(self, data: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        if self._pieces is not None:
            if self._n_bytes + len(data) <= self._lru.most_bytes and self._lru.reserve(len(data)):
                self._pieces.append(bytes(data))
                self._n_bytes += len(data)
            else:
                self._drop()
        if len(data) > _HASH_IN_THREAD_BYTES:
            self._failure = Unavailable("the upload of a blob was interrupted")  # unless it gets to the end of this
            await asyncio.to_thread(self._hasher.update, data)
            self._failure = None
        else:
            self._hasher.update(data)

    def _drop(self) -> None:
        self._pieces = None
        self._lru.release(self._n_bytes)
        self._n_bytes = 0

    async def close(self) -> B3Digest:
        if self._failure is not None:
            raise self._failure
        if self._digest is None:
            self._digest = B3Digest(self._hasher.digest())
            if self._pieces is not None:
                pieces = self._pieces
                self._drop()
                if self._lru.use(self._digest.raw) is None:
                    self._lru.put(self._digest.raw, b"".join(pieces))
        return self._digest

    async def aclose(self) -> None:
        self._drop()
