"""Blobs in packs: batches of small ones share frames, large ones are streamed in chunks that blobs share."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial

from tvix_store.blob import BlobReader, BlobService, BlobWriter, BytesReader, ChunkMeta
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.chunked import ChunkedReader
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, DanglingReference
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_fs import compaction, index, verification
from tvix_store_fs.contents import Contents
from tvix_store_fs.frame import Chunk
from tvix_store_fs.put import put
from tvix_store_fs.store import PackStore
from tvix_store_fs.upload import Upload

__all__ = ["FsBlobService"]

_LIST_PAGE = 4096


class FsBlobService(BlobService):
    """Blobs in a pack store, which is closed with this service.

    Args:
        name: Of the service, for messages.
        store: Open.
    """

    def __init__(self, name: str, store: PackStore) -> None:
        self.name = name
        self.store = store

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            list=True, delete=True, chunks=True, verifies=True, compact=True, durability=self.store.durability
        )

    async def has(self, digest: B3Digest) -> bool:
        return (await self.has_many([digest]))[0]

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return await self.store.read(index.has_many, [digest.raw for digest in digests])

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        found = await self.store.read(_open, digest.raw, self.store.contents)
        if not isinstance(found, list):
            return None if found is None else BytesReader(found)
        name = f"{self.name}: blob {digest}"
        fetch = partial(self.store.read, partial(_read_chunks, contents=self.store.contents, name=name))
        return ChunkedReader(name, found, fetch, fetch_checks=True)

    async def open_write(self) -> BlobWriter:
        return Upload(self.store)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        return await self.store.read(_chunks, digest.raw, self.store.contents)

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        return await self.store.read(self.store.contents.get_many, [digest.raw for digest in digests], max_blob_bytes)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await put(self.store, [(blob.digest.raw, blob.data) for blob in blobs])

    async def sync(self) -> None:
        if self.store.durability is not Durability.NONE:
            await self.store.sync()

    async def list(self) -> AsyncIterator[B3Digest]:
        last = b""
        while page := await self.store.read(index.list_after, last, _LIST_PAGE):
            for raw in page:
                yield B3Digest(raw)
            last = page[-1]

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        raws = [digest.raw for digest in digests]
        try:
            lists = await self.store.read(self.store.contents.lists, raws)
        except CorruptObject:
            for raw in raws:
                await verification.discard(self.store, raw)
            lists = await self.store.read(self.store.contents.lists, raws)
        chunks = {blob: [digest for digest, _ in listed] for blob, listed in lists.items()}
        await self.store.database.write(partial(index.delete, digests=raws, lists=chunks))

    async def compact(self) -> int:
        return await compaction.compact(self.store)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await verification.discard(self.store, digest.raw)

    async def stats(self) -> ServiceStats:
        return await verification.stats(self.store)

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return verification.verify(self.store, progress)

    async def aclose(self) -> None:
        await self.store.aclose()


def _open(connection: sqlite3.Connection, digest: bytes, contents: Contents) -> bytes | list[ChunkMeta] | None:
    found = contents.open(connection, digest)
    return _metas(found) if isinstance(found, list) else found


def _chunks(connection: sqlite3.Connection, digest: bytes, contents: Contents) -> list[ChunkMeta] | None:
    chunks = contents.chunks(connection, digest)
    return None if chunks is None else _metas(chunks)


def _read_chunks(
    connection: sqlite3.Connection, chunks: Sequence[ChunkMeta], contents: Contents, name: str
) -> Sequence[bytes]:
    found: list[bytes] = []
    for chunk, piece in zip(chunks, contents.pieces(connection, [chunk.digest.raw for chunk in chunks]), strict=True):
        if piece is None:
            raise DanglingReference(f"{name}: chunk {chunk.digest} does not exist any more")
        found.append(piece)
        if len(piece) != chunk.size:
            raise CorruptObject(f"{name}: chunk {chunk.digest} has {len(piece)} bytes, the list says {chunk.size}")
    return found


def _metas(chunks: Sequence[Chunk]) -> list[ChunkMeta]:
    return [ChunkMeta(B3Digest(digest), size) for digest, size in chunks]
