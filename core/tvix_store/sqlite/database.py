"""One database file in one process: a thread that writes in groups, and threads that read beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tvix_store.capabilities import Durability
from tvix_store.errors import Unavailable
from tvix_store.resource import AsyncResource
from tvix_store.sqlite.faults import is_busy, translate, translated
from tvix_store.sqlite.schema import SYNCHRONOUS, Schema, open_reader, open_writer

__all__ = ["Database"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_GROUP = 256


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    durable: bool


class Database(AsyncResource):
    """An open database. ``Database.open`` makes one.

    What is read and written is said by plain functions that are given a connection. They run in other threads:
    those that write one after the other, each as a whole or not at all, several to one transaction when
    several wait; those that read at the same time.

    A caller that is cancelled does not stop its function: a write that has begun is carried out.

    Attributes:
        path: Of the file, absolute.
        durability: What a write that returned survives, unless it asks for more.
        commits: How many transactions have been committed, for whoever wants to know how well writes are grouped.
        after_commit: Called in the writer's thread after each transaction. It must not raise, or wait for a write.
    """

    def __init__(self, path: str | None, schema: Schema, durability: Durability, max_readers: int) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if path is None:
            self._directory = tempfile.TemporaryDirectory(prefix="tvix-store-")
            path, durability = os.path.join(self._directory.name, "store.sqlite"), Durability.NONE
        self.path = os.path.abspath(path)
        self.durability = durability
        self.commits = 0
        self.after_commit: Callable[[], None] = _nothing
        self._schema = schema
        self._synchronous = durability
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._reading = ThreadPoolExecutor(max_readers, thread_name_prefix="sqlite-reader")
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._drain_is_due = False
        self._closed = False
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls, path: str | None, schema: Schema, *, durability: Durability = Durability.COMMIT, max_readers: int = 4
    ) -> Self:
        """Open the database at ``path``, made if there is none; ``None`` is a private one that goes when closed.

        Args:
            path: Of the file; the directories above it are made, too.
            schema: What the file is set up with, or has to have.
            durability: What a write that returned survives; a private database keeps nothing.
            max_readers: How many threads read at once; at least 1.

        Raises:
            ConfigError: There is no place for it, or it is of another program or a newer version.
            CorruptObject: It is damaged.
            Unavailable: Others keep it locked.
        """
        database = cls(path, schema, durability, max_readers)
        try:
            await asyncio.wrap_future(database._writing.submit(database._open))
        except BaseException:
            await database.aclose()
            raise
        return database

    def _open(self) -> None:
        with translated(self.path):
            self._writer = open_writer(self.path, self._schema, self.durability)

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """The result of ``function``, run in a thread with a connection that only reads.

        Raises:
            Unavailable: The database is closed, or SQLite could not read it.
            CorruptObject: The database is damaged.
        """
        return await asyncio.wrap_future(self.submit_read(function))

    def submit_read(self, function: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """As ``read``, without waiting for it; may be called in any thread."""
        try:
            return self._reading.submit(self._read, function)
        except RuntimeError as exc:
            raise self._is_closed() from exc

    def _read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        with translated(self.path):
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = open_reader(self.path)
                self._readers.append(connection)
            try:
                return function(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    async def write(self, function: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """The result of ``function``, run in the writer's thread within a transaction and committed.

        It may be run a second time if the first attempt was rolled back with others of its group.

        Args:
            function: What is to be done.
            durable: Whether what it wrote, and everything that was committed before, has to survive power loss, even if
                it wrote nothing. A database whose durability is ``NONE`` cannot do that, and does not try.

        Raises:
            OutOfSpace: Nothing of it is stored.
            Unavailable: Nothing of it is stored: the database is closed, locked or cannot be written.
            CorruptObject: The database is damaged.
        """
        return await asyncio.wrap_future(self.submit(function, durable=durable))

    def submit(self, function: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> Future[T]:
        """As ``write``, without waiting for it; may be called in any thread."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise self._is_closed()
            self._jobs.append(_Job(function, future, durable))
            if not self._drain_is_due:
                self._drain_is_due = True
                self._writing.submit(self._drain)
        return future

    def repeat(self, function: Callable[[sqlite3.Connection], bool]) -> Future[None]:
        """Write with ``function`` again and again, between other writes, until it says that nothing is left to do."""
        finished: Future[None] = Future()
        finished.set_running_or_notify_cancel()

        def once() -> None:
            try:
                self.submit(function).add_done_callback(again)
            except Unavailable as exc:
                finished.set_exception(exc)

        def again(done: Future[bool]) -> None:
            if (failure := done.exception()) is not None:
                finished.set_exception(failure)
            elif done.result():
                once()
            else:
                finished.set_result(None)

        once()
        return finished

    def _is_closed(self) -> Unavailable:
        return Unavailable(f"database {self.path}: is closed")

    def _drain(self) -> None:
        """Carry out what is waiting; what comes meanwhile is the next group."""
        while True:
            with self._lock:
                group = [self._jobs.popleft() for _ in range(min(len(self._jobs), _MAX_GROUP))]
                if not group:
                    self._drain_is_due = False
                    return
            if jobs := [job for job in group if job.future.set_running_or_notify_cancel()]:
                self._carry_out(jobs)

    def _carry_out(self, jobs: Sequence[_Job]) -> None:
        try:
            outcomes = self._transaction(jobs)
        except Exception as exc:
            if len(jobs) > 1 and not (isinstance(exc, sqlite3.Error) and is_busy(exc)):
                for job in jobs:  # it may be the fault of one of them; the others need not suffer
                    self._carry_out([job])
                return
            outcomes = [exc] * len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, _Done):
                job.future.set_result(outcome.result)
            elif isinstance(outcome, sqlite3.Error):
                job.future.set_exception(translate(outcome, self.path) or outcome)
            else:
                job.future.set_exception(outcome)

    def _transaction(self, jobs: Sequence[_Job]) -> list[_Done | Exception]:
        """Run all in one transaction, which one that fails does not spoil for the others.

        Raises:
            Exception: The transaction is lost, with what all of them did.
        """
        assert self._writer is not None
        writer = self._writer
        outcomes: list[_Done | Exception] = []
        # Power loss can damage what is not synced as a whole; to sync one transaction would promise too much.
        durable = self.durability is not Durability.NONE and any(job.durable for job in jobs)
        self._synchronize(Durability.COMMIT if durable else self.durability)
        writer.execute("BEGIN IMMEDIATE")
        try:
            if len(jobs) == 1:  # it needs no protection from others
                outcomes.append(_Done(jobs[0].function(writer)))
                jobs = []
            for job in jobs:
                writer.execute("SAVEPOINT job")
                try:
                    outcomes.append(_Done(job.function(writer)))
                except Exception as exc:
                    if not writer.in_transaction:  # SQLite gives up the whole of it after some errors
                        raise
                    writer.execute("ROLLBACK TO job")
                    outcomes.append(exc)
                writer.execute("RELEASE job")
            if durable:  # a transaction that changes no page is not synced, nor are those before it
                writer.execute(f"PRAGMA application_id = {self._schema.application_id}")
            writer.execute("COMMIT")
        except BaseException:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise
        self.commits += 1
        self.after_commit()
        return outcomes

    def _synchronize(self, durability: Durability) -> None:
        """Have the transactions from now on survive this; not while in one."""
        assert self._writer is not None
        if durability is not self._synchronous:
            self._writer.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
            self._synchronous = durability

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(asyncio.to_thread(self._close))
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        with self._lock:
            self._closed = True
        with contextlib.ExitStack() as stack:  # in reverse order; what fails does not keep the rest open
            if self._directory is not None:
                stack.callback(self._directory.cleanup)
            stack.callback(self._close_writer)
            stack.callback(self._writing.shutdown)  # after what is waiting
            stack.callback(self._close_readers)
            stack.callback(self._reading.shutdown)

    def _close_readers(self) -> None:
        for connection in self._readers:
            connection.close()

    def _close_writer(self) -> None:
        if self._writer is None:
            return
        with translated(self.path), contextlib.closing(self._writer) as writer:
            try:
                writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as exc:  # then all of it is in the log still, whence the next to open it takes it
                logger.warning("database %s: the log stays beside it: %s", self.path, exc)


@dataclass(frozen=True, slots=True)
class _Done:
    result: Any


def _nothing() -> None:
    pass
