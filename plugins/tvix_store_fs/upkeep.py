"""What looking after the packs asks of the index and does to it: statistics, verification, compaction.

Most of it goes through all pieces, or all that are in a pack.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvix_store.sqlite.statements import IN_VALUES, marks, slices, snapshot
from tvix_store_fs import index
from tvix_store_fs.frame import Kind
from tvix_store_fs.index import Entry

__all__ = [
    "Totals",
    "Usage",
    "counts",
    "digests_of",
    "drop_strays",
    "move",
    "packs_of_frames",
    "pieces_in",
    "remove_pack",
    "restore",
    "totals",
    "usage",
]


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a pack is in use.

    Args:
        pack: Its number.
        size: Of its frames, in bytes.
        live: What of that can be seen, or may be needed by an upload; estimated from the decoded lengths.
    """

    pack: int
    size: int
    live: int


def usage(connection: sqlite3.Connection) -> list[Usage]:
    """How much of each pack is in use. Goes through all pieces."""
    rows = connection.execute(
        "WITH used AS (SELECT frame, sum(length) AS bytes FROM ("
        "  SELECT frame, length FROM piece WHERE uses > 0 OR frame >= ?1"
        "  UNION ALL SELECT frame, 36 * n_chunks FROM list) GROUP BY frame) "
        "SELECT frame.pack, sum(frame.size), "
        "sum(iif(frame.raw = 0, 0, frame.size * min(1.0, coalesce(used.bytes, 0) * 1.0 / frame.raw))) "
        "FROM frame LEFT JOIN used ON used.frame = frame.id GROUP BY frame.pack",
        (index.first_protected_frame(connection),),
    ).fetchall()
    return [Usage(pack, size, int(live)) for pack, size, live in rows]


def packs_of_frames(connection: sqlite3.Connection) -> list[int]:
    """The packs that frames are said to be in, ascending."""
    return [pack for (pack,) in connection.execute("SELECT DISTINCT pack FROM frame ORDER BY pack").fetchall()]


def pieces_in(
    connection: sqlite3.Connection, frame: int, digests: Sequence[bytes]
) -> tuple[dict[bytes, int], set[bytes]]:
    """Which of ``digests``, those that a frame lists, are found in it: pieces with their uses, and lists."""
    pieces: dict[bytes, int] = {}
    lists: set[bytes] = set()
    for part in slices(digests, IN_VALUES):
        pieces.update(
            connection.execute(
                f"SELECT CAST(digest AS BLOB), CAST(uses AS INTEGER) FROM piece "
                f"WHERE digest IN ({marks(part)}) AND frame = ?",
                (*part, frame),
            ).fetchall()
        )
        found = connection.execute(
            f"SELECT CAST(digest AS BLOB) FROM list WHERE digest IN ({marks(part)}) AND frame = ?", (*part, frame)
        )
        lists.update(digest for (digest,) in found.fetchall())
    return pieces, lists


def move(
    connection: sqlite3.Connection, pack: int, entries: Sequence[Entry], moved: Sequence[Mapping[int, Sequence[bytes]]]
) -> None:
    """Let pieces, or lists, be found in new copies.

    Args:
        connection: The one that writes.
        pack: Where the copies are.
        entries: The frames of the copies.
        moved: For each frame, by the number of an old one, the digests that were found there until now.
    """
    for entry, sources in zip(entries, moved, strict=True):
        (new,) = connection.execute(
            "INSERT INTO frame (pack, position, size, raw) VALUES (?, ?, ?, ?) RETURNING id",
            (pack, entry.position, entry.size, entry.raw),
        ).fetchone()
        table = "list" if entry.kind == Kind.LISTS else "piece"
        for old, digests in sources.items():
            for part in slices(digests, IN_VALUES):
                connection.execute(
                    f"UPDATE {table} SET frame = ? WHERE digest IN ({marks(part)}) AND frame = ?", (new, *part, old)
                )


