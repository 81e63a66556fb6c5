"""Blobs that are being written or removed: who writes them, and what happens to them when nobody does any more.

A blob that is written in several transactions is a row without a digest from its first chunk on, under the name
of its upload. Its chunks are kept for it, and cannot be seen. A row without a digest and without an upload
is waste: its chunks, but for those that others need, are removed a few at a time.

The name of an upload is one of ``Liveness``. So whoever opens the database can tell which uploads are dead, also after
``kill -9``.
"""

from __future__ import annotations

import sqlite3

from tvix_store.liveness import Liveness

__all__ = ["is_anything_unfinished", "sweep"]

_SWEEP_CHUNKS = 64


def is_anything_unfinished(connection: sqlite3.Connection) -> bool:
    """Whether there is waste, or an upload that may be dead."""
    return connection.execute("SELECT 1 FROM blob WHERE digest IS NULL LIMIT 1").fetchone() is not None


def sweep(connection: sqlite3.Connection, uploads: Liveness) -> bool:
    """Remove some of the waste, the uploads that are dead included; whether there may be more."""
    unfinished = connection.execute("SELECT id, upload FROM blob WHERE digest IS NULL ORDER BY upload").fetchall()
    dead = next((blob for blob, upload in unfinished if upload is None or not uploads.is_alive(upload)), None)
    if dead is None:
        return False
    connection.execute("UPDATE blob SET upload = NULL WHERE id = ?", (dead,))
    _remove_some(connection, dead)
    return True


def _remove_some(connection: sqlite3.Connection, blob: int) -> None:
    chunks = connection.execute(
        "SELECT position, digest FROM chunk WHERE blob = ? ORDER BY position LIMIT ?", (blob, _SWEEP_CHUNKS)
    ).fetchall()
    if not chunks:
        connection.execute("DELETE FROM blob WHERE id = ?", (blob,))
        return
    last, _ = chunks[-1]
    connection.execute("DELETE FROM chunk WHERE blob = ? AND position <= ?", (blob, last))
    for digest in {digest for _, digest in chunks}:
        removed = connection.execute(
            "DELETE FROM piece WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM chunk WHERE digest = ?1)", (digest,)
        )
        if removed.rowcount:
            connection.execute("DELETE FROM content WHERE digest = ?", (digest,))
