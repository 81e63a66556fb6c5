"""One blob that is being written: cut, hashed and stored a few MiB at a time while more comes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Sequence
from functools import partial

from blake3 import blake3

from tvix_store.blob import BlobWriter
from tvix_store.capabilities import Durability
from tvix_store.chunking import Chunker
from tvix_store.digest import B3Digest
from tvix_store.errors import StoreError, Unavailable
from tvix_store.limits import MIB
from tvix_store_fs import index
from tvix_store_fs.encoding import Piece, frames_of_chunks, frames_of_lists
from tvix_store_fs.index import Entry
from tvix_store_fs.put import put
from tvix_store_fs.store import PackStore

__all__ = ["Upload"]

_STAGE_BYTES = 2 * MIB
_STAGES_UNDER_WAY = 2
_SLICE_BYTES = 1 * MIB


class Upload(BlobWriter):
    """Stores chunks as they come; nobody sees them before the list of them is stored, at the end.

    A blob that fits into one stage is stored at the end as a whole.
    """

    def __init__(self, store: PackStore) -> None:
        self._store = store
        self._chunker = Chunker(store.parameters.avg_chunk_size)
        self._hasher = blake3()
        self._gathered: list[bytes | memoryview] = []
        self._gathered_bytes = 0
        self._pieces: list[Piece] = []
        self._pieces_bytes = 0
        self._chunks: list[tuple[bytes, int]] = []
        self._staged: set[bytes] = set()
        self._stages: deque[asyncio.Future[None]] = deque()
        self._name: str | None = None
        self._digest: B3Digest | None = None
        self._failure: StoreError | None = None

    async def write(self, data: bytes) -> None:
        self._go_on()
        view = memoryview(data)
        for start in range(0, len(view), _SLICE_BYTES):
            part = view[start : start + _SLICE_BYTES] if len(view) > _SLICE_BYTES else data
            self._gathered.append(part)
            self._gathered_bytes += len(part)
            if self._gathered_bytes >= _SLICE_BYTES:  # less is not worth a hop to another thread
                await self._run(last=False)

    def _go_on(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _run(self, *, last: bool) -> None:
        """Take in what was gathered, and store it if it is enough or the last.

        Raises:
            StoreError: The same one each time, from the first on.
        """
        self._failure = Unavailable("the upload of a blob was interrupted")  # unless it gets to the end of this
        try:
            gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
            pieces = await self._store.prepare(self._take, gathered, last)
            self._pieces += pieces
            self._pieces_bytes += sum(len(data) for _, data, _ in pieces)
            if last:
                await self._publish()
            elif self._pieces_bytes >= _STAGE_BYTES:
                await self._stage()
        except StoreError as exc:
            self._failure = exc
            raise
        self._failure = None

    def _take(self, gathered: Sequence[bytes | memoryview], last: bool) -> list[Piece]:
        chunks: list[bytes] = []
        for data in gathered:
            self._hasher.update(data)
            chunks += self._chunker.feed(data)
        if last:
            chunks += self._chunker.finish()
        return [(blake3(chunk).digest(), chunk, False) for chunk in chunks]

    async def _stage(self) -> None:
        """Have the pieces stored, while the next are made."""
        if self._name is None:
            self._name = await asyncio.to_thread(self._store.liveness.start)
            await self._store.database.write(partial(index.add_upload, name=self._name))
            self._store.staged.append(self._staged)
        while len(self._stages) >= _STAGES_UNDER_WAY:
            await self._oldest_stage()
        pieces, self._pieces, self._pieces_bytes = self._pieces, [], 0
        self._chunks += [(digest, len(data)) for digest, data, _ in pieces]
        self._stages.append(asyncio.ensure_future(self._keep(pieces)))

    async def _oldest_stage(self) -> None:
        stage = self._stages[0]
        await asyncio.shield(stage)
        self._stages.popleft()

    async def _keep(self, pieces: Sequence[Piece]) -> None:
        """Store those of ``pieces`` that are not there, nor stored for any upload of this process."""
        left = {piece[0]: piece for piece in pieces}
        while left:
            with self._store.staging.claim(left) as mine:
                await self._keep_absent([left.pop(digest) for digest in mine])
            await self._store.staging.settled(left)

    async def _keep_absent(self, pieces: Sequence[Piece]) -> None:
        pieces = [piece for piece in pieces if not any(piece[0] in staged for staged in self._store.staged)]
        frames = await self._store.read(index.frames_of, [digest for digest, _, _ in pieces])
        absent = [piece for piece, frame in zip(pieces, frames, strict=True) if frame is None]
        if absent:
            encoded = await self._store.prepare(frames_of_chunks, absent, self._store.encoding)
            await asyncio.wrap_future(self._store.appender.submit(encoded, lazy=True))
            self._staged.update(digest for digest, _, _ in absent)

    async def _publish(self) -> None:
        digest = self._hasher.digest()
        if self._name is None:
            await put(self._store, [(digest, b"".join(data for _, data, _ in self._pieces))])
        else:
            await self._stage()
            while self._stages:
                await self._oldest_stage()
            (is_there,) = await self._store.read(index.blobs_among, [digest])
            frames = [] if is_there else frames_of_lists([(digest, self._chunks)])
            await asyncio.wrap_future(self._store.appender.submit(frames, partial(_finish, name=self._name)))
            if self._store.durability is Durability.COMMIT:  # some chunks may be in packs of other processes
                await self._store.sync()
            self._finish(self._name)
        self._pieces = []
        self._digest = B3Digest(digest)

    def _finish(self, name: str) -> None:
        """What was stored for this upload is not kept for it any more."""
        self._store.liveness.finish(name)
        self._store.staged = [staged for staged in self._store.staged if staged is not self._staged]

    async def close(self) -> B3Digest:
        self._go_on()
        if self._digest is None:
            await self._run(last=True)
        assert self._digest is not None
        return self._digest

    async def aclose(self) -> None:
        self._gathered = []
        self._pieces = []
        stages, self._stages = self._stages, deque()
        for stage in stages:
            stage.cancel()
        await asyncio.gather(*stages, return_exceptions=True)
        name, self._name = self._name, None
        if self._digest is None:
            self._failure = self._failure or Unavailable("the upload of a blob was given up")
        if name is not None and self._digest is None:
            self._finish(name)
            with contextlib.suppress(StoreError):  # then it is forgotten when packs are compacted
                await self._store.database.write(partial(index.drop_upload, name=name))


def _finish(connection: sqlite3.Connection, pack: int, entries: Sequence[Entry], name: str) -> None:
    index.add(connection, pack, entries)
    index.drop_upload(connection, name)
