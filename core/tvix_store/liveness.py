"""Names for things that a process is at, which everybody can tell to be dead once the process is gone.

A name begins with a token of its process, which holds a lock on a file called after that token for as long as it lives.
The lock goes with the process, also after ``kill -9``. So what is kept under such a name, in a database for instance,
can be removed by whoever finds it and is told that the name is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import secrets
import threading

from tvix_store.errors import Unavailable

__all__ = ["Liveness"]

_TOKEN_BYTES = 8


class Liveness:
    """The names that one process gives, under one prefix; those of other processes with that prefix can be asked about.

    All methods may be called in any thread, and touch the disk.

    Args:
        prefix: The path of the lock without ``-TOKEN``, on a local file system. The lock is there while there are names
            that need it, from the first on.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._token = secrets.token_hex(_TOKEN_BYTES)
        self._lock = threading.Lock()
        self._count = 0
        self._alive: set[str] = set()
        self._descriptor: int | None = None
        self._closed = False

    def _lock_path(self, token: str) -> str:
        return f"{self._prefix}-{token}"

    def start(self) -> str:
        """A new name, alive until it is finished or the process is gone: ``TOKEN:NUMBER``, never given twice.

        Raises:
            Unavailable: The lock cannot be had, or this is closed.
        """
        with self._lock:
            lock_path = self._lock_path(self._token)
            if self._closed:
                raise Unavailable(f"{lock_path}: the lock was given up")
            if self._descriptor is None:
                try:
                    self._descriptor = _locked(lock_path)
                except OSError as exc:
                    raise Unavailable(f"{lock_path}: the lock cannot be had: {exc.strerror}") from exc
            self._count += 1
            name = f"{self._token}:{self._count}"
            self._alive.add(name)
            return name

    def finish(self, name: str) -> None:
        """From now on the name is dead. One that is dead already, or not of this process, is passed over."""
        with self._lock:
            self._alive.discard(name)

    def is_alive(self, name: str) -> bool:
        """Whether somebody may still be at it. Others do not see that it is finished before this is closed.

        What is no name at all is dead.
        """
        token = name.partition(":")[0]
        if token == self._token:
            with self._lock:
                return name in self._alive
        return _is_token(token) and not _remove_unless_locked(self._lock_path(token))

    def remove_dead_locks(self) -> None:
        """Remove the locks of processes that were killed, also of those that left nothing else."""
        before_token = self._lock_path("")
        for lock_path in glob.glob(f"{glob.escape(before_token)}*"):
            if _is_token(lock_path.removeprefix(before_token)):
                _remove_unless_locked(lock_path)

    def close(self) -> None:
        """Give up the lock; all names are dead from now on. Safe to call twice."""
        with self._lock:
            self._closed = True
            self._alive.clear()
            if self._descriptor is not None:
                descriptor, self._descriptor = self._descriptor, None
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._lock_path(self._token))
                os.close(descriptor)


def _is_token(text: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{2 * _TOKEN_BYTES}}}", text) is not None


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
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):  # and is not another that somebody made, and locked, meanwhile
                os.unlink(path)
                return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
