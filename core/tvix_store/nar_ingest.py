"""From a NAR as it arrives to a node in the store.

A pipeline: one task reads the source; portions of about 1 MiB are hashed in one thread while another one parses them,
hashes blobs and makes directories; tasks ask the blob service what it lacks and put that, several batches at once.
Each stage works a bounded way ahead of the next, so the source is read as fast as its contents can be stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject
from tvix_store.ingest import Advance, Ingested
from tvix_store.limits import KIB, MIB
from tvix_store.nar_ingest_parse import Batch, LargeFile, NarParser, Piece
from tvix_store.resource import task_group

__all__ = ["ingest_nar"]

_PORTION_BYTES = 1 * MIB
_PORTIONS_AHEAD = 2
"""How much is parsed in one go, and how many such portions are read before their turn."""

_PIECES_PER_PORTION = 8
"""A portion in more pieces than this is joined."""

_IN_THREAD_BYTES = 64 * KIB
"""What is not longer, as the whole of many a NAR is, costs less than a thread hop."""

_BATCHES = 3
"""How many batches are stored at once, while another one is gathered."""

_STREAMS = 4
_PIECES_TO_SEND = 4
"""How many files too large for a batch are sent or finished at once, and how far their content may be ahead of that."""


def _no_progress(*, files: int, n_bytes: int) -> None:
    pass


async def ingest_nar(
    pieces: AsyncIterator[bytes], blobs: BlobService, directories: DirectoryService, advance: Advance = _no_progress
) -> Ingested:
    """Store the contents of a NAR.

    About 64 MiB of it are in memory at one time, besides the entries of directories that are not complete yet and
    what the directory service holds of a closure.

    Args:
        pieces: The NAR, in pieces of any size. Read by a task of its own, until this returns or raises; closing it
            is left to the caller.
        blobs: Where contents go. Those of up to 8 MiB that are stored already are not sent again.
        directories: Where directories go, as one closure, once all contents are stored.
        advance: Told of the progress.

    Returns:
        The root node, and size and SHA-256 of the NAR; everything below the node is durable as the services state.

    Raises:
        InvalidObject: It is not exactly one NAR in canonical form, or a limit is exceeded; blobs already stored stay,
            the tree is not visible. Whatever ``pieces`` raises comes through, with the same effect.
    """
    async with AsyncExitStack() as stack:
        putter: DirectoryPutter | None = None
        parser = NarParser()
        async with task_group() as group:
            portions: asyncio.Queue[list[bytes]] = asyncio.Queue(_PORTIONS_AHEAD)
            group.create_task(_read(pieces, portions))
            storing = _Storing(blobs, advance, group)
            is_whole = False
            while not is_whole:
                portion = await portions.get()
                is_whole = not portion
                done = parser.close() if is_whole else await _parse(parser, portion)
                del portion
                while done:  # and gone: what is being stored is not to be kept from here
                    if isinstance(item := done.popleft(), Piece):
                        await storing.send(item)
                        continue
                    await storing.take(item)
                    if item.directories:
                        if putter is None:
                            putter = await stack.enter_async_context(await directories.put_multiple_start())
                        await putter.put_many(item.directories)
                    del item
        if putter is not None:
            await putter.close()
    return parser.result()


async def _read(pieces: AsyncIterator[bytes], portions: asyncio.Queue[list[bytes]]) -> None:
    """Gather what comes to portions; an empty one ends them."""
    portion: list[bytes] = []
    n_bytes = 0
    async for piece in pieces:
        for start in range(0, len(piece), _PORTION_BYTES):
            part = piece[start : start + _PORTION_BYTES]  # of most pieces, all
            portion.append(part)
            n_bytes += len(part)
            if n_bytes >= _PORTION_BYTES:
                await portions.put(_joined(portion))
                portion = []
                n_bytes = 0
    if portion:
        await portions.put(_joined(portion))
    await portions.put([])


def _joined(portion: list[bytes]) -> list[bytes]:
    """The portion in one piece if it is in many: each takes some time to parse, and large ones some to copy."""
    return portion if len(portion) <= _PIECES_PER_PORTION else [b"".join(portion)]


async def _parse(parser: NarParser, portion: list[bytes]) -> deque[Batch | Piece]:
    """Hash and parse in two threads at once. When cancelled, waits for them, so that nothing runs on."""
    if sum(map(len, portion)) <= _IN_THREAD_BYTES:
        parser.hash(portion)
        return parser.feed(portion)
    loop = asyncio.get_running_loop()
    hashing = loop.run_in_executor(None, parser.hash, portion)
    parsing = loop.run_in_executor(None, parser.feed, portion)
    try:
        await asyncio.wait((hashing, parsing))
    except asyncio.CancelledError:
        await asyncio.wait((hashing, parsing))
        parsing.exception()  # whoever wanted to know has gone; asyncio must not report it
        raise
    return parsing.result()


class _Storing:
    """Puts what the blob service lacks, in tasks of ``group``."""

    def __init__(self, blobs: BlobService, advance: Advance, group: asyncio.TaskGroup) -> None:
        self._blobs = blobs
        self._advance = advance
        self._group = group
        self._free_batches = asyncio.Semaphore(_BATCHES)
        self._free_streams = asyncio.Semaphore(_STREAMS)
        self._under_way: set[B3Digest] = set()  # so that nothing is sent twice at the same time
        self._stream: asyncio.Queue[bytes] | None = None

    async def take(self, batch: Batch) -> None:
        """Start to store the contents of a batch, as soon as there are few enough others."""
        if batch.blobs or batch.large:
            await self._free_batches.acquire()
            self._group.create_task(self._store(batch))

    async def send(self, piece: Piece) -> None:
        """Send on with the file that is coming, or begin to; waits while it cannot be sent as fast as it comes."""
        if self._stream is None:
            await self._free_streams.acquire()
            self._stream = asyncio.Queue(_PIECES_TO_SEND)
            self._group.create_task(self._send(piece.file, self._stream))
        await self._stream.put(piece.data)
        if not piece.data:
            self._stream = None

    async def _store(self, batch: Batch) -> None:
        small = {blob.digest: blob for blob in batch.blobs}
        large = {file.digest: file for file in batch.large if file.digest is not None}
        wanted = [digest for digest in (*small, *large) if digest not in self._under_way]
        self._under_way.update(wanted)
        present = await self._blobs.has_many(wanted) if wanted else ()
        absent = [digest for digest, is_present in zip(wanted, present, strict=True) if not is_present]
        if blobs := [small[digest] for digest in absent if digest in small]:
            await self._blobs.put_many(blobs)
        for file in (large[digest] for digest in absent if digest in large):
            async with await self._blobs.open_write() as writer:
                for piece in file.pieces:
                    await writer.write(piece)
                await _finish(writer, file)
        self._under_way.difference_update(wanted)
        n_bytes = sum(map(len, batch.blobs)) + sum(file.size for file in batch.large)
        self._advance(files=len(batch.blobs) + len(batch.large), n_bytes=n_bytes)
        self._free_batches.release()

    async def _send(self, file: LargeFile, pieces: asyncio.Queue[bytes]) -> None:
        async with await self._blobs.open_write() as writer:
            while piece := await pieces.get():
                await writer.write(piece)
            await _finish(writer, file)
        self._advance(files=1, n_bytes=file.size)
        self._free_streams.release()


async def _finish(writer: BlobWriter, file: LargeFile) -> None:
    digest = await writer.close()
    if digest != file.digest:
        raise CorruptObject(f"blob {file.digest} was stored as {digest}", expected=str(file.digest), actual=str(digest))
