"""One thread that appends frames to a pack, makes them durable and notes them in the index, several puts at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tvix_store.capabilities import Durability
from tvix_store.errors import StoreError, Unavailable
from tvix_store.limits import MIB
from tvix_store.sqlite.database import Database
from tvix_store_fs import index, recovery
from tvix_store_fs.frame import EncodedFrame, Kind
from tvix_store_fs.index import Entry
from tvix_store_fs.pack import Packs, WritablePack

__all__ = ["Appender", "IndexStep", "take_in"]

_MAX_GROUP = 64
_UNSYNCED_BYTES = 64 * MIB

IndexStep = Callable[[sqlite3.Connection, int, Sequence[Entry]], Any]
"""What is done to the index once frames are in a pack: given the pack's number and where each frame is."""


def take_in(connection: sqlite3.Connection, pack: int, entries: Sequence[Entry]) -> None:
    """The usual step: the frames and what is in them can be found from now on."""
    index.add(connection, pack, entries)


@dataclass(slots=True)
class _Job:
    frames: Sequence[EncodedFrame]
    step: IndexStep
    durable: bool
    lazy: bool
    synced: bool
    future: Future[Any] = field(default_factory=Future)


class Appender:
    """Appends to a pack of its own, which is locked as long as this is open.

    Args:
        packs: Where the packs are.
        database: The index.
        durability: What a put that returned survives.
        max_pack_bytes: A pack that is longer is not appended to any more.
    """

    def __init__(self, packs: Packs, database: Database, durability: Durability, max_pack_bytes: int) -> None:
        self._packs = packs
        self._database = database
        self._durability = durability
        self._max_pack_bytes = max_pack_bytes
        self._pack: WritablePack | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fs-appender")
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._drain_is_due = False
        self._closed = False

    def submit(
        self,
        frames: Sequence[EncodedFrame],
        step: IndexStep = take_in,
        *,
        durable: bool = False,
        lazy: bool = False,
        synced: bool = False,
    ) -> Future[Any]:
        """Append frames and carry out ``step``; its result, once both are durable as this store promises.

        May be called in any thread. A future that is cancelled before its turn comes leaves nothing.

        Args:
            frames: May be none, if only the index changes.
            step: Is carried out as a whole or not at all.
            durable: Whether it has to survive power loss whatever is promised, also in the index, and everything
                that was submitted before with it.
            lazy: Whether it need not be durable before something later is.
            synced: Whether ``step`` has to wait until the frames are durable, since they replace others that are.

        Raises:
            Unavailable: It is closed. The future may have this, OutOfSpace, or what ``step`` raises; then nothing
                can be seen of it.
        """
        job = _Job(frames, step, durable, lazy, synced)
        with self._lock:
            if self._closed:
                raise Unavailable(f"{self._packs.directory}: is closed")
            self._jobs.append(job)
            if not self._drain_is_due:
                self._drain_is_due = True
                self._thread.submit(self._drain)
        return job.future

    def run(self, function: Callable[[], Any]) -> Future[Any]:
        """Call ``function`` in the thread that appends, between groups."""
        return self._thread.submit(function)

    def _drain(self) -> None:
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
            entries = self._append(jobs)
        except Exception as exc:
            if len(jobs) > 1:
                for job in jobs:  # there may be room for some of them
                    self._carry_out([job])
            else:
                jobs[0].future.set_exception(exc)
            return
        self._index(jobs, entries)

    def _append(self, jobs: Sequence[_Job]) -> list[list[Entry]]:
        """Append the frames of all jobs, and sync if it is time to; where they are."""
        frames = [frame for job in jobs for frame in job.frames]
        durable = any(job.durable for job in jobs)
        if not frames:
            if self._pack is not None and (durable or self._is_sync_due(jobs, self._pack)):
                self._sync(self._pack, self._pack.end)
            return [[] for _ in jobs]
        pack = self._writable()
        start = pack.append([part for frame in frames for part in (frame.header, frame.payload)])
        if durable or self._is_sync_due(jobs, pack):
            self._sync(pack, start)
        entries: list[list[Entry]] = []
        for job in jobs:
            entries.append([])
            for frame in job.frames:
                payload = frame.payload if frame.kind is Kind.LISTS else b""
                entries[-1].append(Entry(start, frame.size, frame.kind, frame.raw_bytes, frame.records, payload))
                start += frame.size
        return entries

    def _is_sync_due(self, jobs: Sequence[_Job], pack: WritablePack) -> bool:
        if self._durability is Durability.COMMIT and not all(job.lazy for job in jobs):
            return True
        is_much = pack.unsynced_bytes >= _UNSYNCED_BYTES
        return self._durability is not Durability.NONE and (is_much or any(job.synced for job in jobs))

    def _writable(self) -> WritablePack:
        """The pack to append to; another one if it is full."""
        if self._pack is not None and self._pack.end >= self._max_pack_bytes:
            self.leave_pack()
        if self._pack is None:
            self._pack = self._adopt() or self._create()
        return self._pack

    def _create(self) -> WritablePack:
        number = self._database.submit_read(index.next_pack).result()
        return self._packs.create(number, durable=self._durability is not Durability.NONE)

    def _adopt(self) -> WritablePack | None:
        """A pack that nobody writes to and that is not full."""
        for number in reversed(self._packs.numbers()):
            pack = self._packs.lock(number)
            if pack is None:
                continue
            try:
                is_pack = self._packs.has_header(number)
                if is_pack:
                    recovery.recover(self._packs, [pack], self._database)
                    if pack.end < self._max_pack_bytes:
                        return pack
            except BaseException:
                pack.close()
                raise
            pack.close()
            if is_pack:  # those before it are full, too
                return None
        return None

    def leave_pack(self) -> None:
        """Give up the pack that is appended to, after syncing it; in the thread that appends."""
        pack, self._pack = self._pack, None
        if pack is not None:
            try:
                self._sync(pack, pack.end)
                self._database.submit(partial(index.set_pack, pack=pack.number, end=pack.end, synced=pack.end)).result()
            finally:
                pack.close()

    def _sync(self, pack: WritablePack, end: int) -> None:
        """Sync the pack; if that fails, nothing more goes there, and what is behind ``end`` is cut off.

        What the system still holds of it is uncertain then. So the chunks in it that belong to uploads are forgotten,
        which makes those fail; blobs, if there are any, were put without the promise that they survive power loss.
        """
        unsynced_from = pack.end - pack.unsynced_bytes
        try:
            pack.sync()
        except StoreError:
            self._pack = None
            with contextlib.closing(pack), contextlib.suppress(StoreError):
                pack.cut(end)
            drop = partial(index.drop_unseen, pack=pack.number, position=unsynced_from)
            self._database.submit(drop).result()
            raise

    def _index(self, jobs: Sequence[_Job], entries: Sequence[Sequence[Entry]]) -> None:
        """Carry out the steps, all in one transaction unless the index has much else to do."""
        pack = self._pack
        number = 0 if pack is None else pack.number
        steps = []
        for job, frames in zip(jobs, entries, strict=True):
            note = None
            if pack is not None and (frames or job.durable):
                note = pack.end, pack.end - pack.unsynced_bytes
            step = partial(_step, step=job.step, pack=number, entries=frames, note=note)
            steps.append(self._database.submit(step, durable=job.durable))
        failures = [step.exception() for step in steps]
        first = next((frames[0].position for frames in entries if frames), None)
        if pack is not None and first is not None and all(failures):
            with contextlib.suppress(StoreError):  # nothing refers to it; it does no harm there either
                pack.cut(first)
        for job, done in zip(jobs, steps, strict=True):
            if (failure := done.exception()) is not None:
                job.future.set_exception(failure)
            else:
                job.future.set_result(done.result())

    def close(self) -> None:
        """Finish what was submitted, and give up the pack."""
        with self._lock:
            self._closed = True
        try:
            self._thread.submit(self.leave_pack).result()
        finally:
            self._thread.shutdown()


def _step(
    connection: sqlite3.Connection,
    step: IndexStep,
    pack: int,
    entries: Sequence[Entry],
    note: tuple[int, int] | None,
) -> Any:
    result = step(connection, pack, entries)
    if note is not None:
        index.set_pack(connection, pack, *note)
    return result
