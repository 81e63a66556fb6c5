from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.blob import BytesReader, ChunkMeta, read_at_most
from tvix_store.chunked import ChunkedReader
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, LimitExceeded
from tvix_store.limits import KIB, MIB
from tvix_store.testing.fixtures import contents
from vectors.castore import BLOBS

CHUNKS = [vector.data for vector in BLOBS if vector.name.startswith("CHUNK_")]
BLOB = b"".join(CHUNKS)

pytestmark = pytest.mark.anyio


class Store:
    """Chunks to fetch, and how often each was."""

    def __init__(self, chunks: list[bytes], missing: int = 0) -> None:
        self.chunks = {B3Digest.of(chunk): chunk for chunk in chunks[: len(chunks) - missing]}
        self.list = [ChunkMeta(B3Digest.of(chunk), len(chunk)) for chunk in chunks]
        self.fetched: list[B3Digest] = []
        self.batches: list[int] = []

    async def fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]:
        self.fetched += [chunk.digest for chunk in chunks]
        self.batches.append(len(chunks))
        for chunk in chunks:
            if chunk.digest not in self.chunks:
                raise DanglingReference(f"chunk {chunk.digest} does not exist")
        return [self.chunks[chunk.digest] for chunk in chunks]

    def reader(self) -> ChunkedReader:
        return ChunkedReader("blob x", self.list, self.fetch)


async def read_exactly(reader: ChunkedReader, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := await reader.read(size - len(data))):
        data += piece
    return data


class TestSeekingFixture:
    """vectors-castore.md section 1.1."""

    def test_fixture_is_as_described(self) -> None:
        assert list(zip([0, *accumulate(map(len, CHUNKS))], map(len, CHUNKS), strict=False)) == [
            (0, 2),
            (2, 4),
            (6, 1),
            (7, 2),
            (9, 7),
        ]

    @pytest.mark.parametrize(("position", "index"), [(0, 0), (1, 0), (2, 1), (15, 4), (16, None), (100, None)])
    def test_position_to_chunk(self, position: int, index: int | None) -> None:
        assert Store(CHUNKS).reader().chunk_at(position) == index

    async def test_reading_and_seeking(self) -> None:
        reader = Store(CHUNKS).reader()
        assert reader.size == 16
        assert await read_exactly(reader, 100) == BLOB == bytes(range(16))
        await reader.seek(16)
        assert await reader.read() == b""
        await reader.seek(15)
        assert await reader.read() == b"\x0f"
        await reader.seek(13)
        assert await reader.read(2) == b"\x0d\x0e"

    async def test_missing_chunk_is_noticed_when_it_is_read(self) -> None:
        reader = Store(CHUNKS, missing=3).reader()
        assert await read_exactly(reader, 5) == b"\x00\x01\x02\x03\x04"
        await reader.seek(7)
        with pytest.raises(DanglingReference):
            await reader.read()


class TestChunkedReader:
    async def test_only_what_is_touched_is_fetched(self) -> None:
        store = Store(CHUNKS)
        reader = store.reader()
        await reader.seek(10)
        await reader.read(2)
        await reader.read(1)
        assert store.fetched == [store.list[4].digest]

    async def test_chunk_is_kept_while_it_is_read_in_pieces(self) -> None:
        store = Store([contents(1000, 1), contents(1000, 2)])
        reader = store.reader()
        for _ in range(0, 2000, 10):
            assert len(await reader.read(10)) == 10
        assert await reader.read(10) == b""
        assert len(store.fetched) == 2

    async def test_blob_of_no_chunks_is_empty(self) -> None:
        reader = ChunkedReader("blob x", [], Store([]).fetch)
        assert (await reader.read(), reader.size) == (b"", 0)

    @pytest.mark.parametrize("wrong", [b"\x00\x02", b"\x00", b"\x00\x01\x02", b""])
    async def test_wrong_chunk_is_never_delivered(self, wrong: bytes) -> None:
        store = Store(CHUNKS)
        store.chunks[store.list[0].digest] = wrong
        reader = store.reader()
        for _ in range(2):
            with pytest.raises(CorruptObject, match=f"blob x: chunk {store.list[0].digest}".replace("+", r"\+")):
                await reader.read()
        await reader.seek(2)
        assert await reader.read() == CHUNKS[1]

    async def test_corrupt_chunk_is_named_with_what_it_is(self) -> None:
        store = Store(CHUNKS)
        store.chunks[store.list[0].digest] = b"\x07\x08"
        with pytest.raises(CorruptObject) as caught:
            await store.reader().read()
        assert (caught.value.expected, caught.value.actual) == (str(store.list[0].digest), str(store.list[3].digest))

    @given(
        sizes=st.lists(st.integers(1, 50), max_size=8),
        steps=st.lists(st.tuples(st.none() | st.integers(0, 450), st.integers(1, 60)), max_size=12),
    )
    async def test_reads_as_one_piece_would(self, sizes: list[int], steps: list[tuple[int | None, int]]) -> None:
        chunks = [contents(size, seed) for seed, size in enumerate(sizes)]
        data, position = b"".join(chunks), 0
        async with Store(chunks).reader() as reader:
            for seek, max_bytes in steps:
                if seek is not None:
                    await reader.seek(position := seek)
                piece = await reader.read(max_bytes)
                assert bool(piece) == (position < len(data))
                assert piece == data[position : position + len(piece)]
                assert len(piece) <= max_bytes
                position += len(piece)


