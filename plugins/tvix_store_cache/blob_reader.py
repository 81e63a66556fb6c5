"""Readers of a cache: of what is near until that fails, and of what is far, filling near on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.chunked import ChunkedReader
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, StoreError
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store_cache.sides import CachePolicy, NearFailures

__all__ = ["FarReader", "NearReader"]


class _Cache(Protocol):
    """What readers want of the service that opened them."""

    name: str
    near: BlobService
    far: BlobService
    policy: CachePolicy
    failures: NearFailures

    async def open_far(self, digest: B3Digest) -> BlobReader | None: ...

    async def fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]: ...


class NearReader(BlobReader):
    """Reads what is near. As long as nothing was given, far takes over where near fails as ``goes_far`` says.

    Later on it is too late: what was given may have been wrong already.
    """

    def __init__(self, cache: _Cache, digest: B3Digest, near: BlobReader) -> None:
        self._cache = cache
        self._digest = digest
        self._reader = near
        self._position = 0
        self._may_change = True

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        if not self._may_change:
            return await self._reader.read(max_bytes)
        try:
            piece = await self._reader.read(max_bytes)
        except StoreError as exc:
            if not self._cache.failures.goes_far(exc) or (far := await self._cache.open_far(self._digest)) is None:
                raise
            near, self._reader = self._reader, far
            self._may_change = False
            await near.aclose()
            await far.seek(self._position)
            return await far.read(max_bytes)
        self._may_change = False
        return piece

    async def seek(self, position: int) -> None:
        self._position = position
        await self._reader.seek(position)

    async def aclose(self) -> None:
        await self._reader.aclose()


class FarReader(BlobReader):
    """Reads what is far, and writes it near meanwhile: a piece is given when the next one, or the end, is near, too.

    A seek to another place ends the filling. From then on, a blob that far has in chunks is read by those that are
    wanted, each through the cache.
    """

    def __init__(self, cache: _Cache, digest: B3Digest, far: BlobReader) -> None:
        self._cache = cache
        self._digest = digest
        self._far = far
        self._fill = _Fill(cache, digest) if cache.policy.fills else None
        self._pieces: deque[bytes] = deque()  # read from far, and not given yet
        self._start = 0  # in the first of them
        self._ended = False
        self._position = 0
        self._was_sought = False
        self._has_jumped = False
        self._chunked: ChunkedReader | None = None

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        if self._was_sought:
            return await (await self._jumped()).read(max_bytes)
        while not self._ended and len(self._pieces) < 2:
            await self._advance(min(max(max_bytes, PIECE_BYTES), SMALL_BLOB_BYTES))
        if not self._pieces:
            return b""
        piece = self._pieces[0][self._start : self._start + max_bytes]
        self._start += len(piece)
        self._position += len(piece)
        if self._start == len(self._pieces[0]):
            self._pieces.popleft()
            self._start = 0
        return piece

    async def _advance(self, max_bytes: int) -> None:
        piece = await self._far.read(max_bytes)
        if piece:
            self._pieces.append(piece)  # before the rest, which may be cancelled
        else:
            self._ended = True
        if self._fill is not None:
            await self._fill.add(piece)

    async def _jumped(self) -> BlobReader:
        """The reader to use after a seek, at the place that was sought."""
        if not self._has_jumped:
            await self._give_up_fill()
            chunks = [chunk for chunk in await self._cache.far.chunks(self._digest) or () if chunk.size]
            if chunks and max(chunk.size for chunk in chunks) <= SMALL_BLOB_BYTES:
                name = f"{self._cache.name}: blob {self._digest}"
                self._chunked = ChunkedReader(name, chunks, self._cache.fetch)
            await (self._chunked or self._far).seek(self._position)
            self._has_jumped = True
            if self._chunked is not None:
                await self._far.aclose()
        return self._chunked or self._far

    async def seek(self, position: int) -> None:
        if not self._was_sought:
            if position == self._position:
                return
            self._was_sought = True
        elif self._has_jumped:
            await (self._chunked or self._far).seek(position)
        self._position = position

    async def _give_up_fill(self) -> None:
        self._pieces.clear()
        if self._fill is not None:
            await self._fill.aclose()

    async def aclose(self) -> None:
        try:
            await self._give_up_fill()
        finally:
            if self._chunked is not None:
                await self._chunked.aclose()
            await self._far.aclose()


class _Fill:
    """A blob on its way to near. It is given up when something fails, or is cancelled; then nothing of it is there."""

    def __init__(self, cache: _Cache, digest: B3Digest) -> None:
        self._cache = cache
        self._digest = digest
        self._writer: BlobWriter | None = None
        self._is_over = False

    async def add(self, piece: bytes) -> None:
        """The next piece; an empty one is the end, after which near has the blob."""
        if self._is_over:
            return
        self._is_over = True  # unless it gets through this
        try:
            await self._try(self._write if piece else self._close, piece)
        finally:
            if self._is_over:
                await self.aclose()

    async def _try(self, step: Callable[[bytes], Awaitable[None]], piece: bytes) -> None:
        try:
            await step(piece)
        except StoreError as exc:
            if not self._cache.failures.may_pass(exc):
                raise

    async def _write(self, piece: bytes) -> None:
        if self._writer is None:
            self._writer = await self._cache.near.open_write()
        await self._writer.write(piece)
        self._is_over = False

    async def _close(self, _: bytes) -> None:
        if self._writer is None:
            self._writer = await self._cache.near.open_write()
        actual = await self._writer.close()
        if actual != self._digest:
            message = f"{self._cache.name}: blob {self._digest} came from far as {actual}"
            raise CorruptObject(message, expected=str(self._digest), actual=str(actual))

    async def aclose(self) -> None:
        self._is_over = True
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.aclose()
