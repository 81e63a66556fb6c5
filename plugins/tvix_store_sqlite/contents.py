"""The tables that hold blobs, as plain functions on a connection. README.md says what each table is for.

Digests are raw bytes here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from blake3 import blake3

from tvix_store.errors import Unavailable
from tvix_store.sqlite.statements import IN_VALUES, PUT_ROWS, flat, marks, rows, slices, snapshot

__all__ = [
    "Chunked",
    "Chunks",
    "Damage",
    "Piece",
    "TooLong",
    "chunks_of",
    "count",
    "delete",
    "discard",
    "find_damage",
    "get",
    "get_many",
    "has_many",
    "list_after",
    "publish",
    "put_many",
    "stage",
]

Piece = tuple[bytes, bytes | memoryview]
"""The digest of some contents, and those."""

Chunks = list[tuple[bytes, int]]
"""Digest and size of each piece of a blob, in their order."""

_GET_COLUMNS = 32

_IS_FINISHED = """EXISTS (
    SELECT 1 FROM chunk JOIN blob ON blob.id = chunk.blob WHERE chunk.digest = piece.digest AND blob.digest IS NOT NULL
)"""


@dataclass(frozen=True, slots=True)
class Chunked:
    """A blob that is kept in several pieces.

    Args:
        blob: Its number, never used for another.
        chunks: At least two.
    """

    blob: int
    chunks: Chunks


@dataclass(frozen=True, slots=True)
class TooLong:
    """In the place of contents that are longer than asked for."""

    size: int


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with what is stored under a digest.

    Args:
        contents: Digests of contents that do not hash to them.
        blob: The number of a blob that its pieces, though right, do not make up; ``None`` if there is none.
    """

    contents: list[bytes]
    blob: int | None


def put_many(
    connection: sqlite3.Connection, wholes: Sequence[Piece], chunked: Sequence[tuple[bytes, list[Piece]]]
) -> None:
    """Store blobs of one piece, and blobs of several with their pieces; what is there stays as it is."""
    for part in slices(wholes, PUT_ROWS):
        inserted = connection.execute(
            f"INSERT INTO content (digest, data) VALUES {rows(part)} ON CONFLICT DO NOTHING", flat(part)
        )
        if inserted.rowcount < len(part):  # some may have been no more than pieces of other blobs
            digests = [digest for digest, _ in part]
            connection.execute(f"DELETE FROM piece WHERE digest IN ({marks(digests)})", digests)
    for digest, pieces in chunked:
        row = connection.execute(
            "INSERT INTO blob (digest) VALUES (?) ON CONFLICT DO NOTHING RETURNING id", (digest,)
        ).fetchone()
        if row is not None:
            _put_pieces(connection, row[0], 0, pieces)


def _put_pieces(connection: sqlite3.Connection, blob: int, position: int, pieces: Sequence[Piece]) -> None:
    for digest, data in pieces:
        inserted = connection.execute(
            "INSERT INTO content (digest, data) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, data)
        )
        if inserted.rowcount:
            connection.execute("INSERT INTO piece (digest) VALUES (?)", (digest,))
    connection.executemany(
        "INSERT INTO chunk (blob, position, digest, size) VALUES (?, ?, ?, ?)",
        [(blob, position + index, digest, len(data)) for index, (digest, data) in enumerate(pieces)],
    )


def stage(connection: sqlite3.Connection, upload: str, position: int, pieces: Sequence[Piece]) -> None:
    """Keep the next pieces of a blob that is being written; nobody sees them yet.

    Args:
        connection: The one that writes.
        upload: What the upload is called.
        position: How many pieces came before.
        pieces: At least one.

    Raises:
        Unavailable: The upload is gone, with what came before.
    """
    if position == 0:
        (blob,) = connection.execute("INSERT INTO blob (upload) VALUES (?) RETURNING id", (upload,)).fetchone()
    else:
        blob = _staged(connection, upload)
    _put_pieces(connection, blob, position, pieces)


def _staged(connection: sqlite3.Connection, upload: str) -> int:
    row = connection.execute("SELECT id FROM blob WHERE digest IS NULL AND upload = ?", (upload,)).fetchone()
    if row is None:
        raise Unavailable("what was written of the blob so far has been removed; write it again")
    return int(row[0])


