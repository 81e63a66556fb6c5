"""Reading a blob that is stored, or fetched, chunk by chunk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate

from tvix_store.blob import BlobReader, ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject
from tvix_store.limits import PIECE_BYTES

__all__ = ["ChunkedReader"]


class ChunkedReader(BlobReader):
    """Reads a blob from its chunks, only those that the position touches, each checked against its digest.

    Args:
        name: What is read, for messages: ``blob blake3-...``.
        chunks: In blob order; none of them empty.
        fetch: The contents of one chunk; raises what is wrong with it, DanglingReference if it is absent.
    """

    def __init__(self, name: str, chunks: Sequence[ChunkMeta], fetch: Callable[[B3Digest], Awaitable[bytes]]) -> None:
        self._name = name
        self._chunks = chunks
        self._starts = [0, *accumulate(chunk.size for chunk in chunks)]
        self._fetch = fetch
        self._position = 0
        self._current = -1
        self._data = b""

    @property
    def size(self) -> int:
        """Length of the blob in bytes."""
        return self._starts[-1]

    def chunk_at(self, position: int) -> int | None:
        """Index of the chunk that holds the byte at ``position``; ``None`` past the end."""
        return bisect_right(self._starts, position) - 1 if 0 <= position < self.size else None

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        index = self.chunk_at(self._position)
        if index is None:
            return b""
        if index != self._current:
            self._data = await self._load(self._chunks[index])
            self._current = index
        start = self._position - self._starts[index]
        piece = self._data[start : start + max_bytes]
        self._position += len(piece)
        return piece

    async def _load(self, chunk: ChunkMeta) -> bytes:
        data = await self._fetch(chunk.digest)
        if len(data) != chunk.size:
            raise CorruptObject(f"{self._name}: chunk {chunk.digest} has {len(data)} bytes, the list says {chunk.size}")
        actual = B3Digest.of(data)
        if actual != chunk.digest:
            raise CorruptObject(
                f"{self._name}: chunk {chunk.digest} is corrupt", expected=str(chunk.digest), actual=str(actual)
            )
        return data

    async def seek(self, position: int) -> None:
        self._position = position

    async def aclose(self) -> None:
        self._data = b""
        self._current = -1
