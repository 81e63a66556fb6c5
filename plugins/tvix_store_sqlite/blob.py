"""Blobs in SQLite: small ones in one piece, larger ones in chunks that blobs share."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from functools import partial

from blake3 import blake3

from tvix_store.blob import BlobReader, BlobService, BlobWriter, BytesReader, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.chunked import ChunkedReader
from tvix_store.chunking import AVERAGE_CHUNK_BYTES, Chunker, cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import DanglingReference, LimitExceeded, StoreError, Unavailable
from tvix_store.limits import MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.sqlite.statements import snapshot
from tvix_store.statistics import ServiceStats
from tvix_store_sqlite import contents
from tvix_store_sqlite.contents import Chunked, Chunks, Piece, TooLong
from tvix_store_sqlite.database import Database

__all__ = ["SqliteBlobService"]

_LIST_PAGE = 4096
_STAGE_BYTES = 4 * MIB
_SLICE_BYTES = 1 * MIB
_UNCUT_BYTES = AVERAGE_CHUNK_BYTES // 2
"""What is no longer than the least chunk is one."""


class SqliteBlobService(BlobService):
    """Blobs in a database. It is closed by whoever opened it, after this service.

    Args:
        name: Of the service, for messages.
        database: May be shared with other services.
    """

    def __init__(self, name: str, database: Database) -> None:
        self.name = name
        self.database = database

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True, chunks=True, durability=self.database.durability)

    async def has(self, digest: B3Digest) -> bool:
        return (await self.has_many([digest]))[0]

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        found = await self.database.read(partial(_open, digest=digest.raw))
        if isinstance(found, Chunked):
            return ChunkedReader(f"{self.name}: blob {digest}", _metas(found.chunks), self._fetch)
        return None if found is None else BytesReader(found)

    async def _fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]:
        found = await self.database.read(partial(_get_pieces, digests=[chunk.digest.raw for chunk in chunks]))
        pieces = [data for data in found if data is not None]
        if len(pieces) < len(chunks):
            absent = chunks[found.index(None)].digest
            raise DanglingReference(f"{self.name}: chunk {absent} does not exist any more")
        return pieces

    async def open_write(self) -> BlobWriter:
        return _Writer(self.database)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        chunked = await self.database.read(partial(_chunks, digest=digest.raw))
        return None if chunked is None else _metas(chunked)

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        raws = [digest.raw for digest in digests]
        found = await self.database.read(partial(contents.has_many, digests=raws))
        return [raw in found for raw in raws]

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        raws = [digest.raw for digest in digests]
        found = await self.database.read(partial(contents.get_many, digests=raws, max_blob_bytes=max_blob_bytes))
        blobs: list[bytes | None] = []
        for digest, data in zip(digests, found, strict=True):
            if isinstance(data, TooLong):
                raise LimitExceeded(
                    f"{self.name}: blob {digest} has {data.size} bytes, more than the {max_blob_bytes} asked for"
                )
            blobs.append(data)
        return blobs

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        if any(len(blob.data) > _UNCUT_BYTES for blob in blobs):
            wholes, chunked = await asyncio.to_thread(_cut, blobs)
        else:
            wholes, chunked = [(blob.digest.raw, blob.data) for blob in blobs], []
        await self.database.write(partial(contents.put_many, wholes=wholes, chunked=chunked))

    async def list(self) -> AsyncIterator[B3Digest]:
        last = b""
        while page := await self.database.read(partial(contents.list_after, digest=last, limit=_LIST_PAGE)):
            for raw in page:
                yield B3Digest(raw)
            last = page[-1]

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        raws = [digest.raw for digest in digests]
        if await self.database.write(partial(contents.delete, digests=raws)):
            await asyncio.wrap_future(self.database.sweep())

    async def stats(self) -> ServiceStats:
        n_blobs, logical_bytes, unique_bytes = await self.database.read(contents.count)
        stored_bytes = await self.database.stored_bytes()
        return ServiceStats(
            n_blobs, logical_bytes, unique_bytes, stored_bytes, details=(("database", self.database.path),)
        )

    async def sync(self) -> None:
        await self.database.sync()

    async def discard_corrupt(self, digest: B3Digest) -> None:
        damage = await self.database.read(partial(contents.find_damage, digest=digest.raw))
        if damage is not None:
            await self.database.write(partial(contents.discard, damage=damage))
            await asyncio.wrap_future(self.database.sweep())


def _metas(chunks: Chunks) -> list[ChunkMeta]:
    return [ChunkMeta(B3Digest(digest), size) for digest, size in chunks]


def _open(connection: sqlite3.Connection, digest: bytes) -> bytes | Chunked | None:
    with snapshot(connection):
        data = contents.get(connection, digest)
        return contents.chunks_of(connection, digest) if data is None else data


def _get_pieces(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bytes | None]:
    with snapshot(connection):
        return [contents.get(connection, digest) for digest in digests]


def _chunks(connection: sqlite3.Connection, digest: bytes) -> Chunks | None:
    with snapshot(connection):
        chunked = contents.chunks_of(connection, digest)
        if chunked is not None:
            return chunked.chunks
        return [] if contents.has_many(connection, [digest]) else None


def _cut(blobs: Sequence[HashedBlob]) -> tuple[list[Piece], list[tuple[bytes, list[Piece]]]]:
    """The blobs that are one piece, and the others with their pieces."""
    wholes: list[Piece] = []
    chunked: list[tuple[bytes, list[Piece]]] = []
    for blob in blobs:
        chunks = cut(blob.data) if len(blob.data) > _UNCUT_BYTES else []
        if len(chunks) > 1:
            chunked.append((blob.digest.raw, [(blake3(chunk).digest(), chunk) for chunk in chunks]))
        else:
            wholes.append((blob.digest.raw, blob.data))
    return wholes, chunked


class _Writer(BlobWriter):
    """Cuts and hashes what is written, and stores it a few MiB at a time while more comes.

    What is stored before the end belongs to an upload, see ``uploads.py``; a blob that fits into one batch needs none.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chunker = Chunker()
        self._hasher = blake3()
        self._gathered: list[bytes | memoryview] = []
        self._gathered_bytes = 0
        self._pieces: list[Piece] = []
        self._pieces_bytes = 0
        self._upload: str | None = None
        self._n_staged = 0
        self._staging: Future[None] | None = None
        self._digest: B3Digest | None = None
        self._failure: StoreError | None = None

    async def write(self, data: bytes) -> None:
        self._go_on()
        view = memoryview(data)
        for start in range(0, len(view), _SLICE_BYTES):
            part = view[start : start + _SLICE_BYTES] if len(view) > _SLICE_BYTES else data
            self._gathered.append(part)
            self._gathered_bytes += len(part)
            if self._gathered_bytes >= PIECE_BYTES:  # less is not worth a hop to another thread
                await self._run(last=False)

    def _go_on(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _run(self, *, last: bool) -> None:
        """Take in what was gathered, and store it if it is enough or the last.

        Raises:
            StoreError: The same one each time, from the first on.
        """
        self._failure = Unavailable("the upload of a blob was interrupted")  # unless it gets to the end of this
        try:
            gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
            pieces = await asyncio.to_thread(self._take, gathered, last)
            self._pieces += pieces
            self._pieces_bytes += sum(len(data) for _, data in pieces)
            if last:
                await self._publish()
            elif self._pieces_bytes >= _STAGE_BYTES:
                await self._stage()
        except StoreError as exc:
            self._failure = exc
            raise
        self._failure = None

    def _take(self, gathered: Sequence[bytes | memoryview], last: bool) -> list[Piece]:
        chunks: list[bytes] = []
        for data in gathered:
            self._hasher.update(data)
            chunks += self._chunker.feed(data)
        if last:
            chunks += self._chunker.finish()
        return [(blake3(chunk).digest(), chunk) for chunk in chunks]

    async def _stage(self) -> None:
        """Have the pieces stored, while the next are made; waits for those before."""
        await self._staged()
        if self._upload is None:
            self._upload = await asyncio.to_thread(self._database.uploads.start)
        pieces, position = self._pieces, self._n_staged
        self._n_staged += len(pieces)
        self._pieces, self._pieces_bytes = [], 0
        self._staging = self._database.submit(
            partial(contents.stage, upload=self._upload, position=position, pieces=pieces)
        )

    async def _staged(self) -> None:
        staging, self._staging = self._staging, None
        if staging is not None:
            await asyncio.wrap_future(staging)

    async def _publish(self) -> None:
        digest = self._hasher.digest()
        write = self._database.write
        await self._staged()
        if self._upload is not None:
            last = partial(contents.publish, upload=self._upload, position=self._n_staged, pieces=self._pieces)
            was_new = await write(partial(last, digest=digest))
            self._database.uploads.finish(self._upload)
            if not was_new:
                await asyncio.wrap_future(self._database.sweep())
        elif len(self._pieces) > 1:
            await write(partial(contents.put_many, wholes=[], chunked=[(digest, self._pieces)]))
        else:
            whole = self._pieces[0] if self._pieces else (digest, b"")
            await write(partial(contents.put_many, wholes=[whole], chunked=[]))
        self._pieces = []
        self._digest = B3Digest(digest)

    async def close(self) -> B3Digest:
        self._go_on()
        if self._digest is None:
            await self._run(last=True)
        assert self._digest is not None
        return self._digest

    async def aclose(self) -> None:
        self._gathered = []
        self._pieces = []
        upload, self._upload = self._upload, None
        if upload is not None and self._digest is None:
            self._failure = self._failure or Unavailable("the upload of a blob was given up")
            self._database.uploads.finish(upload)
            with contextlib.suppress(Unavailable):  # then it is swept when the next one is, or at the next start
                await asyncio.wrap_future(self._database.sweep())
