"""Blobs that are read back when they are put, checked again when they are read, and replaced when they are corrupt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from blake3 import blake3

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, StoreError
from tvix_store.flights import Flights
from tvix_store.forwarding import ForwardingBlobService
from tvix_store.limits import MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_guard.healing import Findings, Healing, put_and_read_back
from tvix_store_guard.quarantine import Quarantine

__all__ = ["VerifyBlobService"]

logger = logging.getLogger(__name__)

_HASH_IN_THREAD_BYTES = MIB


class VerifyBlobService(ForwardingBlobService):
    """A blob service that is not taken at its word.

    Args:
        name: Of the entry.
        inner: The service; not closed with this.
        refetch: Where sound copies of what is corrupt come from; not closed with this.
        on_put: Whether what was put is read back.
        on_get: Whether what is read is checked, also if the service says that it did so itself.
        quarantine: Where it is written down what is corrupt.
    """

    relays = True

    def __init__(
        self,
        name: str,
        inner: BlobService,
        *,
        refetch: BlobService | None = None,
        on_put: bool = True,
        on_get: bool = True,
        quarantine: Quarantine | None = None,
    ) -> None:
        super().__init__(inner)
        self.refetch = refetch
        self.findings = Findings(name, "blob", quarantine)
        self._on_put = on_put
        self._on_get = on_get
        # What is in between does not say that it verifies, so the contents are hashed.
        self._rechecked = CheckedBlobService(name, ForwardingBlobService(inner))
        self._heals: Flights[B3Digest, bool] = Flights()

    @property
    def source(self) -> BlobService:
        """The service, with what it gives hashed outside of it: by core already, or by this."""
        return self._rechecked if self.inner.capabilities.verifies else self.inner

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        if not self._on_get:
            return await self.inner.open_read(digest)
        try:
            reader = await self.source.open_read(digest)
        except CorruptObject as exc:
            await self.heal(digest, exc)
            reader = await self.source.open_read(digest)
        return None if reader is None else _HealingReader(self, digest, reader)

    async def heal(self, digest: B3Digest, exc: CorruptObject) -> None:
        """Put a sound copy in the place of a blob.

        Raises:
            CorruptObject: ``exc``: there is no sound copy, or it cannot be stored.
        """
        await self.findings.note(str(digest), str(exc))
        try:
            is_healed = await self._heals.join(digest, lambda: self._replace(digest))
        except StoreError as failure:
            logger.warning("%s: blob %s cannot be replaced: %s", self.findings.name, digest, failure)
            raise exc from failure
        if not is_healed:
            raise exc

    async def _replace(self, digest: B3Digest) -> bool:
        reader = None if self.refetch is None else await self.refetch.open_read(digest)
        if reader is None:
            return False
        async with reader, await self.inner.open_write() as writer:
            while piece := await reader.read():
                await writer.write(piece)
            is_healed = await writer.close() == digest
        if is_healed:
            logger.warning("%s: %s replaced by what refetch has", self.findings.name, digest)
        return is_healed

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        try:
            return await self.inner.chunks(digest)
        except CorruptObject as exc:
            if not self._on_get:
                raise
            await self.heal(digest, exc)
            return await self.inner.chunks(digest)

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        async def ask(digests: Sequence[B3Digest]) -> Sequence[bytes | None]:
            return await self.source.get_many(digests, max_blob_bytes=max_blob_bytes)

        async def fetch(digests: Sequence[B3Digest]) -> Sequence[bytes | None]:
            assert self.refetch is not None
            return await self.refetch.get_many(digests, max_blob_bytes=max_blob_bytes)

        async def put_back(blobs: Sequence[bytes]) -> None:
            await self.inner.put_many(await asyncio.to_thread(_hashed, blobs))

        if not self._on_get:
            return await self.inner.get_many(digests, max_blob_bytes=max_blob_bytes)
        healing: Healing[B3Digest, bytes] = Healing(self.findings, str, fetch if self.refetch else None, put_back)
        return await healing.get_many(digests, ask)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        async def put() -> Mapping[B3Digest, bytes]:
            await self.inner.put_many(blobs)
            return {blob.digest: blob.data for blob in blobs}

        async def read(digests: Sequence[B3Digest]) -> Sequence[bytes | None]:
            return await self.source.get_many(digests, max_blob_bytes=max(map(len, blobs)))

        if self._on_put and blobs:
            await put_and_read_back(self.findings, str, put, read, lambda _, given, found: given == found)
        else:
            await self.inner.put_many(blobs)

    async def open_write(self) -> BlobWriter:
        writer = await self.inner.open_write()
        return _ReadBackWriter(self, writer) if self._on_put else writer

    async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        async for damage in self.inner.verify(progress):
            await self.findings.note(damage.digest, str(damage))
            yield damage

    async def aclose(self) -> None:
        await self._heals.aclose()


def _hashed(blobs: Sequence[bytes]) -> Sequence[HashedBlob]:
    return [HashedBlob(blob) for blob in blobs]


class _HealingReader(BlobReader):
    """A reader that goes on with a sound copy, if that begins with what has been given already.

    A service that keeps a blob in one piece only knows at its end whether it is right, so what was given may be wrong.
    """

    def __init__(self, service: VerifyBlobService, digest: B3Digest, inner: BlobReader) -> None:
        self._service = service
        self._digest = digest
        self._inner = inner
        self._start = 0
        self._given = blake3()  # from the start on
        self._n_given = 0

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        try:
            piece = await self._inner.read(max_bytes)
        except CorruptObject as exc:
            await self._service.heal(self._digest, exc)
            await self._go_on_with_copy(exc)
            piece = await self._inner.read(max_bytes)
        if self._service.refetch is not None:
            await _update(self._given, piece)
        self._n_given += len(piece)
        return piece

    async def _go_on_with_copy(self, exc: CorruptObject) -> None:
        await self._inner.aclose()
        reader = await self._service.source.open_read(self._digest)
        if reader is None:
            raise exc
        self._inner = reader
        if self._start:
            await reader.seek(self._start)
        hasher, left = blake3(), self._n_given
        while left and (piece := await reader.read(min(left, PIECE_BYTES))):
            await _update(hasher, piece)
            left -= len(piece)
        if hasher.digest() != self._given.digest():
            raise exc

    async def seek(self, position: int) -> None:
        await self._inner.seek(position)
        self._start, self._given, self._n_given = position, blake3(), 0

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _update(hasher: blake3, piece: bytes) -> None:
    if len(piece) > _HASH_IN_THREAD_BYTES:
        await asyncio.to_thread(hasher.update, piece)
    else:
        hasher.update(piece)


class _ReadBackWriter(BlobWriter):
    """A writer whose blob is read as a whole before ``close`` returns."""

    def __init__(self, service: VerifyBlobService, inner: BlobWriter) -> None:
        self._service = service
        self._inner = inner

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> B3Digest:
        digest = await self._inner.close()
        try:
            await self._read_back(digest)
        except CorruptObject as exc:
            await self._service.heal(digest, exc)
            await self._read_back(digest)
        return digest

    async def _read_back(self, digest: B3Digest) -> None:
        reader = await self._service.source.open_read(digest)
        if reader is None:
            raise self._service.findings.differs(str(digest))
        async with reader:
            while await reader.read():
                pass

    async def aclose(self) -> None:
        await self._inner.aclose()
