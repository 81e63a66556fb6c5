from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.fs.fs_store import open_service
from plugins.fuse.asked_blobs import AskedBlobs, read
from tvix_store.blob import BlobService, ChunkMeta
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unavailable
from tvix_store.limits import KIB, MIB, SMALL_BLOB_BYTES
from tvix_store.nodes import FileNode
from tvix_store.testing.fixtures import contents as made_up
from tvix_store_fuse.contents import Contents
from tvix_store_fuse.pieces import ENTRY_BYTES
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database

CHUNKS = [made_up(size, size) for size in (1, 700, 4 * KIB, 60 * KIB, 130_001, 300_000, SMALL_BLOB_BYTES + 1)]
SMALL_FILES = [made_up(size, 1) for size in (1, 3, 1000, 60_000, SMALL_BLOB_BYTES)]
UNSPLIT_FILES = [made_up(size, 2) for size in (SMALL_BLOB_BYTES + 1, 2 * MIB, 2 * MIB + 7)]

# What is read: which file, where in it (a share of its length), and how many bytes.
READS = st.tuples(st.integers(0, 100), st.floats(0, 1), st.integers(1, 200_000) | st.just(3 * MIB))


@st.composite
def chunk_lists(draw: st.DrawFn) -> Sequence[bytes]:
    """Chunks of a large file, some of them more than once."""
    chunks = draw(st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=12))
    if sum(map(len, chunks)) <= SMALL_BLOB_BYTES:
        chunks.insert(draw(st.integers(0, len(chunks))), CHUNKS[-1])
    return chunks


class Files(AskedBlobs):
    """Files of all kinds, and a service that has them; it fails if it is asked for what it is being asked for."""

    def __init__(self, lists: Sequence[Sequence[bytes]]) -> None:
        super().__init__()
        self.files = [(self.add(data), data) for data in (*SMALL_FILES, *UNSPLIT_FILES)]
        for chunks in lists:
            data = b"".join(chunks)
            node = FileNode(B3Digest.of(data), len(data))
            self.lists[node.digest] = [ChunkMeta(self.add(chunk).digest, len(chunk)) for chunk in chunks]
            self.files.append((node, data))
        self.under_way: set[B3Digest] = set()

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        assert len(set(digests)) == len(digests)
        assert not self.under_way & set(digests)
        self.under_way.update(digests)
        try:
            await asyncio.sleep(0)
            return await super().get_many(digests, max_blob_bytes=max_blob_bytes)
        finally:
            self.under_way.difference_update(digests)

    async def check(self, contents: Contents, number: int, share: float, size: int) -> None:
        """A read gives what a slice gives."""
        node, data = self.files[number % len(self.files)]
        offset = int(share * len(data))
        assert await read(contents, node, offset, size) == data[offset : offset + size]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(chunk_lists(), max_size=3),
    st.lists(st.lists(READS, min_size=1, max_size=6), max_size=8),
    st.integers(1, 4 * MIB),
    st.sampled_from([0, 100_000, 8 * MIB]),
    st.sampled_from([100_000, 8 * MIB]),
)
def test_reads_at_once_and_one_after_the_other_give_what_slices_give(
    lists: Sequence[Sequence[bytes]],
    groups: Sequence[Sequence[tuple[int, float, int]]],
    cache_bytes: int,
    ahead_bytes: int,
    reads_at_most: int,
) -> None:
    async def run() -> None:
        files = Files(lists)
        files.reads_at_most = reads_at_most
        async with Contents(files, cache_bytes=cache_bytes, ahead_bytes=ahead_bytes) as contents:
            for group in groups:
                await asyncio.gather(*(files.check(contents, *one) for one in group))
                assert contents.n_bytes <= max(cache_bytes, SMALL_BLOB_BYTES + 1 + ENTRY_BYTES)

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(chunk_lists(), st.integers(20_000, 400_000), st.integers(100_000, 64 * MIB), st.sampled_from([0, 8 * MIB]))
def test_a_file_read_from_start_to_end_is_whole_and_fetched_once(
    chunks: Sequence[bytes], size: int, cache_bytes: int, ahead_bytes: int
) -> None:
    async def run() -> None:
        files = Files([chunks])
        node, data = files.files[-1]
        async with Contents(files, cache_bytes=cache_bytes, ahead_bytes=ahead_bytes) as contents:
            parts = [await read(contents, node, offset, size) for offset in range(0, len(data), size)]
        assert b"".join(parts) == data
        if cache_bytes > len(data) + ENTRY_BYTES * len(chunks):
            asked = [digest for batch in files.got for digest in batch]
            assert len(asked) == len(set(asked))

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(chunk_lists(), min_size=1, max_size=2),
    st.lists(READS, min_size=1, max_size=20),
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_a_service_that_fails_now_and_then_leads_to_failures_and_never_to_wrong_bytes(
    lists: Sequence[Sequence[bytes]], reads: Sequence[tuple[int, float, int]], fails: Sequence[bool]
) -> None:
    async def run() -> None:
        files = Files(lists)
        left = list(fails)

        async def on_call(name: str) -> None:
            if left and left.pop():
                raise Unavailable("gone")

        files.on_call = on_call
        async with Contents(files, cache_bytes=MIB) as contents:
            answers = await asyncio.gather(*(files.check(contents, *one) for one in reads), return_exceptions=True)
            assert {type(answer) for answer in answers} <= {type(None), Unavailable}, answers
            left.clear()
            for one in reads:
                await files.check(contents, *one)

    asyncio.run(run())


async def _open(kind: str, path: Path, stack: AsyncExitStack) -> BlobService:
    service: BlobService = MemoryBlobService()
    if kind == "sqlite":
        service = SqliteBlobService("test", await stack.enter_async_context(await Database.open(str(path / "db"))))
    elif kind == "fs":
        service = await open_service(path / "blobs", avg_chunk_size=16 * KIB)
    return await stack.enter_async_context(CheckedBlobService("test", service))


@pytest.mark.parametrize("kind", ["memory", "sqlite", "fs"])
def test_real_stores_give_what_slices_give(kind: str, tmp_path: Path) -> None:
    files = [HashedBlob(made_up(size, 3)) for size in (1, 5000, SMALL_BLOB_BYTES, SMALL_BLOB_BYTES + 1, 4 * MIB + 5)]
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        store = runner.run(_open(kind, tmp_path, stack))
        for blob in files:
            runner.run(store.put_many([blob]))

        @settings(max_examples=30, deadline=None)
        @given(st.lists(READS, max_size=15), st.integers(1, 4 * MIB))
        def check(reads: Sequence[tuple[int, float, int]], cache_bytes: int) -> None:
            async def run() -> None:
                async with Contents(store, cache_bytes=cache_bytes) as contents:
                    for number, share, size in reads:
                        blob = files[number % len(files)]
                        node, offset = FileNode(blob.digest, len(blob)), int(share * len(blob))
                        assert await read(contents, node, offset, size) == blob.data[offset : offset + size]

            runner.run(run())

        try:
            check()
        finally:
            runner.run(stack.aclose())