def remove_pack(connection: sqlite3.Connection, pack: int, listed: Mapping[int, Sequence[bytes]]) -> bool:
    """Forget a pack of which nothing is in use any more; ``False``, and nothing happens, if something is.

    Args:
        connection: The one that writes.
        pack: Its number.
        listed: The digests in each of its frames.
    """
    protected = index.first_protected_frame(connection)
    for frame, digests in listed.items():
        pieces, lists = pieces_in(connection, frame, digests)
        if lists or any(uses > 0 or frame >= protected for uses in pieces.values()):
            return False
    for frame, digests in listed.items():
        for part in slices(digests, IN_VALUES):
            connection.execute(f"DELETE FROM piece WHERE digest IN ({marks(part)}) AND frame = ?", (*part, frame))
    connection.execute("DELETE FROM frame WHERE pack = ?", (pack,))
    index.forget_pack(connection, pack)
    return True


def restore(connection: sqlite3.Connection, pack: int, entries: Sequence[Entry]) -> None:
    """As ``add``, for frames that may be in the index although things in them are not."""
    for entry in entries:
        row = connection.execute(
            "SELECT id FROM frame WHERE pack = ? AND position = ? AND size = ? AND raw = ?",
            (pack, entry.position, entry.size, entry.raw),
        ).fetchone()
        if row is None:
            connection.execute("DELETE FROM frame WHERE pack = ? AND position = ?", (pack, entry.position))
            index.add(connection, pack, [entry], strictly=False)
        else:
            index.add_contents(connection, row[0], entry, strictly=False)


def digests_of(connection: sqlite3.Connection, frame: int) -> list[tuple[bytes, int]]:
    """What is found in a frame according to the index, with its uses, lists included. Goes through all pieces."""
    return connection.execute(
        "SELECT CAST(digest AS BLOB), CAST(uses AS INTEGER) FROM piece WHERE frame = ?1 "
        "UNION ALL SELECT CAST(digest AS BLOB), 1 FROM list WHERE frame = ?1",
        (frame,),
    ).fetchall()


def counts(connection: sqlite3.Connection) -> dict[int, int]:
    """How many pieces and lists are found in each frame according to the index. Goes through all pieces."""
    return dict(
        connection.execute(
            "SELECT frame, count(*) FROM (SELECT frame FROM piece UNION ALL SELECT frame FROM list) GROUP BY frame"
        ).fetchall()
    )


def drop_strays(connection: sqlite3.Connection) -> list[bytes]:
    """Forget what is said to be in frames that there are not; its digests. Goes through all pieces."""
    strays: list[bytes] = []
    for table, awaited in (("piece", "frame = 0 AND uses > 0 AND uses & 1 = 0"), ("list", "0")):
        rows = connection.execute(
            f"DELETE FROM {table} WHERE frame NOT IN (SELECT id FROM frame) AND NOT ({awaited}) "
            "RETURNING CAST(digest AS BLOB)"
        ).fetchall()
        strays += [digest for (digest,) in rows]
    return strays


@dataclass(frozen=True, slots=True)
class Totals:
    """What there is altogether: numbers of things, and bytes of their contents."""

    blobs: int
    blob_bytes: int
    pieces: int
    piece_bytes: int
    frames: int


def totals(connection: sqlite3.Connection) -> Totals:
    """What there is. Goes through all pieces."""
    with snapshot(connection):
        pieces, piece_bytes, wholes, whole_bytes = connection.execute(
            "SELECT count(*), coalesce(sum(length), 0), coalesce(sum(uses & 1), 0), "
            "coalesce(sum(iif(uses & 1, length, 0)), 0) FROM piece WHERE uses > 0 AND frame > 0"
        ).fetchone()
        lists, list_bytes = connection.execute(
            # A blob of one chunk that was put by itself, too, counts once.
            "SELECT count(*), coalesce(sum(length), 0) FROM list "
            "WHERE NOT EXISTS (SELECT 1 FROM piece WHERE piece.digest = list.digest AND uses & 1)"
        ).fetchone()
        (frames,) = connection.execute("SELECT count(*) FROM frame").fetchone()
    return Totals(wholes + lists, whole_bytes + list_bytes, pieces, piece_bytes, frames)
