"""An open pack store: the index, the packs, and the threads that work on them."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, Self, TypeVar

from tvix_store.capabilities import Durability
from tvix_store.errors import ConfigError, CorruptObject, Unavailable
from tvix_store.limits import MIB
from tvix_store.liveness import Liveness
from tvix_store.resource import AsyncResource
from tvix_store.sqlite.database import Database
from tvix_store_fs import index
from tvix_store_fs.appender import Appender
from tvix_store_fs.contents import Contents
from tvix_store_fs.encoding import Encoders
from tvix_store_fs.frame_reader import FrameReader
from tvix_store_fs.in_flight import InFlight
from tvix_store_fs.layout import Layout, Parameters
from tvix_store_fs.pack import Packs
from tvix_store_fs.recovery import recover_all

__all__ = ["MAX_PACK_BYTES", "PackStore"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PACK_BYTES = 256 * MIB
CACHE_BYTES = 16 * MIB


class PackStore(AsyncResource):
    """An open store. ``PackStore.open`` makes one.

    Args:
        name: Of the service, for messages.
        layout: Where its files are.
        durability: What a put that returned survives.
        database: The index, open.
        parameters: What the store was made with.
        users_lock: The descriptor that says that the store is in use.
        cache_bytes: How much of decoded frames is kept.
        max_pack_bytes: Packs that are longer are not appended to.
    """

    def __init__(
        self,
        name: str,
        layout: Layout,
        durability: Durability,
        database: Database,
        parameters: Parameters,
        users_lock: int,
        cache_bytes: int,
        max_pack_bytes: int,
    ) -> None:
        self.name = name
        self.layout = layout
        self.durability = durability
        self.database = database
        self.parameters = parameters
        self.packs = Packs(layout.packs)
        self.reader = FrameReader(self.packs, cache_bytes)
        self.contents = Contents(name, self.reader)
        self.in_flight = InFlight()
        self.staging = InFlight()
        self.staged: list[set[bytes]] = []
        self.liveness = Liveness(layout.uploads)
        self.appender = Appender(self.packs, database, durability, max_pack_bytes)
        self.encoding = Encoders(n_cores())
        self.preparing = ThreadPoolExecutor(n_cores(), thread_name_prefix="fs-preparer")
        self._users_lock = users_lock
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls,
        name: str,
        path: str,
        *,
        durability: Durability = Durability.COMMIT,
        avg_chunk_size: int | None = None,
        cache_bytes: int = CACHE_BYTES,
        max_pack_bytes: int = MAX_PACK_BYTES,
    ) -> Self:
        """Open the store at ``path``, an absolute one, which is made if there is none; recovers what a crash has left.

        Raises:
            ConfigError: There is no place for it, it was made with another average, or by a newer version.
            CorruptObject: The index is damaged, and cannot be made anew while other processes use the store.
            Unavailable: It cannot be read or written.
        """
        layout = Layout(path)
        await asyncio.to_thread(layout.create)
        opening = ExitStack()
        try:
            await asyncio.to_thread(opening.enter_context, layout.opening())
            parameters = await asyncio.to_thread(layout.parameters, avg_chunk_size)
            database = await _open_index(layout)
            try:
                await asyncio.to_thread(recover_all, Packs(layout.packs), database)
                users_lock = await asyncio.to_thread(layout.use)
            except BaseException:
                await database.aclose()
                raise
        finally:
            opening.close()
        store = cls(name, layout, durability, database, parameters, users_lock, cache_bytes, max_pack_bytes)
        await asyncio.to_thread(store.liveness.remove_dead_locks)
        return store

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of ``function``, given a connection to the index and ``arguments``, in a thread that reads."""
        return await self.database.read(lambda connection: function(connection, *arguments))

    async def sync(self) -> None:
        """Return when everything that can be seen survives power loss, also what other processes have written."""
        known = await self.read(index.packs)
        unsynced = {number: pack.end for number, pack in known.items() if pack.synced < pack.end}
        if unsynced:
            await asyncio.to_thread(self.packs.sync, list(unsynced))
            await self.database.write(partial(index.set_synced, packs=unsynced))

    async def prepare(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of ``function`` in a thread of this store, for cutting, hashing and waiting for encoders.

        Raises:
            Unavailable: The store is closed.
        """
        try:
            future = self.preparing.submit(function, *arguments)
        except RuntimeError as exc:
            raise Unavailable(f"{self.layout.path}: is closed") from exc
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await asyncio.to_thread(self._stop_threads)
        finally:
            try:
                await self.database.aclose()
            finally:
                self.liveness.close()
                os.close(self._users_lock)

    def _stop_threads(self) -> None:
        with ExitStack() as stack:  # in reverse order; what fails does not keep the rest open
            stack.callback(self.packs.forget)
            stack.callback(self.reader.clear)
            stack.callback(self.appender.close)
            stack.callback(self.encoding.shutdown)
            stack.callback(self.preparing.shutdown)


def n_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


async def _open_index(layout: Layout) -> Database:
    """The index; if it is missing or damaged it is set aside, and an empty one is opened, to be filled again."""
    is_used = await asyncio.to_thread(layout.is_used)
    if not layout.has_index():
        if is_used:
            raise CorruptObject(f"{layout.index}: is missing; it is made anew once no other process uses the store")
        layout.drop_log()
    elif not is_used and layout.is_new_index_asked_for():
        logger.warning("%s: was found to be damaged, and is made anew", layout.set_index_aside())
        layout.forget_request_for_new_index()
    try:
        return await _open_database(layout)
    except (CorruptObject, ConfigError) as exc:
        if isinstance(exc, ConfigError) and layout.is_index(index.SCHEMA.application_id):
            raise  # of a newer version, or in a place that does not do
        if is_used:
            raise CorruptObject(f"{exc}; it is made anew once no other process uses the store") from exc
        logger.warning("%s: is damaged, and made anew from the packs (%s)", layout.set_index_aside(), exc)
        return await _open_database(layout)


async def _open_database(layout: Layout) -> Database:
    # What the index loses in a power cut is found again in the packs, so its commits are not synced.
    try:
        database = await Database.open(
            layout.index, index.SCHEMA, durability=Durability.BATCHED, max_readers=max(4, n_cores())
        )
        try:
            await database.read(index.check_schema)
        except BaseException:
            await database.aclose()
            raise
    except (sqlite3.Error, UnicodeDecodeError) as exc:  # SQLite quotes what is damaged
        raise CorruptObject(f"{layout.index}: is damaged: {exc}") from exc
    return database
