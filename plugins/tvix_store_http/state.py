"""What the frontend has to remember for those who push to it, in a SQLite file of its own.

A client uploads a NAR first and says what path it is of later, perhaps much later and to another process. So what was
taken is written down before the client is told that it was: the root of the contents, which are in the store. Nothing
here is needed to read what has been published; without this file, clients only have to upload again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import zstandard

from tvix_store.capabilities import Durability
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.ingest import Ingested
from tvix_store.limits import KIB
from tvix_store.nar_calculation import NarDigest
from tvix_store.resource import AsyncResource
from tvix_store.sqlite.database import Database
from tvix_store.sqlite.schema import Schema
from tvix_store.wire import decode_node, encode_node

__all__ = ["KEEP_UPLOADS_S", "Document", "State", "Upload"]

KEEP_UPLOADS_S = 30 * 24 * 3600.0
"""How long an uploaded NAR is remembered that no narinfo has named, unless configured otherwise."""

_TABLES = """
CREATE TABLE nar (
    sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL, node BLOB NOT NULL,
    published INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE upload (
    file_sha256 BLOB PRIMARY KEY, file_size INTEGER NOT NULL, compression TEXT NOT NULL,
    nar_sha256 BLOB NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE document (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, media_type TEXT NOT NULL, encoding TEXT NOT NULL,
    size INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX nar_unpublished ON nar (used) WHERE NOT published;
CREATE INDEX upload_used ON upload (used);
CREATE INDEX upload_nar ON upload (nar_sha256);
"""

SCHEMA = Schema(
    application_id=int.from_bytes(b"TVXH"),
    version=1,
    tables=_TABLES,
    page_bytes=8 * KIB,
    what="tvix-store HTTP state database",
)

_REFRESHES = 32
"""An entry that is used is written anew once this part of its time has passed, so most uses write nothing."""

_COMPRESSED_FROM_BYTES = 512
_COMPRESSION_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client uploaded, of which the NAR in it was kept.

    Args:
        file_sha256: Of the file, 32 bytes.
        file_size: In bytes.
        compression: How the NAR was compressed in it, as a narinfo says it; ``none`` if it was not.
        ingested: The NAR, and the root of its contents.
    """

    file_sha256: bytes
    file_size: int
    compression: str
    ingested: Ingested


@dataclass(frozen=True, slots=True)
class Document:
    """A file that a client put, such as a build log.

    Args:
        data: As it was before any transfer encoding.
        media_type: What the client said it is, or what its place in the cache says.
    """

    data: bytes
    media_type: str


class State(AsyncResource):
    """NARs that were uploaded, and documents. ``State.open`` makes one; several processes may have one file open.

    A NAR is remembered by its own hash, and by the hash of the file in which it came. Both are forgotten when nobody
    has used them for the configured time; a NAR that a narinfo named is not.

    Args:
        database: Closed with this.
        keep_uploads_s: How long that time is.
        clock: Tells the time, in seconds.
    """

    def __init__(self, database: Database, keep_uploads_s: float, clock: Callable[[], float]) -> None:
        self._database = database
        self._keep_s = keep_uploads_s
        self._clock = clock
        self._forgot_at = clock()

    @classmethod
    async def open(
        cls,
        path: str | None,
        keep_uploads_s: float = KEEP_UPLOADS_S,
        *,
        durability: Durability = Durability.COMMIT,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open the state in the file at ``path``, made if there is none; ``None`` is one that goes when closed.

        Raises:
            ConfigError: There is no place for it, or it is of another program or a newer version.
            CorruptObject: It is damaged.
            Unavailable: Others keep it locked.
        """
        database = await Database.open(path, SCHEMA, durability=durability)
        state = cls(database, keep_uploads_s, clock)
        try:
            await database.write(partial(_forget_unused, before=clock() - keep_uploads_s))
        except BaseException:
            await database.aclose()
            raise
        return state

    @property
    def path(self) -> str:
        """Of the file, absolute."""
        return self._database.path

    @property
    def commits(self) -> int:
        """How many transactions have been committed."""
        return self._database.commits

    async def add_upload(self, upload: Upload) -> None:
        """Remember what was uploaded; as durable as the database once this returns."""
        now = self._clock()
        await self._database.write(partial(_add_upload, upload=upload, now=now))
        if now - self._forgot_at > self._keep_s / _REFRESHES:
            self._forgot_at = now
            await self._database.write(partial(_forget_unused, before=now - self._keep_s))

    async def nar(self, nar_sha256: bytes) -> Ingested | None:
        """The NAR with this hash and the root of its contents, which may have gone meanwhile; ``None`` if unknown."""
        row = await self._database.read(partial(_nar, sha256=nar_sha256))
        if row is None:
            return None
        size, node, used = row
        await self._refresh(used, nar_sha256, None)
        return self._ingested(nar_sha256, size, node)

    async def upload(self, file_sha256: bytes) -> Upload | None:
        """What came in the file with this hash; ``None`` if unknown. The contents may have gone, as for ``nar``."""
        row = await self._database.read(partial(_upload, file_sha256=file_sha256))
        if row is None:
            return None
        file_size, compression, nar_sha256, size, node, used = row
        await self._refresh(used, nar_sha256, file_sha256)
        return Upload(file_sha256, file_size, compression, self._ingested(nar_sha256, size, node))

    async def _refresh(self, used: int, nar_sha256: bytes, file_sha256: bytes | None) -> None:
        now = self._clock()
        if now - used > self._keep_s / _REFRESHES:
            await self._database.write(partial(_refresh, nar_sha256=nar_sha256, file_sha256=file_sha256, now=now))

    def _ingested(self, nar_sha256: bytes, size: int, node: bytes) -> Ingested:
        try:
            return Ingested(decode_node(node), NarDigest(size, nar_sha256))
        except InvalidObject as exc:
            key = nar_sha256.hex()
            raise CorruptObject(f"{self.path}: NAR {key} is corrupt: {exc}", expected=key) from exc

    async def publish(self, ingested: Ingested) -> None:
        """Remember a NAR that a path info names for good."""
        await self._database.write(partial(_publish, ingested=ingested, now=self._clock()))

    async def forget(self, nar_sha256: bytes) -> None:
        """Forget a NAR, whose contents have gone, and the files in which it came."""
        await self._database.write(partial(_forget, nar_sha256=nar_sha256))

    async def put_document(self, key: str, document: Document) -> None:
        """Store a document, in place of what is there under this key; durable once this returns."""
        encoding, data = await asyncio.to_thread(_encoded, document.data)
        row = (key, document.media_type, encoding, len(document.data), data)
        await self._database.write(partial(_put_document, row=row))

    async def document(self, key: str) -> Document | None:
        """What was put under this key; ``None`` if nothing was."""
        try:
            return await self._database.read(partial(_document, key=key))
        except zstandard.ZstdError as exc:
            raise CorruptObject(f"{self.path}: document {key!r} is corrupt: {exc}") from exc

    async def document_size(self, key: str) -> tuple[int, str] | None:
        """Length in bytes and media type of a document, without reading it; ``None`` if there is none."""
        return await self._database.read(partial(_document_size, key=key))

    async def aclose(self) -> None:
        await self._database.aclose()


def _add_upload(connection: sqlite3.Connection, upload: Upload, now: float) -> None:
    _put_nar(connection, upload.ingested, now, published=False)
    connection.execute(
        "INSERT INTO upload (file_sha256, file_size, compression, nar_sha256, used) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (file_sha256) DO UPDATE SET file_size = excluded.file_size, compression = excluded.compression, "
        "nar_sha256 = excluded.nar_sha256, used = excluded.used",
        (upload.file_sha256, upload.file_size, upload.compression, upload.ingested.nar.sha256, int(now)),
    )


def _put_nar(connection: sqlite3.Connection, ingested: Ingested, now: float, *, published: bool) -> None:
    connection.execute(
        "INSERT INTO nar (sha256, size, node, published, used) VALUES (?, ?, ?, ?, ?) ON CONFLICT (sha256) DO UPDATE "
        "SET node = excluded.node, published = max(published, excluded.published), used = max(used, excluded.used)",
        (ingested.nar.sha256, ingested.nar.size, encode_node(ingested.node), int(published), int(now)),
    )


def _nar(connection: sqlite3.Connection, sha256: bytes) -> tuple[int, bytes, int] | None:
    select = "SELECT size, node, used FROM nar WHERE sha256 = ?"
    row: tuple[int, bytes, int] | None = connection.execute(select, (sha256,)).fetchone()
    return row


def _upload(connection: sqlite3.Connection, file_sha256: bytes) -> tuple[int, str, bytes, int, bytes, int] | None:
    row: tuple[int, str, bytes, int, bytes, int] | None = connection.execute(
        "SELECT upload.file_size, upload.compression, nar.sha256, nar.size, nar.node, upload.used "
        "FROM upload JOIN nar ON nar.sha256 = upload.nar_sha256 WHERE upload.file_sha256 = ?",
        (file_sha256,),
    ).fetchone()
    return row


def _refresh(connection: sqlite3.Connection, nar_sha256: bytes, file_sha256: bytes | None, now: float) -> None:
    connection.execute("UPDATE nar SET used = ? WHERE sha256 = ?", (int(now), nar_sha256))
    if file_sha256 is not None:
        connection.execute("UPDATE upload SET used = ? WHERE file_sha256 = ?", (int(now), file_sha256))


def _publish(connection: sqlite3.Connection, ingested: Ingested, now: float) -> None:
    _put_nar(connection, ingested, now, published=True)


def _forget(connection: sqlite3.Connection, nar_sha256: bytes) -> None:
    connection.execute("DELETE FROM upload WHERE nar_sha256 = ?", (nar_sha256,))
    connection.execute("DELETE FROM nar WHERE sha256 = ?", (nar_sha256,))


def _forget_unused(connection: sqlite3.Connection, before: float) -> None:
    connection.execute("DELETE FROM upload WHERE used < ?", (int(before),))
    connection.execute(
        "DELETE FROM nar WHERE NOT published AND used < ? "
        "AND NOT EXISTS (SELECT 1 FROM upload WHERE nar_sha256 = nar.sha256)",
        (int(before),),
    )


def _encoded(data: bytes) -> tuple[str, bytes]:
    """How a document is kept, and its bytes then."""
    if len(data) >= _COMPRESSED_FROM_BYTES:
        compressed = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(data)
        if len(compressed) < len(data):
            return "zstd", compressed
    return "", data


def _put_document(connection: sqlite3.Connection, row: tuple[str, str, str, int, bytes]) -> None:
    connection.execute(
        "INSERT INTO document (key, media_type, encoding, size, data) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET media_type = excluded.media_type, encoding = excluded.encoding, "
        "size = excluded.size, data = excluded.data",
        row,
    )


def _document(connection: sqlite3.Connection, key: str) -> Document | None:
    select = "SELECT media_type, encoding, size, data FROM document WHERE key = ?"
    row = connection.execute(select, (key,)).fetchone()
    if row is None:
        return None
    media_type, encoding, size, data = row
    if encoding:
        data = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    return Document(data, media_type)


def _document_size(connection: sqlite3.Connection, key: str) -> tuple[int, str] | None:
    found: tuple[int, str] | None = connection.execute(
        "SELECT size, media_type FROM document WHERE key = ?", (key,)
    ).fetchone()
    return found
