"""The contents of files: small ones whole, large ones by the pieces they are stored in, with one cache for both."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, StoreError
from tvix_store.flights import Flights
from tvix_store.limits import MIB, SMALL_BLOB_BYTES
from tvix_store.nodes import FileNode
from tvix_store.resource import AsyncResource
from tvix_store_fuse.asking import Asking, Wanted
from tvix_store_fuse.layouts import MAX_CHUNK_BYTES, ChunkedLayout, Layout, UnsplitLayout
from tvix_store_fuse.lru import Lru
from tvix_store_fuse.pieces import Key, Pieces
from tvix_store_fuse.read_ahead import ReadAhead
from tvix_store_fuse.readers import Readers

__all__ = ["Contents", "Parts"]

Parts: TypeAlias = Sequence[bytes | memoryview]

_MAX_LISTED_CHUNKS = 1_000_000
_LIST_HERE_CHUNKS = 10_000
"""It takes 5 ms to go through so many; longer lists are left to a thread."""


class Contents(AsyncResource):
    """Reads files of a blob service.

    What is fetched is kept in one cache, where small files and chunks are found by their digest: files that have
    chunks in common, or that are equal, share them. What is under way is fetched once for all who want it, and goes
    on when they do not want it any more.

    Args:
        blobs: The service; not closed with this.
        cache_bytes: How much is kept in memory, apart from what reads under way hold. If one piece is longer, it is
            kept alone.
        ahead_bytes: How much is fetched ahead of whoever reads a large file from start to end; of all together, a
            quarter of the cache at most. 0: nothing.
        timeout_s: How long the service may take for an answer, in seconds.
    """

    def __init__(
        self,
        blobs: BlobService,
        *,
        cache_bytes: int = 64 * MIB,
        ahead_bytes: int = 8 * MIB,
        timeout_s: float = 60.0,
    ) -> None:
        self._asking = Asking(blobs, timeout_s)
        self._readers = Readers(self._asking)
        self._pieces = Pieces(cache_bytes)
        self._layouts: Lru[tuple[bytes, int], Layout] = Lru(_MAX_LISTED_CHUNKS)
        self._finding: Flights[tuple[bytes, int], Layout] = Flights()
        self._read_ahead = ReadAhead(self._start, ahead_bytes, cache_bytes // 4)

    @property
    def n_bytes(self) -> int:
        """How much memory the cache takes, in bytes: the contents, and something for each piece."""
        return self._pieces.n_bytes

    def read(self, node: FileNode, offset: int, size: int) -> Parts | Coroutine[Any, Any, Parts]:
        """Bytes of a file: ``size`` of them, or those up to the end of the file.

        Returns:
            They themselves, in parts, if they are at hand; what is past the end has none. Else a coroutine that
            returns them.

        Raises:
            DanglingReference: The blob, or a chunk of it, is absent.
            CorruptObject: The blob is not as long as the node says, or the service found that it is damaged.
            Unavailable: The service could not give it, or not in time.
        """
        end = min(offset + size, node.size)
        if offset >= end:
            return ()
        if node.size <= SMALL_BLOB_BYTES:
            data = self._pieces.get(node.digest.raw)
            return self._read_small(node, offset, end) if data is None else _cut(node, data, offset, end)
        layout = self._layouts.get((node.digest.raw, node.size))
        if layout is None:
            return self._read_large(node, offset, end)
        indices = layout.indices(offset, end)
        pieces = [self._pieces.get(layout.key(index)) for index in indices]
        if None in pieces:
            return self._read_large(node, offset, end)
        self._read_ahead.note(layout, offset, end)
        return layout.cut(indices, pieces, offset, end)

    async def _read_small(self, node: FileNode, offset: int, end: int) -> Parts:
        key = node.digest.raw
        self._start_small([node])
        return _cut(node, (await self._pieces.wait([key]))[key], offset, end)

    async def _read_large(self, node: FileNode, offset: int, end: int) -> Parts:
        key = (node.digest.raw, node.size)
        layout = self._layouts.get(key) or await self._finding.join(key, partial(self._find, node))
        indices = layout.indices(offset, end)
        keys = [layout.key(index) for index in indices]
        self._start(layout, indices)
        self._read_ahead.note(layout, offset, end)
        try:
            found = await self._pieces.wait(keys)
            return layout.cut(indices, [found[key] for key in keys], offset, end)
        except CorruptObject:
            self._layouts.drop(key)  # it may be stored otherwise by now
            raise

    async def _find(self, node: FileNode) -> Layout:
        """How the blob of a large file is stored."""
        digest, size = node.digest, node.size
        chunks = await self._asking.chunks(digest)
        if chunks is None:
            raise DanglingReference(f"blob {digest} does not exist")
        layout: Layout
        if not chunks or max(chunk.size for chunk in chunks) > MAX_CHUNK_BYTES:
            layout = UnsplitLayout(self._readers, digest, size)
        elif len(chunks) > _LIST_HERE_CHUNKS:
            layout = await asyncio.to_thread(ChunkedLayout, self._asking, digest, size, chunks)
        else:
            layout = ChunkedLayout(self._asking, digest, size, chunks)
        self._layouts.put((digest.raw, size), layout, layout.weight)
        return layout

    def _start(self, layout: Layout, indices: range) -> None:
        """Have those of the pieces fetched that are neither at hand nor under way."""
        by_key = {layout.key(index): index for index in indices}
        missing = self._pieces.missing(by_key)
        if missing:
            self._pieces.start(missing, partial(layout.load, {key: by_key[key] for key in missing}))

    def _start_small(self, nodes: Iterable[FileNode]) -> Sequence[Key]:
        """The same for the blobs of small files; those that are fetched now."""
        sizes = {node.digest.raw: node.size for node in nodes}
        missing = set(self._pieces.missing(sizes))
        wanted = [Wanted(raw, size) for raw, size in sizes.items() if raw in missing]
        if wanted:
            self._pieces.start([one.raw for one in wanted], partial(self._asking.fetch, wanted))
        return [one.raw for one in wanted]

    async def fetch_small(self, nodes: Sequence[FileNode]) -> None:
        """Have small files at hand; those that are longer than `SMALL_BLOB_BYTES`, and empty ones, are passed over.

        Those that are absent or damaged are passed over too: whoever reads them will be told. So it may be after
        this that a file is not at hand, or is not as long as its node says.

        Raises:
            Unavailable: Some could not be had now.
        """
        keys = self._start_small(node for node in nodes if 0 < node.size <= SMALL_BLOB_BYTES)
        for outcome in (await self._pieces.outcomes(keys)).values():
            if isinstance(outcome, StoreError) and not isinstance(outcome, CorruptObject):
                raise outcome

    def at_hand(self, digest: B3Digest) -> bytes | None:
        """The whole of a small file; ``None`` if it would have to be fetched."""
        return self._pieces.get(digest.raw)

    def is_under_way(self, digest: B3Digest) -> bool:
        """Whether a small file is being fetched."""
        return self._pieces.is_under_way(digest.raw)

    def drop(self, digest: B3Digest) -> None:
        """Forget a small file that is at hand: the kernel has it now."""
        self._pieces.drop(digest.raw)

    async def aclose(self) -> None:
        """Cancel what is under way, and wait until it has ended. Those who wait for it get Unavailable."""
        try:
            await self._finding.aclose()
        finally:
            try:
                await self._pieces.aclose()
            finally:
                self._layouts.clear()
                await self._readers.aclose()


def _cut(node: FileNode, data: bytes | None, offset: int, end: int) -> Parts:
    """A part of a small file, without a copy."""
    if data is None:
        raise DanglingReference(f"blob {node.digest} does not exist")
    if len(data) != node.size:
        raise CorruptObject(f"blob {node.digest} has {len(data)} bytes, its node says {node.size}")
    return (data if end - offset == len(data) else memoryview(data)[offset:end],)