LARGE = [contents(256 * KIB, seed) for seed in range(64)]


class HeldStore(Store):
    """Answers so many fetches; the others wait to be let go on."""

    def __init__(self, chunks: list[bytes], free: int) -> None:
        super().__init__(chunks)
        self.free = free
        self.go_on = asyncio.Event()
        self.held = 0
        self.cancelled = 0
        self.two_are_held = asyncio.Event()

    async def fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]:
        if len(self.batches) >= self.free:
            self.held += 1
            if self.held == 2:
                self.two_are_held.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return await super().fetch(chunks)


class TestReadingAhead:
    async def test_first_read_fetches_one_chunk_and_the_next_ones_more(self) -> None:
        store = Store(LARGE)
        async with store.reader() as reader:
            await reader.read(10)
            assert store.batches == [1]
            n_fetched = []
            for _ in range(8):
                await read_exactly(reader, 256 * KIB)
                n_fetched.append(len(store.fetched))
        assert n_fetched == sorted(n_fetched)
        assert n_fetched[1] <= 4 < 12 < n_fetched[-1]
        assert max(store.batches) == 8

    async def test_what_is_ahead_is_bounded(self) -> None:
        store = Store(LARGE)
        async with store.reader() as reader:
            for n_read in range(len(LARGE)):
                assert await read_exactly(reader, 256 * KIB) == LARGE[n_read]
                assert (len(store.fetched) - n_read - 1) * 256 * KIB <= 6 * MIB
            assert await reader.read() == b""
        assert store.fetched == [chunk.digest for chunk in store.list]

    async def test_chunks_larger_than_what_may_be_ahead_are_fetched_one_by_one(self) -> None:
        store = Store([contents(5 * MIB, seed) for seed in range(3)])
        async with store.reader() as reader:
            for n_read in range(3):
                await read_exactly(reader, 5 * MIB)
                assert len(store.fetched) == n_read + 1

    async def test_several_batches_are_on_their_way_at_once(self) -> None:
        store = HeldStore(LARGE, free=1)
        async with store.reader() as reader:
            await read_exactly(reader, 256 * KIB)
            reading = asyncio.create_task(reader.read())
            await store.two_are_held.wait()
            store.go_on.set()
            assert await reading == LARGE[1]

    async def test_a_read_that_is_cancelled_cancels_what_is_on_its_way_and_can_be_repeated(self) -> None:
        store = HeldStore(LARGE, free=1)
        async with store.reader() as reader:
            await read_exactly(reader, 256 * KIB)
            reading = asyncio.create_task(reader.read())
            await store.two_are_held.wait()
            reading.cancel()
            await asyncio.wait([reading])
            assert store.cancelled == store.held == 2
            store.go_on.set()
            assert await reader.read() == LARGE[1]

    @pytest.mark.parametrize("seek", [False, True])
    async def test_what_is_not_wanted_any_more_is_cancelled(self, seek: bool) -> None:
        store = HeldStore(LARGE, free=2)
        reader = store.reader()
        await read_exactly(reader, 512 * KIB)
        await store.two_are_held.wait()
        if seek:
            store.free = 3
            await reader.seek(0)
            assert await reader.read() == LARGE[0]
        else:
            await reader.aclose()
        assert store.cancelled == store.held == 2

    async def test_seek_starts_small_again(self) -> None:
        store = Store(LARGE)
        async with store.reader() as reader:
            await read_exactly(reader, 4 * MIB)
            store.batches.clear()
            await reader.seek(60 * 256 * KIB)
            assert await reader.read(10) == LARGE[60][:10]
            assert store.batches == [1]
            await reader.seek(5)
            assert await reader.read(10) == LARGE[0][5:15]
            assert store.batches == [1, 1]

    async def test_short_skip_forward_uses_what_is_on_its_way(self) -> None:
        store = Store(LARGE)
        async with store.reader() as reader:
            await read_exactly(reader, 4 * MIB)
            await reader.seek(17 * 256 * KIB)
            assert await reader.read() == LARGE[17]
        assert len(store.fetched) == len(set(store.fetched))

    async def test_all_before_a_wrong_chunk_is_delivered(self) -> None:
        store = Store(LARGE)
        store.chunks[store.list[30].digest] = LARGE[31]
        async with store.reader() as reader:
            for n_read in range(30):
                assert await read_exactly(reader, 256 * KIB) == LARGE[n_read]
            for _ in range(2):
                with pytest.raises(CorruptObject):
                    await reader.read()
            await reader.seek(31 * 256 * KIB)
            assert await read_exactly(reader, 512 * KIB) == LARGE[31] + LARGE[32]


class TestReadAtMost:
    @pytest.mark.parametrize("size", [0, 1, 9, 10])
    async def test_gives_all_there_is(self, size: int) -> None:
        assert await read_at_most(BytesReader(contents(size)), 10, "blob x") == contents(size)

    @pytest.mark.parametrize(("size", "limit"), [(11, 10), (1, 0), (1_000_000, 600_000)])
    async def test_refuses_more(self, size: int, limit: int) -> None:
        with pytest.raises(LimitExceeded, match=f"blob x is longer than the {limit} bytes asked for"):
            await read_at_most(BytesReader(contents(size)), limit, "blob x")

    async def test_joins_pieces(self) -> None:
        assert await read_at_most(BytesReader(contents(600_000)), 600_000, "blob x") == contents(600_000)
