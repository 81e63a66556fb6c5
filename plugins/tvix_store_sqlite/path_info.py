"""Path infos in SQLite, as their encodings."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial

from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.statistics import ServiceStats
from tvix_store.wire import decode_path_info, encode_path_info
from tvix_store_sqlite import messages
from tvix_store_sqlite.database import Database

__all__ = ["SqlitePathInfoService"]

_LIST_PAGE = 256

_Found = PathInfo | InvalidObject | None
"""A path info, or what is wrong with what is stored in its place, or nothing."""


class SqlitePathInfoService(PathInfoService):
    """Path infos in a database. It is closed by whoever opened it, after this service.

    Args:
        name: Of the service, for messages.
        database: May be shared with other services.
    """

    def __init__(self, name: str, database: Database) -> None:
        self.name = name
        self.database = database

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True, durability=self.database.durability)

    async def get(self, digest: bytes) -> PathInfo | None:
        return (await self.get_many([digest]))[0]

    async def put(self, path_info: PathInfo) -> PathInfo:
        return (await self.put_many([path_info]))[0]

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        found = await self.database.read(partial(_get_many, digests=digests))
        path_infos: list[PathInfo | None] = []
        for digest, item in zip(digests, found, strict=True):
            if isinstance(item, InvalidObject):
                raise self._corrupt(digest, item) from item
            path_infos.append(item)
        return path_infos

    def _corrupt(self, digest: bytes, reason: InvalidObject) -> CorruptObject:
        return CorruptObject(f"{self.name}: path info {digest.hex()} is corrupt: {reason}", expected=digest.hex())

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        encodings = [(path_info.store_path.digest, encode_path_info(path_info)) for path_info in path_infos]
        await self.database.write(partial(messages.put_many, table="path_info", encodings=encodings))
        return path_infos

    async def list(self) -> AsyncIterator[PathInfo]:
        last = b""
        while page := await self.database.read(partial(_page_after, key=last)):
            for digest, item in page:
                if isinstance(item, InvalidObject):
                    raise self._corrupt(digest, item) from item
                yield item
            last = page[-1][0]

    async def delete(self, digests: Sequence[bytes]) -> None:
        await self.database.write(partial(messages.delete, table="path_info", keys=digests))

    async def stats(self) -> ServiceStats:
        n_rows, n_bytes = await self.database.read(partial(messages.count, table="path_info"))
        database_bytes = await self.database.stored_bytes()  # of which others may have the greater part
        details = ("database", self.database.path), ("database bytes", database_bytes)
        return ServiceStats(n_rows, n_bytes, n_bytes, details=details)

    async def discard_corrupt(self, digest: bytes) -> None:
        (data,) = await self.database.read(partial(messages.get_many, table="path_info", keys=[digest]))
        if data is not None and isinstance(_decoded(digest, data), InvalidObject):
            await self.database.write(partial(messages.discard, table="path_info", key=digest, data=data))


def _get_many(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[_Found]:
    encodings = messages.get_many(connection, "path_info", digests)
    return [None if data is None else _decoded(digest, data) for digest, data in zip(digests, encodings, strict=True)]


def _page_after(connection: sqlite3.Connection, key: bytes) -> list[tuple[bytes, PathInfo | InvalidObject]]:
    rows = messages.page_after(connection, "path_info", key, _LIST_PAGE)
    return [(digest, _decoded(digest, data)) for digest, data in rows]


def _decoded(digest: bytes, data: bytes) -> PathInfo | InvalidObject:
    try:
        path_info = decode_path_info(data)
    except InvalidObject as exc:
        return exc
    if path_info.store_path.digest != digest:
        return InvalidObject(f"it is about another path, {path_info.store_path}")
    return path_info
