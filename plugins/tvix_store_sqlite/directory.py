"""Directories in SQLite, as their canonical encodings."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import islice

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest
from tvix_store.directory import ClosurePutter, DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject
from tvix_store.limits import BATCH_COUNT, MIB
from tvix_store.nodes import Directory
from tvix_store.statistics import ServiceStats
from tvix_store.wire import decode_directory
from tvix_store_sqlite import messages
from tvix_store_sqlite.database import Database

__all__ = ["SqliteDirectoryService"]

_LIST_PAGE = 4096
_WALK_STEP = 256
_WALK_BYTES = 1 * MIB

_Found = Directory | InvalidObject | None
"""A directory, or what is wrong with what is stored in its place, or nothing."""


class SqliteDirectoryService(DirectoryService):
    """Directories in a database. It is closed by whoever opened it, after this service.

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

    async def get(self, digest: B3Digest) -> Directory | None:
        return (await self.get_many([digest]))[0]

    async def put(self, directory: Directory) -> None:
        await self.put_many([directory])

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        found = await self.database.read(partial(_get_many, digests=digests))
        return [self._checked(digest, item) for digest, item in zip(digests, found, strict=True)]

    def _checked(self, digest: B3Digest, found: _Found) -> Directory | None:
        if isinstance(found, InvalidObject):
            raise CorruptObject(f"{self.name}: directory {digest} is corrupt: {found}", expected=str(digest)) from found
        return found

    async def put_many(self, directories: Sequence[Directory]) -> None:
        encodings = [(directory.digest.raw, directory.encode()) for directory in directories]
        await self.database.write(partial(messages.put_many, table="directory", encodings=encodings))

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        walk = _Walk(root)
        while not walk.is_done:
            for digest, found in await self.database.read(walk.step):
                directory = self._checked(digest, found)
                if directory is not None:
                    yield directory
                elif digest != root:
                    raise DanglingReference(f"{self.name}: directory {digest} does not exist, below {root}")

    async def put_multiple_start(self) -> DirectoryPutter:
        return _Putter(self)

    async def list(self) -> AsyncIterator[B3Digest]:
        last = b""
        while keys := await self.database.read(
            partial(messages.keys_after, table="directory", key=last, limit=_LIST_PAGE)
        ):
            for key in keys:
                yield B3Digest(key)
            last = keys[-1]

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        keys = [digest.raw for digest in digests]
        await self.database.write(partial(messages.delete, table="directory", keys=keys))

    async def stats(self) -> ServiceStats:
        n_rows, n_bytes = await self.database.read(partial(messages.count, table="directory"))
        database_bytes = await self.database.stored_bytes()  # of which others may have the greater part
        details = ("database", self.database.path), ("database bytes", database_bytes)
        return ServiceStats(n_rows, n_bytes, n_bytes, details=details)

    async def sync(self) -> None:
        await self.database.sync()

    async def discard_corrupt(self, digest: B3Digest) -> None:
        (data,) = await self.database.read(partial(messages.get_many, table="directory", keys=[digest.raw]))
        if data is not None and B3Digest.of(data) != digest:
            await self.database.write(partial(messages.discard, table="directory", key=digest.raw, data=data))


class _Putter(ClosurePutter):
    """Stores the whole closure in one transaction."""

    def __init__(self, service: SqliteDirectoryService) -> None:
        super().__init__(service)
        self._database = service.database

    async def store(self, encoded: Sequence[bytes]) -> None:
        await self._database.write(partial(_put_closure, encoded=tuple(encoded)))


def _put_closure(connection: sqlite3.Connection, encoded: Sequence[bytes]) -> None:
    messages.put_many(connection, "directory", ((B3Digest.of(directory).raw, directory) for directory in encoded))


def _get_many(connection: sqlite3.Connection, digests: Sequence[B3Digest]) -> list[_Found]:
    encodings = messages.get_many(connection, "directory", [digest.raw for digest in digests])
    return [_decoded(digest, data) for digest, data in zip(digests, encodings, strict=True)]


def _decoded(digest: B3Digest, data: bytes | None) -> _Found:
    """Decode, and hash while still off the event loop."""
    if data is None:
        return None
    try:
        directory = decode_directory(data)
    except InvalidObject as exc:
        return exc
    if directory.digest != digest:
        return InvalidObject(f"what is stored hashes to {directory.digest}")
    return directory


class _Walk:
    """The tree below a directory, from the root down, a bounded part of it at a time."""

    def __init__(self, root: B3Digest) -> None:
        self._waiting = deque([root])
        self._seen = {root}

    @property
    def is_done(self) -> bool:
        return not self._waiting

    def step(self, connection: sqlite3.Connection) -> list[tuple[B3Digest, _Found]]:
        """The next directories; after one that is wrong or absent none of its children."""
        found: list[tuple[B3Digest, _Found]] = []
        n_bytes = 0
        while self._waiting and len(found) < BATCH_COUNT and n_bytes < _WALK_BYTES:
            digests = list(islice(self._waiting, _WALK_STEP))
            for data in messages.each(connection, "directory", [digest.raw for digest in digests]):
                digest = self._waiting.popleft()
                directory = _decoded(digest, data)
                found.append((digest, directory))
                n_bytes += len(data or b"")
                if isinstance(directory, Directory):
                    self._add_children(directory)
                if n_bytes >= _WALK_BYTES:
                    break
        return found

    def _add_children(self, directory: Directory) -> None:
        for _, child in directory.directories():
            if child.digest not in self._seen:
                self._seen.add(child.digest)
                self._waiting.append(child.digest)