def publish(connection: sqlite3.Connection, upload: str, position: int, pieces: Sequence[Piece], digest: bytes) -> bool:
    """Keep the last pieces of a blob and let it be seen.

    Returns:
        Whether it was new; if not, its pieces are waste to be swept.

    Raises:
        Unavailable: The upload is gone, with what came before.
    """
    blob = _staged(connection, upload)
    if connection.execute("SELECT 1 FROM blob WHERE digest = ?", (digest,)).fetchone():
        connection.execute("UPDATE blob SET upload = NULL WHERE id = ?", (blob,))
        return False
    _put_pieces(connection, blob, position, pieces)
    connection.execute("UPDATE blob SET digest = ?, upload = NULL WHERE id = ?", (digest, blob))
    return True


def has_many(connection: sqlite3.Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those that are there, as blobs or as chunks of them."""
    with snapshot(connection):
        found = _among(connection, "SELECT digest FROM content WHERE digest IN ({})", digests)
        found -= _hidden_among(connection, digests)
        missing = [digest for digest in digests if digest not in found]
        return found | _chunked_among(connection, missing)


def _among(connection: sqlite3.Connection, select: str, digests: Sequence[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for part in slices(digests, IN_VALUES):
        found.update(digest for (digest,) in connection.execute(select.format(marks(part)), part))
    return found


def _chunked_among(connection: sqlite3.Connection, digests: Sequence[bytes]) -> set[bytes]:
    return _among(connection, "SELECT digest FROM blob WHERE digest IN ({})", digests)


def _hidden_among(connection: sqlite3.Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those whose contents are no more than pieces of blobs that are not finished."""
    return _among(connection, f"SELECT digest FROM piece WHERE digest IN ({{}}) AND NOT {_IS_FINISHED}", digests)


def get_many(
    connection: sqlite3.Connection, digests: Sequence[bytes], max_blob_bytes: int
) -> list[bytes | TooLong | None]:
    """The contents of blobs, in the order of ``digests``; ``None`` where absent. What is too long is not loaded."""
    found: list[bytes | int | None] = []
    with snapshot(connection):
        for part in slices(digests, _GET_COLUMNS):
            found += connection.execute(_get_columns(len(part)), (max_blob_bytes, *part)).fetchone()
        hidden = _hidden_among(connection, digests)
        missing = [digest for digest, value in zip(digests, found, strict=True) if value is None]
        chunked = {digest: chunks_of(connection, digest) for digest in _chunked_among(connection, missing)}
        blobs: list[bytes | TooLong | None] = []
        for digest, value in zip(digests, found, strict=True):
            if digest in hidden:
                blobs.append(None)
            elif (blob := chunked.get(digest)) is not None:
                blobs.append(_join(connection, blob, max_blob_bytes))
            else:
                blobs.append(TooLong(value) if isinstance(value, int) else value)
    return blobs


@cache
def _get_columns(count: int) -> str:
    """Gets contents, or their length if that is more than ?1, as columns of one row: SQLite makes it in one step."""
    column = "(SELECT iif(length(data) <= ?1, data, length(data)) FROM content WHERE digest = ?{})"
    return f"SELECT {','.join(column.format(index) for index in range(2, 2 + count))}"


def _join(connection: sqlite3.Connection, chunked: Chunked, max_blob_bytes: int) -> bytes | TooLong:
    size = sum(size for _, size in chunked.chunks)
    if size > max_blob_bytes:
        return TooLong(size)
    return b"".join(get(connection, digest) or b"" for digest, _ in chunked.chunks)


def get(connection: sqlite3.Connection, digest: bytes) -> bytes | None:
    """Contents of one piece, be it a blob or not; ``None`` if absent."""
    with snapshot(connection):
        row = connection.execute("SELECT data FROM content WHERE digest = ?", (digest,)).fetchone()
        return None if row is None or _hidden_among(connection, [digest]) else bytes(row[0])


def chunks_of(connection: sqlite3.Connection, digest: bytes) -> Chunked | None:
    """The pieces of a blob that is kept in several; ``None`` if there is no such blob."""
    row = connection.execute("SELECT id FROM blob WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return None
    rows = connection.execute("SELECT digest, size FROM chunk WHERE blob = ? ORDER BY position", row)
    return Chunked(row[0], rows.fetchall())


def list_after(connection: sqlite3.Connection, digest: bytes, limit: int) -> list[bytes]:
    """The next blobs in the order of their digests."""
    rows = connection.execute(
        "SELECT digest FROM content WHERE digest > ?1 "
        "AND NOT EXISTS (SELECT 1 FROM piece WHERE piece.digest = content.digest) "
        "UNION SELECT digest FROM blob WHERE digest > ?1 ORDER BY digest LIMIT ?2",
        (digest, limit),
    )
    return [found for (found,) in rows]


def count(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """How many blobs there are, how many bytes they have together, and how many bytes their contents are kept in."""
    wholes = "SELECT count(*), ifnull(sum(length(data)), 0) FROM content WHERE digest NOT IN piece"
    pieces = f"SELECT ifnull(sum(length(data)), 0) FROM content JOIN piece USING (digest) WHERE {_IS_FINISHED}"
    chunked = "SELECT count(*) FROM blob WHERE digest IS NOT NULL"
    chunks = "SELECT ifnull(sum(size), 0) FROM chunk JOIN blob ON blob.id = chunk.blob WHERE blob.digest IS NOT NULL"
    with snapshot(connection):
        n_wholes, whole_bytes = connection.execute(wholes).fetchone()
        (piece_bytes,) = connection.execute(pieces).fetchone()
        (n_chunked,) = connection.execute(chunked).fetchone()
        (chunk_bytes,) = connection.execute(chunks).fetchone()
    return n_wholes + n_chunked, whole_bytes + chunk_bytes, whole_bytes + piece_bytes


def delete(connection: sqlite3.Connection, digests: Iterable[bytes]) -> bool:
    """Remove blobs from sight; whether there is waste to be swept."""
    waste = False
    for digest in digests:
        unfinished = connection.execute("UPDATE blob SET digest = NULL WHERE digest = ?", (digest,))
        waste = waste or unfinished.rowcount > 0
        if connection.execute("SELECT 1 FROM chunk WHERE digest = ?", (digest,)).fetchone():
            connection.execute(
                "INSERT INTO piece (digest) SELECT digest FROM content WHERE digest = ? ON CONFLICT DO NOTHING",
                (digest,),
            )
        else:
            connection.execute("DELETE FROM content WHERE digest = ?", (digest,))
            connection.execute("DELETE FROM piece WHERE digest = ?", (digest,))
    return waste


def find_damage(connection: sqlite3.Connection, digest: bytes) -> Damage | None:
    """Look at all that is stored under a digest, one piece at a time; ``None`` if nothing is wrong with it."""
    chunked = chunks_of(connection, digest)
    if chunked is None:
        data = get(connection, digest)
        return Damage([digest], None) if data is not None and blake3(data).digest() != digest else None
    wrong: list[bytes] = []
    hasher = blake3()
    for piece, size in chunked.chunks:
        data = get(connection, piece)
        if data is None or len(data) != size or blake3(data).digest() != piece:
            wrong.append(piece)
        else:
            hasher.update(data)
    if wrong:
        return Damage(wrong, None)
    return Damage([], chunked.blob) if hasher.digest() != digest else None


def discard(connection: sqlite3.Connection, damage: Damage) -> None:
    """Forget contents that are wrong, and every blob that they are in; leaves waste to be swept.

    Looks again first: they may have been healed meanwhile.
    """
    if damage.blob is not None:
        connection.execute("UPDATE blob SET digest = NULL WHERE id = ?", (damage.blob,))
    for digest in damage.contents:
        row = connection.execute("SELECT data FROM content WHERE digest = ?", (digest,)).fetchone()
        if row is not None and blake3(row[0]).digest() == digest:
            continue
        connection.execute(
            "UPDATE blob SET digest = NULL, upload = NULL WHERE id IN (SELECT blob FROM chunk WHERE digest = ?)",
            (digest,),
        )
        connection.execute("DELETE FROM content WHERE digest = ?", (digest,))
        connection.execute("DELETE FROM piece WHERE digest = ?", (digest,))
