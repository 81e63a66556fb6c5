"""From a path in the file system to a node in the store, with the hash of its NAR taken on the way.

A pipeline of three stages, each working ahead of the next: one thread walks the tree in the order of its NAR, reads
and hashes blobs; one thread hashes the NAR; tasks ask the blob service what it lacks and put that, several batches at
once. Batches pass from stage to stage and there are at most ``ingest_walk.MAX_BATCHES`` of them, which bounds the
memory. A file too large to be held in it is read a second time if the store turns out not to have it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.ingest_file import changed, opened, read
from tvix_store.ingest_hash import NarHasher
from tvix_store.ingest_walk import Batch, LargeFile, Walk
from tvix_store.limits import MIB
from tvix_store.nar_calculation import NarDigest
from tvix_store.nodes import Node
from tvix_store.resource import task_group

__all__ = ["Advance", "Ingested", "ingest_path"]

_PIECE_BYTES = 1 * MIB
_PIECES_AT_ONCE = 4
"""How many pieces of a huge file are read in one go, to be sent: a thread hop takes as long as reading 200 KiB."""

_HUGE_UPLOADS = 2
_HUGE_WAITING = 64
"""How many huge files are being sent, and how many the walk may be ahead of that."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ingested:
    """The root of what was stored, and its NAR."""

    node: Node
    nar: NarDigest


class Advance(Protocol):
    """Told how much more has been stored."""

    def __call__(self, *, files: int, n_bytes: int) -> None:
        """``files`` more files with ``n_bytes`` bytes of content altogether."""


def _no_progress(*, files: int, n_bytes: int) -> None:
    pass


async def ingest_path(
    path: str | bytes | os.PathLike[str],
    blobs: BlobService,
    directories: DirectoryService,
    advance: Advance = _no_progress,
) -> Ingested:
    """Store what is at ``path``, without following a symlink. Blobs that are stored already are not sent again.

    Args:
        path: A file, symlink or directory.
        blobs: Where contents go.
        directories: Where directories go, as one closure, once all contents are stored.
        advance: Told of the progress.

    Returns:
        The root node; everything below it is durable as the services state.

    Raises:
        InvalidObject: There is a socket, pipe or device, or a file changed while it was read.
        Unavailable: Something cannot be read. Both name the path; blobs already stored stay, the tree is not visible.
    """
    async with AsyncExitStack() as stack:
        putter: DirectoryPutter | None = None
        async with _reading(os.fsencode(path)) as reading:
            async with task_group() as group:
                storing = _Storing(blobs, advance, group, reading.release)
                async for batch in reading.batches():
                    await storing.take(batch)
                    if batch.directories:
                        if putter is None:
                            putter = await stack.enter_async_context(await directories.put_multiple_start())
                        await putter.put_many(batch.directories)
                    del batch  # while waiting for the next one, it is only in memory as long as it is being stored
            ingested = reading.result()
        if putter is not None:
            await putter.close()
    return ingested


