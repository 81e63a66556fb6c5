"""The index, as plain functions on a connection. README.md says what each table is for.

Digests are raw bytes here. All of it but the uploads follows from the packs and can be made anew from them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.limits import KIB
from tvix_store.sqlite.schema import Schema
from tvix_store.sqlite.statements import IN_VALUES, marks, slices, snapshot
from tvix_store_fs.frame import Kind, Record, iter_chunks

__all__ = [
    "SCHEMA",
    "Entry",
    "Pack",
    "Place",
    "Vanished",
    "add",
    "add_contents",
    "add_upload",
    "blobs_among",
    "check_schema",
    "delete",
    "drop_frames",
    "drop_lists",
    "drop_pieces",
    "drop_unseen",
    "drop_upload",
    "first_protected_frame",
    "forget_pack",
    "frame_of_list",
    "frames_in",
    "frames_of",
    "frames_with",
    "has_many",
    "list_after",
    "lists_after",
    "next_pack",
    "packs",
    "places",
    "set_pack",
    "set_synced",
    "uploads",
]

SCHEMA = Schema(
    application_id=int.from_bytes(b"TVXI"),
    version=1,
    tables="""
CREATE TABLE pack (id INTEGER PRIMARY KEY AUTOINCREMENT, end INTEGER NOT NULL, synced INTEGER NOT NULL);
CREATE TABLE frame (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pack INTEGER NOT NULL, position INTEGER NOT NULL,
    size INTEGER NOT NULL, raw INTEGER NOT NULL, UNIQUE (pack, position)
);
CREATE TABLE piece (
    digest BLOB PRIMARY KEY, frame INTEGER NOT NULL, length INTEGER NOT NULL, uses INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE list (
    digest BLOB PRIMARY KEY, frame INTEGER NOT NULL, length INTEGER NOT NULL, n_chunks INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE upload (name TEXT PRIMARY KEY, first_frame INTEGER NOT NULL) WITHOUT ROWID;
""",
    page_bytes=4 * KIB,
    what="index of a tvix-store pack store",
)

# Values are cast where they are read: in a damaged index any of them may be of another type.
_PLACE = ", ".join(f"coalesce(CAST({column} AS INTEGER), 0)" for column in ("id", "pack", "position", "size", "raw"))
_COLUMNS = 128
_PUT_ROWS = 64
_LISTED = 2


_FRAME_OF_ANY = "(SELECT CAST(frame AS INTEGER) FROM piece WHERE digest = ?{} AND frame > 0)"


class Vanished(Unavailable):
    """Chunks that a blob is made of have been deleted while it was written; writing it again helps."""


@dataclass(frozen=True, slots=True)
class Pack:
    """How far a pack is known.

    Args:
        end: Behind its last frame that is in the index.
        synced: Up to where it is known to survive power loss.
    """

    end: int
    synced: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame is.

    Args:
        frame: Its number, never used for another.
        pack: The number of the pack.
        position: Where it begins.
        size: Its length, the header included.
        raw: The length of its payload, decoded.
    """

    frame: int
    pack: int
    position: int
    size: int
    raw: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A frame in a pack, to be taken into the index.

    Args:
        position: Where it begins.
        size: Its length, the header included.
        kind: What it holds.
        raw: The length of its payload, decoded.
        records: What is in it.
        payload: Of a frame of lists; not needed for the others.
    """

    position: int
    size: int
    kind: int
    raw: int
    records: Sequence[Record]
    payload: bytes = b""

    def lists(self) -> Iterator[tuple[bytes, list[tuple[bytes, int]]]]:
        """The blobs that a frame of lists has lists of, each with its chunks."""
        start = 0
        for record in self.records:
            yield record.digest, list(iter_chunks(self.payload[start : start + record.length]))
            start += record.length


def check_schema(connection: sqlite3.Connection) -> None:
    """Look whether the tables are those that were made.

    Raises:
        CorruptObject: What the file says of them is damaged.
    """
    rows = connection.execute("SELECT CAST(sql AS BLOB) FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE %'").fetchall()
    found = {bytes(sql).strip() for (sql,) in rows if not sql.startswith(b"CREATE TABLE sqlite_")}
    if found != {table.strip().encode() for table in SCHEMA.tables.split(";\n") if table.strip()}:
        raise CorruptObject("what the index says of its tables is damaged")


# --- looking up -----------------------------------------------------------------------------------------------------


@cache
def _columns(column: str, count: int) -> str:
    """Asks for many values as columns of one row: SQLite gives up the interpreter's lock but once for them."""
    return f"SELECT {','.join(column.format(index) for index in range(1, count + 1))}"


def _each(connection: sqlite3.Connection, column: str, digests: Sequence[bytes]) -> list[int | None]:
    found: list[int | None] = []
    for part in slices(digests, _COLUMNS):
        count = len(part) if len(part) < 8 else _COLUMNS  # few different statements, so that they stay prepared
        padded = [*part, *[None] * (count - len(part))]
        found += connection.execute(_columns(column, count), padded).fetchone()[: len(part)]
    return found


def frames_of(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[int | None]:
    """The frame of each piece, be it a blob or a chunk of one; ``None`` where there is none to be seen."""
    return _each(
        connection, "(SELECT CAST(frame AS INTEGER) FROM piece WHERE digest = ?{} AND uses > 0 AND frame > 0)", digests
    )


def frame_of_list(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[int | None]:
    """The frame of the list of chunks of each blob; ``None`` where it has none."""
    return _each(connection, "(SELECT CAST(frame AS INTEGER) FROM list WHERE digest = ?{})", digests)


def has_many(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bool]:
    """Whether each is there, as a blob or as a chunk of one."""
    with snapshot(connection):
        found = [frame is not None for frame in frames_of(connection, digests)]
        missing = [index for index, is_there in enumerate(found) if not is_there]
        lists = frame_of_list(connection, [digests[index] for index in missing])
    for index, frame in zip(missing, lists, strict=True):
        found[index] = frame is not None
    return found


def blobs_among(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bool]:
    """Whether each is there as a blob, not only as a chunk."""
    with snapshot(connection):
        uses = _each(connection, "(SELECT uses & 1 FROM piece WHERE digest = ?{})", digests)
        lists = frame_of_list(connection, digests)
    return [bool(use) or frame is not None for use, frame in zip(uses, lists, strict=True)]


def places(connection: sqlite3.Connection, frames: Iterable[int]) -> dict[int, Place]:
    """Where frames are; those that are gone are left out."""
    found: dict[int, Place] = {}
    for part in slices(frames, IN_VALUES):
        rows = connection.execute(f"SELECT {_PLACE} FROM frame WHERE id IN ({marks(part)})", part)
        found.update((row[0], Place(*row)) for row in rows.fetchall())
    return found


def frames_in(connection: sqlite3.Connection, pack: int) -> list[Place]:
    """The frames of a pack, in their order."""
    rows = connection.execute(f"SELECT {_PLACE} FROM frame WHERE pack = ? ORDER BY position", (pack,)).fetchall()
    return [Place(*row) for row in rows]


def list_after(connection: sqlite3.Connection, digest: bytes, limit: int) -> list[bytes]:
    """The next blobs in the order of their digests."""
    rows = connection.execute(
        "SELECT CAST(digest AS BLOB) FROM ("
        "  SELECT digest FROM (SELECT digest FROM piece WHERE digest > ?1 AND uses & 1 ORDER BY digest LIMIT ?2)"
        "  UNION SELECT digest FROM (SELECT digest FROM list WHERE digest > ?1 ORDER BY digest LIMIT ?2)"
        ") ORDER BY digest LIMIT ?2",
        (digest, limit),
    )
    return [found for (found,) in rows.fetchall()]


def lists_after(connection: sqlite3.Connection, digest: bytes, limit: int) -> list[tuple[bytes, int]]:
    """The next blobs that are kept in chunks, in the order of their digests, with the frames of their lists."""
    rows = connection.execute(
        "SELECT CAST(digest AS BLOB), frame FROM list WHERE digest > ? ORDER BY digest LIMIT ?", (digest, limit)
    )
    return rows.fetchall()


# --- putting --------------------------------------------------------------------------------------------------------


def add(connection: sqlite3.Connection, pack: int, entries: Sequence[Entry], *, strictly: bool = True) -> None:
    """Take frames of a pack into the index; those that are in it stay as they are.

    Args:
        connection: The one that writes.
        pack: Its number.
        entries: In the order of the pack.
        strictly: Whether a list of chunks that are not there is an error; it is passed over otherwise.

    Raises:
        Vanished: Nothing should be kept of it then.
    """
    for entry in entries:
        row = connection.execute(
            "INSERT INTO frame (pack, position, size, raw) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
            (pack, entry.position, entry.size, entry.raw),
        ).fetchone()
        if row is None:
            continue
        add_contents(connection, row[0], entry, strictly=strictly)


def add_contents(connection: sqlite3.Connection, frame: int, entry: Entry, *, strictly: bool) -> None:
    """Take what is in a frame into the index, as ``add`` does."""
    if entry.kind == Kind.PIECES:
        _add_pieces(connection, frame, entry.records)
    elif entry.kind == Kind.LISTS:
        for blob, chunks in entry.lists():
            _add_list(connection, frame, blob, chunks, strictly)


def _add_pieces(connection: sqlite3.Connection, frame: int, records: Sequence[Record]) -> None:
    rows = sorted((record.digest, frame, record.length, int(record.is_blob)) for record in records)
    for part in slices(rows, _PUT_ROWS):
        connection.execute(
            f"INSERT INTO piece (digest, frame, length, uses) VALUES {','.join(['(?,?,?,?)'] * len(part))} "
            "ON CONFLICT DO UPDATE SET uses = uses | excluded.uses, "
            # One that nobody sees may be on its way out: then the new copy counts.
            "frame = iif(uses = 0 OR frame = 0, excluded.frame, frame), "
            "length = iif(uses = 0 OR frame = 0, excluded.length, length)",
            [value for row in part for value in row],
        )


def _add_list(
    connection: sqlite3.Connection, frame: int, blob: bytes, chunks: Sequence[tuple[bytes, int]], strictly: bool
) -> None:
    if connection.execute("SELECT 1 FROM list WHERE digest = ?", (blob,)).fetchone():
        return
    digests = sorted({digest for digest, _ in chunks})
    if None in _each(connection, _FRAME_OF_ANY, digests):
        if strictly:
            raise Vanished("chunks of the blob were deleted while it was written; write it again")
        return
    connection.execute(
        "INSERT INTO list (digest, frame, length, n_chunks) VALUES (?, ?, ?, ?)",
        (blob, frame, sum(size for _, size in chunks), len(chunks)),
    )
    _count_uses(connection, digests, _LISTED)


def _count_uses(connection: sqlite3.Connection, digests: Sequence[bytes], change: int) -> None:
    for part in slices(digests, IN_VALUES):
        connection.execute(
            f"UPDATE piece SET uses = max(uses + ?, uses & 1) WHERE digest IN ({marks(part)})", (change, *part)
        )
        connection.execute(f"DELETE FROM piece WHERE digest IN ({marks(part)}) AND uses = 0 AND frame = 0", part)


def set_pack(connection: sqlite3.Connection, pack: int, end: int, synced: int) -> None:
    """Note how far a pack is known."""
    connection.execute(
        "INSERT INTO pack (id, end, synced) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET end = excluded.end, synced = min(excluded.end, max(synced, excluded.synced))",
        (pack, end, synced),
    )


def set_synced(connection: sqlite3.Connection, packs: Mapping[int, int]) -> None:
    """Note up to where packs survive power loss by now."""
    for pack, synced in packs.items():
        connection.execute("UPDATE pack SET synced = max(synced, min(end, ?)) WHERE id = ?", (synced, pack))


def packs(connection: sqlite3.Connection) -> dict[int, Pack]:
    """All packs that are known."""
    rows = connection.execute("SELECT id, end, synced FROM pack").fetchall()
    return {number: Pack(end, synced) for number, end, synced in rows}


def next_pack(connection: sqlite3.Connection) -> int:
    """No pack with this number or a greater one has ever been known, so that nobody takes a new one for an old one."""
    (number,) = connection.execute(
        "SELECT 1 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'pack'), 0)"
    ).fetchone()
    return int(number)


def add_upload(connection: sqlite3.Connection, name: str) -> None:
    """Note that an upload begins: what it stores from now on is kept, and what others are storing."""
    connection.execute(
        "INSERT INTO upload (name, first_frame) VALUES (?, ?)", (name, first_protected_frame(connection))
    )


def drop_upload(connection: sqlite3.Connection, name: str) -> None:
    """Note that an upload has ended."""
    connection.execute("DELETE FROM upload WHERE name = ?", (name,))


def uploads(connection: sqlite3.Connection) -> list[str]:
    """The uploads that were begun."""
    return [name for (name,) in connection.execute("SELECT name FROM upload").fetchall()]


def first_protected_frame(connection: sqlite3.Connection) -> int:
    """From this frame on, pieces that nobody sees may belong to uploads."""
    (first,) = connection.execute(
        "SELECT coalesce((SELECT min(first_frame) FROM upload), "
        "1 + (SELECT seq FROM sqlite_sequence WHERE name = 'frame'), 1)"
    ).fetchone()
    return int(first)


# --- removing -------------------------------------------------------------------------------------------------------


def delete(connection: sqlite3.Connection, digests: Sequence[bytes], lists: Mapping[bytes, Sequence[bytes]]) -> None:
    """Remove blobs from sight. Their contents stay in the packs until those are compacted.

    Args:
        connection: The one that writes.
        digests: Of the blobs.
        lists: The chunks of those that were in several when it was looked.
    """
    for part in slices(digests, IN_VALUES):
        connection.execute(f"UPDATE piece SET uses = uses & ~1 WHERE digest IN ({marks(part)})", part)
    drop_lists(connection, lists)


def drop_lists(connection: sqlite3.Connection, lists: Mapping[bytes, Sequence[bytes]]) -> None:
    """Remove lists, each given with the digests of its chunks."""
    for blob, chunks in lists.items():
        if connection.execute("DELETE FROM list WHERE digest = ?", (blob,)).rowcount:
            _count_uses(connection, sorted(set(chunks)), -_LISTED)


def drop_pieces(connection: sqlite3.Connection, frame: int, digests: Sequence[bytes]) -> bool:
    """Forget pieces and lists, of which the copy in ``frame`` is damaged; whether chunks of blobs were among them.

    Of chunks the row stays, with 0 for the frame, as long as lists count on it: a new copy takes the place.
    """
    were_listed = False
    for part in slices(digests, IN_VALUES):
        these = f"WHERE digest IN ({marks(part)}) AND frame = ?"
        listed = connection.execute(
            f"UPDATE piece SET frame = 0, uses = uses & ~1 {these} AND uses >= {_LISTED}", (*part, frame)
        )
        were_listed = were_listed or listed.rowcount > 0
        connection.execute(f"DELETE FROM piece {these}", (*part, frame))
        connection.execute(f"DELETE FROM list {these}", (*part, frame))
    return were_listed


def drop_unseen(connection: sqlite3.Connection, pack: int, position: int) -> None:
    """Forget the pieces from a position on that nobody sees. Goes through all pieces."""
    connection.execute(
        "DELETE FROM piece WHERE uses = 0 AND frame IN (SELECT id FROM frame WHERE pack = ? AND position >= ?)",
        (pack, position),
    )


def frames_with(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[int | None]:
    """As ``frames_of``, those included that nobody sees."""
    return _each(connection, _FRAME_OF_ANY, digests)


def drop_frames(connection: sqlite3.Connection, frames: Sequence[int]) -> None:
    """Forget frames, and what is in them. Goes through all pieces: for packs that were cut or have gone."""
    for part in slices(frames, IN_VALUES):
        for statement in (
            "DELETE FROM piece WHERE frame IN ({})",
            "DELETE FROM list WHERE frame IN ({})",
            "DELETE FROM frame WHERE id IN ({})",
        ):
            connection.execute(statement.format(marks(part)), part)


def forget_pack(connection: sqlite3.Connection, pack: int) -> None:
    """Forget a pack that has no frames any more."""
    connection.execute("DELETE FROM pack WHERE id = ?", (pack,))
