"""The database of this plugin's services: a file with their tables, and the removal of what blobs leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Self, TypeVar

from tvix_store.capabilities import Durability
from tvix_store.liveness import Liveness
from tvix_store.resource import AsyncResource
from tvix_store.sqlite import database
from tvix_store_sqlite.schema import SCHEMA
from tvix_store_sqlite.uploads import is_anything_unfinished, sweep

__all__ = ["Database"]

T = TypeVar("T")


class Database(AsyncResource):
    """An open database. ``Database.open`` makes one.

    Args:
        file: The file; closed with this.
    """

    def __init__(self, file: database.Database) -> None:
        self.uploads = Liveness(f"{file.path}-upload")
        self._file = file
        self._sweep_is_due = False
        self._closing: asyncio.Future[None] | None = None
        file.after_commit = self._sweep_again

    @classmethod
    async def open(cls, path: str | None, *, durability: Durability = Durability.COMMIT, max_readers: int = 4) -> Self:
        """Open the database at ``path``, made if there is none; ``None`` is a private one that goes when closed.

        Raises:
            ConfigError: There is no place for it, or it is of another program or a newer version.
            CorruptObject: It is damaged.
            Unavailable: Others keep it locked.
        """
        file = await database.Database.open(path, SCHEMA, durability=durability, max_readers=max_readers)
        opened = cls(file)
        try:
            if await file.read(is_anything_unfinished):
                opened.sweep()
            await asyncio.to_thread(opened.uploads.remove_dead_locks)
        except BaseException:
            await opened.aclose()
            raise
        return opened

    @property
    def path(self) -> str:
        """Of the file, absolute."""
        return self._file.path

    @property
    def durability(self) -> Durability:
        """What a write that returned survives."""
        return self._file.durability

    @property
    def commits(self) -> int:
        """How many transactions have been committed."""
        return self._file.commits

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """The result of ``function``, run in a thread with a connection that only reads."""
        return await self._file.read(function)

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """The result of ``function``, run in the writer's thread within a transaction and committed."""
        return await self._file.write(function)

    async def sync(self) -> None:
        """Wait until what was written before survives power loss, if writes are to survive it at some time at all."""
        if self.durability is Durability.BATCHED:
            await self._file.write(_nothing, durable=True)

    async def stored_bytes(self) -> int:
        """The size of the file, with the log that is written beside it."""
        return await asyncio.to_thread(_stored_bytes, self.path)

    def submit(self, function: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """As ``write``, without waiting for it; may be called in any thread."""
        return self._file.submit(function)

    def sweep(self) -> Future[None]:
        """Remove what is left of blobs that were deleted or not finished, between other writes.

        If that fails, it is tried again after the next write that does not.
        """
        sweeping = self._file.repeat(partial(sweep, uploads=self.uploads))
        sweeping.add_done_callback(self._remember_to_sweep)
        return sweeping

    def _remember_to_sweep(self, sweeping: Future[None]) -> None:
        self._sweep_is_due = sweeping.exception() is not None

    def _sweep_again(self) -> None:
        if self._sweep_is_due:
            self._sweep_is_due = False
            self.sweep()

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self._file.aclose()
        finally:
            await asyncio.to_thread(self.uploads.close)  # after what is waiting


def _nothing(connection: sqlite3.Connection) -> None:
    pass


def _stored_bytes(path: str) -> int:
    n_bytes = os.stat(path).st_size
    with contextlib.suppress(FileNotFoundError):
        n_bytes += os.stat(f"{path}-wal").st_size
    return n_bytes