class _Reading:
    """The two threads that walk and hash, seen from the event loop."""

    def __init__(self, path: bytes, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        hasher = NarHasher()
        self._walk = Walk(path, hasher, lambda batch: loop.call_soon_threadsafe(self._batches.put_nowait, batch))
        self._walking = loop.run_in_executor(threads, self._walk.run)
        self._hashing = loop.run_in_executor(threads, hasher.run)
        self._hashing.add_done_callback(lambda _: self._batches.put_nowait(None))
        self.release = self._walk.release

    async def batches(self) -> AsyncIterator[Batch]:
        """What was read. ``release`` has to be called for each batch.

        Raises:
            InvalidObject, Unavailable: As ``ingest_path``, after the last batch that could be read.
        """
        while (batch := await self._batches.get()) is not None:
            yield batch
            del batch
        await self.stop()  # there is nothing left to do, unless hashing failed
        self.result()

    def result(self) -> Ingested:
        """What there is after the last batch."""
        nar = self._hashing.result()
        return Ingested(self._walking.result(), nar)

    async def stop(self) -> None:
        """Wait until the threads have ended, which they soon do; also if this is cancelled."""
        self._walk.stop()
        cancelled: asyncio.CancelledError | None = None
        while not (self._walking.done() and self._hashing.done()):
            try:
                await asyncio.wait((self._walking, self._hashing))
            except asyncio.CancelledError as exc:
                cancelled = exc
        for call in (self._walking, self._hashing):
            call.exception()  # whoever wanted to know has asked; asyncio must not report it
        if cancelled is not None:
            raise cancelled


@asynccontextmanager
async def _reading(path: bytes) -> AsyncIterator[_Reading]:
    # Threads of its own: those of the loop are for short calls, and imports that took them all would wait for ever.
    with ThreadPoolExecutor(2, thread_name_prefix="ingest") as threads:
        reading = _Reading(path, threads)
        try:
            yield reading
        finally:
            await reading.stop()


class _Storing:
    """Puts what the blob service lacks, in tasks of ``group``."""

    def __init__(
        self, blobs: BlobService, advance: Advance, group: asyncio.TaskGroup, release: Callable[[], None]
    ) -> None:
        self._blobs = blobs
        self._advance = advance
        self._group = group
        self._release = release
        self._under_way: set[B3Digest] = set()  # so that nothing is sent twice at the same time
        self._huge_waiting = asyncio.Semaphore(_HUGE_WAITING)
        self._huge_uploads = asyncio.Semaphore(_HUGE_UPLOADS)

    async def take(self, batch: Batch) -> None:
        """Start to store the batch."""
        if batch.large and batch.large[0].pieces is None:  # then there is nothing else in it
            self._release()
            await self._huge_waiting.acquire()
            self._group.create_task(self._store_huge(batch.large[0]))
        else:
            self._group.create_task(self._store(batch))

    async def _store(self, batch: Batch) -> None:
        small = {blob.digest: blob for blob in batch.blobs}
        large = {file.digest: file for file in batch.large}
        wanted = [digest for digest in (*small, *large) if digest not in self._under_way]
        self._under_way.update(wanted)
        present = await self._blobs.has_many(wanted) if wanted else ()
        absent = [digest for digest, is_present in zip(wanted, present, strict=True) if not is_present]
        if blobs := [small[digest] for digest in absent if digest in small]:
            await self._blobs.put_many(blobs)
        for file in (large[digest] for digest in absent if digest in large):
            await self._upload(file, _send_pieces)
        self._under_way.difference_update(wanted)
        self._advance(files=len(batch.blobs) + len(batch.large), n_bytes=batch.n_bytes)
        self._release()

    async def _store_huge(self, file: LargeFile) -> None:
        if file.digest not in self._under_way:
            self._under_way.add(file.digest)
            if not await self._blobs.has(file.digest):
                async with self._huge_uploads:
                    await self._upload(file, _send_again)
            self._under_way.discard(file.digest)
        self._advance(files=1, n_bytes=file.size)
        self._huge_waiting.release()

    async def _upload(self, file: LargeFile, send: Callable[[LargeFile, BlobWriter], Awaitable[None]]) -> None:
        async with await self._blobs.open_write() as writer:
            await send(file, writer)
            if await writer.close() != file.digest:
                raise changed(file.path)


async def _send_pieces(file: LargeFile, writer: BlobWriter) -> None:
    for piece in file.pieces or ():
        await writer.write(piece)


async def _send_again(file: LargeFile, writer: BlobWriter) -> None:
    """Read the file a second time. If it only grew meanwhile, it is sent as it was."""
    sent = 0
    while pieces := await _in_thread(_read_pieces, file.path, sent, file.size):
        for piece in pieces:
            sent += len(piece)
            await writer.write(piece)


def _read_pieces(path: bytes, start: int, end: int) -> Sequence[bytes]:
    """Some of the bytes from ``start`` to ``end``; nothing at the end."""
    pieces: list[bytes] = []
    if start < end:
        with opened(path, start) as descriptor:
            for _ in range(_PIECES_AT_ONCE):
                piece = read(descriptor, min(end - start, _PIECE_BYTES), path)
                if not piece:
                    break
                start += len(piece)
                pieces.append(piece)
    return pieces


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a thread; when cancelled, wait for its end, so that nothing runs on."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
