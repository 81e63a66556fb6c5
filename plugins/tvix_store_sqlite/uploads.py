"""Blobs that are being written or removed: who writes them, and what happens to them when nobody does any more.

A blob that is written in several transactions is a row without a digest from its first chunk on, under the name
of its upload. Its chunks are kept for it, and cannot be seen. A row without a digest and without an upload
is waste: its chunks, but for those that others need, are removed a few at a time.

The name of an upload begins with a token of its process, which holds a lock on a file called after that token for as
long as it lives. So whoever opens the database can tell which uploads are dead, also after ``kill -9``.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import sqlite3
import threading

from tvix_store.errors import Unavailable

__all__ = ["Uploads", "is_anything_unfinished", "sweep"]

_SWEEP_CHUNKS = 64


class Uploads:
    """The uploads of one open database, in one process.

    Args:
        path: Of the database; the lock lies beside it while there are uploads that need it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._count = 0
        self._alive: set[str] = set()
        self._descriptor: int | None = None

    def _lock_path(self, token: str) -> str:
        return f"{self._path}-upload-{token}"

    def start(self) -> str:
        """The name for a new upload, by which others see that it is alive. Touches the disk, the first time.

        Raises:
            Unavailable: The lock cannot be had.
        """
        with self._lock:
            if self._descriptor is None:
                lock_path = self._lock_path(self._token)
                try:
                    self._descriptor = _locked(lock_path)
                except OSError as exc:
                    raise Unavailable(f"{lock_path}: the lock for uploads cannot be had: {exc.strerror}") from exc
            self._count += 1
            upload = f"{self._token}:{self._count}"
            self._alive.add(upload)
            return upload

    def finish(self, upload: str) -> None:
        """From now on the upload is dead, and what there is of it can be swept."""
        with self._lock:
            self._alive.discard(upload)

    def is_alive(self, upload: str) -> bool:
        """Whether somebody may still be at this upload: the process that named it has the database open."""
        token = upload.partition(":")[0]
        if token == self._token:
            return upload in self._alive
        return not _remove_unless_locked(self._lock_path(token))

    def remove_dead_locks(self) -> None:
        """Remove the locks of processes that were killed, also of those that left nothing else."""
        for lock_path in glob.glob(f"{glob.escape(self._path)}-upload-*"):
            _remove_unless_locked(lock_path)

    def close(self) -> None:
        """Give up the lock; whatever is unfinished is dead from now on."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._lock_path(self._token))
            os.close(descriptor)


def _locked(path: str) -> int:
    """Make the file and lock it; the descriptor that holds the lock.

    Raises:
        OSError: That cannot be done.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):  # and was not removed by somebody who found it before it was locked
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_unless_locked(path: str) -> bool:
    """Whether the file is gone, removed by us or before; not if somebody holds its lock, or that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return True
    finally:
        os.close(descriptor)


def is_anything_unfinished(connection: sqlite3.Connection) -> bool:
    """Whether there is waste, or an upload that may be dead."""
    return connection.execute("SELECT 1 FROM blob WHERE digest IS NULL LIMIT 1").fetchone() is not None


def sweep(connection: sqlite3.Connection, uploads: Uploads) -> bool:
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
