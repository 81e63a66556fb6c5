from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from plugins.fs.fs_store import open_service
from plugins.fuse.asked_blobs import AskedBlobs, nothing_comes, read, read_at_once
from tvix_store.blob import BlobService, ChunkMeta
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, DanglingReference, Unavailable
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, KIB, MIB, SMALL_BLOB_BYTES
from tvix_store.nodes import FileNode
from tvix_store.testing.fixtures import contents as made_up
from tvix_store_fuse.contents import Contents
from tvix_store_fuse.layouts import MAX_CHUNK_BYTES
from tvix_store_fuse.pieces import ENTRY_BYTES
from tvix_store_fuse.readers import MAX_READERS
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database

pytestmark = pytest.mark.anyio

SMALL = made_up(10_000)
LARGE = made_up(3 * MIB + 77)
CHUNK = 64 * KIB


async def gather(calls: list[Coroutine[Any, Any, bytes]]) -> list[bytes]:
    return await asyncio.gather(*calls)


@pytest.fixture
def blobs() -> AskedBlobs:
    return AskedBlobs()


@pytest.fixture
async def contents(blobs: AskedBlobs) -> AsyncIterator[Contents]:
    async with Contents(blobs, ahead_bytes=0) as contents:
        yield contents


@pytest.fixture(params=["memory", "sqlite", "fs"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobService]:
    async with AsyncExitStack() as stack:
        service: BlobService = MemoryBlobService()
        if request.param == "sqlite":
            database = await stack.enter_async_context(await Database.open(str(tmp_path / "store.sqlite")))
            service = SqliteBlobService("test", database)
        elif request.param == "fs":
            service = await open_service(tmp_path / "blobs")
        yield await stack.enter_async_context(CheckedBlobService("test", service))


class TestStores:
    @pytest.mark.parametrize("size", [0, 1, 1000, SMALL_BLOB_BYTES, SMALL_BLOB_BYTES + 1, 5 * MIB + 123])
    async def test_a_file_reads_as_what_was_put(self, store: BlobService, size: int) -> None:
        blob = HashedBlob(made_up(size))
        async with await store.open_write() as writer:
            await writer.write(blob.data)
            await writer.close()
        node = FileNode(blob.digest, size)
        async with Contents(store) as contents:
            for start in range(0, size + 1, 128 * KIB):
                assert await read(contents, node, start, 128 * KIB) == blob.data[start : start + 128 * KIB]
            for offset, length in ((size // 2, 10), (max(size - 5, 0), 100), (1, size)):
                assert await read(contents, node, offset, length) == blob.data[offset : offset + length]

    @pytest.mark.parametrize("size", [10, SMALL_BLOB_BYTES + 10])
    async def test_an_absent_file_is_a_dangling_reference(self, store: BlobService, size: int) -> None:
        node = FileNode(B3Digest.of(b"nobody has this"), size)
        async with Contents(store) as contents:
            with pytest.raises(DanglingReference, match=f"^{re.escape(f'blob {node.digest} does not exist')}$"):
                await read(contents, node)

    @pytest.mark.parametrize("real", [10, SMALL_BLOB_BYTES + 10])
    @pytest.mark.parametrize("stated", [9, 11, SMALL_BLOB_BYTES + 9, SMALL_BLOB_BYTES + 11])
    async def test_a_node_with_a_wrong_size_is_found_out(self, store: BlobService, real: int, stated: int) -> None:
        blob = HashedBlob(made_up(real))
        await store.put_many([blob])
        async with Contents(store) as contents:
            with pytest.raises(CorruptObject):
                await read(contents, FileNode(blob.digest, stated))

    async def test_small_files_are_fetched_ahead(self, store: BlobService) -> None:
        kept = [HashedBlob(made_up(100 * number, number)) for number in range(1, 20)]
        await store.put_many(kept)
        async with Contents(store) as contents:
            await contents.fetch_small([FileNode(blob.digest, len(blob)) for blob in kept])
            assert [contents.at_hand(blob.digest) for blob in kept] == [blob.data for blob in kept]


class TestAtHand:
    async def test_what_was_read_is_read_at_once_and_without_a_copy(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        node = blobs.add(SMALL)
        await read(contents, node)
        (part,) = read_at_once(contents, node, 100, 50)
        assert isinstance(part, memoryview)
        assert part == SMALL[100:150]
        (whole,) = read_at_once(contents, node, 0, len(SMALL))
        assert part.obj is whole is contents.at_hand(node.digest)

    async def test_parts_of_large_files_are_read_at_once_and_without_a_copy(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        node = blobs.add(LARGE, CHUNK)
        await read(contents, node, 0, 3 * CHUNK)
        chunks = [blobs.blobs[chunk.digest] for chunk in blobs.lists[node.digest][:3]]
        first, whole, last = read_at_once(contents, node, 10, 3 * CHUNK - 20)
        assert isinstance(first, memoryview)
        assert isinstance(last, memoryview)
        assert [first.obj is chunks[0], whole is chunks[1], last.obj is chunks[2]] == [True] * 3
        assert b"".join((first, whole, last)) == LARGE[10 : 3 * CHUNK - 10]

    @pytest.mark.parametrize("data", [b"", SMALL, LARGE])
    async def test_nobody_is_asked_for_what_is_past_the_end(
        self, blobs: AskedBlobs, contents: Contents, data: bytes
    ) -> None:
        node = blobs.add(data)
        assert list(read_at_once(contents, node, len(data), 10)) == []
        assert blobs.got == []

    async def test_a_chunk_that_is_a_small_file_too_is_fetched_once(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        large, small = blobs.add(LARGE, CHUNK), blobs.add(LARGE[:CHUNK])
        await read(contents, large, 0, 10)
        assert b"".join(read_at_once(contents, small, 0, CHUNK)) == LARGE[:CHUNK]

    async def test_what_is_dropped_is_given_back_and_fetched_again(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(SMALL)
        await contents.fetch_small([node])
        assert contents.n_bytes == len(SMALL) + ENTRY_BYTES
        contents.drop(node.digest)
        assert contents.n_bytes == 0
        assert contents.at_hand(node.digest) is None
        assert await read(contents, node) == SMALL
        assert len(blobs.got) == 2

    async def test_memory_has_a_bound(self, blobs: AskedBlobs) -> None:
        nodes = [blobs.add(made_up(1000, number)) for number in range(100)]
        async with Contents(blobs, cache_bytes=20_000) as contents:
            for node in nodes:
                await read(contents, node)
                assert contents.n_bytes <= 20_000
            assert contents.at_hand(nodes[-1].digest) is not None

    async def test_what_is_used_stays(self, blobs: AskedBlobs) -> None:
        nodes = [blobs.add(made_up(1000, number)) for number in range(100)]
        async with Contents(blobs, cache_bytes=20_000) as contents:
            for node in nodes:
                await read(contents, node)
                await read(contents, nodes[0])
        assert blobs.got.count([nodes[0].digest]) == 1

    async def test_a_read_gets_more_than_the_cache_can_hold(self, blobs: AskedBlobs) -> None:
        node = blobs.add(LARGE, CHUNK)
        async with Contents(blobs, cache_bytes=CHUNK) as contents:
            assert await read(contents, node) == LARGE
            assert contents.n_bytes <= CHUNK + ENTRY_BYTES

    async def test_a_piece_that_is_longer_than_the_cache_is_kept_alone(self, blobs: AskedBlobs) -> None:
        node = blobs.add(SMALL)
        async with Contents(blobs, cache_bytes=1) as contents:
            await read(contents, node)
            assert b"".join(read_at_once(contents, node, 5, 10)) == SMALL[5:15]


class TestSharing:
    @pytest.mark.parametrize("data", [SMALL, LARGE])
    async def test_many_readers_of_one_file_fetch_it_once(
        self, blobs: AskedBlobs, contents: Contents, data: bytes
    ) -> None:
        node = blobs.add(data, None if data is SMALL else CHUNK)
        assert await gather([read(contents, node, 100, 5000) for _ in range(64)]) == [data[100:5100]] * 64
        assert len(blobs.got) == 1
        assert len(blobs.listed) == (data is LARGE)

    async def test_files_share_the_chunks_they_have_in_common(self, blobs: AskedBlobs, contents: Contents) -> None:
        one = blobs.add(LARGE[: 2 * MIB], CHUNK)
        other = blobs.add(LARGE[:MIB] + made_up(MIB, 9), CHUNK)
        assert await gather([read(contents, one), read(contents, other)])
        asked = [digest for batch in blobs.got for digest in batch]
        assert len(asked) == len(set(asked)) == 3 * MIB // CHUNK

    async def test_a_chunk_that_is_repeated_is_asked_for_once(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(bytes(2 * MIB), CHUNK)
        assert await read(contents, node) == bytes(2 * MIB)
        assert blobs.got == [[B3Digest.of(bytes(CHUNK))]]

    async def test_only_the_chunks_that_are_touched_are_fetched(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE, CHUNK)
        assert await read(contents, node, 5 * CHUNK - 1, CHUNK + 2) == LARGE[5 * CHUNK - 1 : 6 * CHUNK + 1]
        assert await read(contents, node, 9 * CHUNK, CHUNK) == LARGE[9 * CHUNK : 10 * CHUNK]
        assert blobs.indices(node) == [[4, 5, 6], [9]]

    async def test_whoever_stops_waiting_leaves_the_fetching_to_the_others(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        node = blobs.add(SMALL)
        go_on = asyncio.Event()
        blobs.on_call = lambda _name: _wait(go_on)
        first, second = (asyncio.create_task(read(contents, node)) for _ in range(2))
        await blobs.until(lambda: bool(blobs.got))
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        assert await second == SMALL
        assert len(blobs.got) == 1

    async def test_a_batch_is_under_way_until_it_is_there(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(SMALL)
        go_on = asyncio.Event()
        blobs.on_call = lambda _name: _wait(go_on)
        fetching = asyncio.create_task(contents.fetch_small([node]))
        await blobs.until(lambda: bool(blobs.got))
        reading = asyncio.create_task(read(contents, node))
        assert contents.is_under_way(node.digest)
        go_on.set()
        assert await reading == SMALL
        await fetching
        assert not contents.is_under_way(node.digest)
        assert len(blobs.got) == 1


class TestFetchSmall:
    async def test_batches_keep_within_the_limits(self, blobs: AskedBlobs, contents: Contents) -> None:
        tiny = [blobs.add(b"%d" % number) for number in range(BATCH_COUNT + 1)]
        longer = [blobs.add(made_up(SMALL_BLOB_BYTES, number)) for number in range(BATCH_BYTES // MIB + 1)]
        await contents.fetch_small(tiny + longer)
        assert all(contents.at_hand(node.digest) for node in tiny + longer)
        assert [len(batch) for batch in blobs.got] == [BATCH_COUNT, 1 + BATCH_BYTES // MIB - 1, 2]
        assert all(sum(len(blobs.blobs[digest]) for digest in batch) <= BATCH_BYTES for batch in blobs.got)

    async def test_only_small_files_that_are_not_at_hand_are_asked_for(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        had, wanted = blobs.add(SMALL), blobs.add(b"wanted")
        await read(contents, had)
        await contents.fetch_small([had, blobs.add(b""), blobs.add(LARGE), wanted, wanted])
        assert blobs.got == [[had.digest], [wanted.digest]]

    @pytest.mark.parametrize("n_bad", [1, 5])
    async def test_damaged_ones_do_not_spoil_the_others(
        self, blobs: AskedBlobs, contents: Contents, n_bad: int
    ) -> None:
        nodes = [blobs.add(made_up(100, number)) for number in range(50)]
        bad, good = nodes[20 : 20 + n_bad], nodes[:20] + nodes[20 + n_bad :]
        blobs.corrupt.update(node.digest for node in bad)
        await contents.fetch_small(nodes)
        assert all(contents.at_hand(node.digest) for node in good)
        assert not any(contents.at_hand(node.digest) for node in bad)
        with pytest.raises(CorruptObject, match="is corrupt"):
            await read(contents, bad[0])

    async def test_absent_ones_are_passed_over(self, blobs: AskedBlobs, contents: Contents) -> None:
        absent, there = FileNode(B3Digest.of(b"absent"), 6), blobs.add(b"there")
        await contents.fetch_small([absent, there])
        assert contents.at_hand(absent.digest) is None
        assert contents.at_hand(there.digest) == b"there"

    async def test_a_service_that_is_away_is_told_of(self, blobs: AskedBlobs, contents: Contents) -> None:
        blobs.fail("get_many")
        with pytest.raises(Unavailable, match="gone"):
            await contents.fetch_small([blobs.add(SMALL)])

    async def test_a_size_that_is_too_small_does_not_spoil_the_same_blob_for_another_node(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        honest = blobs.add(SMALL)
        fetching = asyncio.create_task(contents.fetch_small([FileNode(honest.digest, 10)]))
        await blobs.until(lambda: bool(blobs.got))
        assert await read(contents, honest) == SMALL
        await fetching


class TestFailures:
    @pytest.mark.parametrize("name", ["get_many", "chunks", "open_read", "read"])
    async def test_one_is_told_and_not_remembered(self, blobs: AskedBlobs, contents: Contents, name: str) -> None:
        node = blobs.add(LARGE, CHUNK if name == "get_many" else None)
        blobs.fail(name)
        with pytest.raises(Unavailable, match="gone"):
            await read(contents, node)
        assert await read(contents, node) == LARGE

    async def test_one_is_told_to_all_who_wait(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(SMALL)
        blobs.fail("get_many")
        answers = await asyncio.gather(*(read(contents, node) for _ in range(5)), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["gone"] * 5
        assert len(blobs.got) == 1

    @pytest.mark.parametrize("name", ["get_many", "chunks", "open_read", "read"])
    async def test_a_service_that_hangs_is_given_up(self, blobs: AskedBlobs, name: str) -> None:
        node = blobs.add(LARGE, CHUNK if name == "get_many" else None)

        async def on_call(called: str) -> None:
            if called == name:
                await nothing_comes(called)

        blobs.on_call = on_call
        async with Contents(blobs, timeout_s=0.01) as contents:
            with pytest.raises(Unavailable, match=r"^blob blake3-.*: no answer within 0\.01 s$"):
                await read(contents, node, 0, 10)

    async def test_chunks_of_another_length_together_are_found_out(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE, CHUNK)
        with pytest.raises(CorruptObject, match=f"has {len(LARGE)} bytes in its chunks, its node says"):
            await read(contents, FileNode(node.digest, len(LARGE) + 1), 0, 10)

    @pytest.mark.parametrize("more", [-1, 1])
    async def test_a_chunk_of_another_length_than_listed_is_found_out(
        self, blobs: AskedBlobs, contents: Contents, more: int
    ) -> None:
        node = blobs.add(LARGE, CHUNK)
        first, second, *rest = blobs.lists[node.digest]
        blobs.lists[node.digest] = [
            ChunkMeta(first.digest, CHUNK + more),
            ChunkMeta(second.digest, CHUNK - more),
            *rest,
        ]
        with pytest.raises(CorruptObject, match=f"has {CHUNK} bytes, the list says {CHUNK + more}"):
            await read(contents, node, 0, 10)

    async def test_a_list_with_a_negative_length_is_found_out(self, blobs: AskedBlobs, contents: Contents) -> None:
        digest = B3Digest.of(SMALL)
        blobs.lists[digest] = [ChunkMeta(digest, 3 * MIB), ChunkMeta(digest, -MIB)]
        with pytest.raises(CorruptObject, match="in its chunks"):
            await read(contents, FileNode(digest, 2 * MIB))

    async def test_chunks_without_bytes_are_passed_over(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE, CHUNK)
        empty = ChunkMeta(blobs.add(b"").digest, 0)
        blobs.lists[node.digest] = [empty, *[one for chunk in blobs.lists[node.digest] for one in (chunk, empty)]]
        assert await read(contents, node, 0, 2 * CHUNK) == LARGE[: 2 * CHUNK]
        assert await read(contents, node, 2 * CHUNK) == LARGE[2 * CHUNK :]

    async def test_an_absent_chunk_is_named_and_the_list_asked_for_anew(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        node = blobs.add(LARGE, CHUNK)
        absent = blobs.lists[node.digest][1].digest
        del blobs.blobs[absent]
        with pytest.raises(DanglingReference) as raised:
            await read(contents, node)
        assert str(raised.value) == f"blob {node.digest}: chunk {absent} does not exist"
        blobs.add(LARGE, 2 * CHUNK)  # put once more, and cut otherwise
        assert await read(contents, node) == LARGE

    async def test_a_damaged_chunk_leaves_the_others_readable(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE, CHUNK)
        blobs.corrupt.add(blobs.lists[node.digest][1].digest)
        with pytest.raises(CorruptObject, match="is corrupt"):
            await read(contents, node, 0, 3 * CHUNK)
        asked = len(blobs.got)
        assert await read(contents, node, 0, CHUNK) == LARGE[:CHUNK]
        assert await read(contents, node, 2 * CHUNK, CHUNK) == LARGE[2 * CHUNK : 3 * CHUNK]
        assert len(blobs.got) == asked

    @pytest.mark.parametrize("data", [SMALL, LARGE])
    async def test_closing_ends_what_is_waited_for(self, blobs: AskedBlobs, data: bytes) -> None:
        contents = Contents(blobs)
        blobs.on_call = nothing_comes
        reading = asyncio.create_task(read(contents, blobs.add(data)))
        await blobs.until(lambda: bool(blobs.got or blobs.listed))
        await contents.aclose()
        with pytest.raises(Unavailable, match="closed"):
            await reading

    async def test_closing_before_anything_was_asked_ends_it_too(self, blobs: AskedBlobs) -> None:
        contents = Contents(blobs)
        reading = asyncio.create_task(read(contents, blobs.add(SMALL)))
        await asyncio.create_task(contents.aclose())  # right after the read has taken its first step
        with pytest.raises(Unavailable, match="closed"):
            await reading
        assert blobs.got == []


class TestUnsplit:
    async def test_reading_on_costs_one_call_for_each_mib(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE)
        blobs.reads_at_most = MIB + 1
        for start in range(0, len(LARGE), 128 * KIB):
            assert await read(contents, node, start, 128 * KIB) == LARGE[start : start + 128 * KIB]
        (reader,) = blobs.opened
        assert reader.n_bytes == [MIB, MIB, MIB, 77, 0]
        assert reader.seeks == []

    async def test_short_answers_are_put_together(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE)
        blobs.reads_at_most = 100_001
        assert await read(contents, node, MIB - 5, MIB) == LARGE[MIB - 5 : 2 * MIB - 5]

    async def test_any_place_is_reached(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE)
        for offset in (2 * MIB + 5, MIB, 3 * MIB, 0):
            assert await read(contents, node, offset, 50) == LARGE[offset : offset + 50]
        assert [reader.seeks for reader in blobs.opened] == [[2 * MIB, MIB, 3 * MIB], []]

    @pytest.mark.parametrize("stated", [len(LARGE) - 1, len(LARGE) + 1])
    async def test_a_wrong_size_is_found_out_at_the_end(
        self, blobs: AskedBlobs, contents: Contents, stated: int
    ) -> None:
        honest = blobs.add(LARGE)
        assert await read(contents, honest) == LARGE
        node = FileNode(honest.digest, stated)
        assert await read(contents, node, 0, MIB) == LARGE[:MIB]
        with pytest.raises(CorruptObject, match=f"than the {stated} bytes its node says"):
            await read(contents, node, 3 * MIB, 10)

    async def test_few_readers_are_open_and_the_others_closed(self, blobs: AskedBlobs, contents: Contents) -> None:
        nodes = [blobs.add(made_up(2 * MIB, number)) for number in range(MAX_READERS + 4)]
        for node in nodes:
            await read(contents, node, 0, 10)
        assert [reader.is_closed for reader in blobs.opened] == [True] * 4 + [False] * MAX_READERS

    async def test_the_reader_not_used_for_longest_is_closed(self, blobs: AskedBlobs, contents: Contents) -> None:
        nodes = [blobs.add(made_up(3 * MIB, number)) for number in range(MAX_READERS + 1)]
        for node in nodes[:-1]:
            await read(contents, node, 0, 10)
        await read(contents, nodes[0], MIB, 10)
        await read(contents, nodes[-1], 0, 10)
        assert [reader.is_closed for reader in blobs.opened[:3]] == [False, True, False]

    async def test_a_reader_in_use_is_not_closed_for_another(self, blobs: AskedBlobs, contents: Contents) -> None:
        first, *others = [blobs.add(made_up(2 * MIB, number)) for number in range(MAX_READERS + 2)]
        await read(contents, first, 0, 10)
        held, go_on = asyncio.Event(), asyncio.Event()

        async def on_call(name: str) -> None:
            held.set()
            await go_on.wait()

        blobs.on_call = on_call
        reading = asyncio.create_task(read(contents, first, MIB, 10))
        await held.wait()
        blobs.on_call = None
        for node in others:
            await read(contents, node, 0, 10)
        assert not blobs.opened[0].is_closed
        go_on.set()
        assert await reading == made_up(2 * MIB, 0)[MIB : MIB + 10]

    async def test_only_the_pieces_that_are_touched_are_read(self, blobs: AskedBlobs, contents: Contents) -> None:
        await read(contents, blobs.add(LARGE), 0, MIB)
        assert sum(blobs.opened[0].n_bytes) == MIB

    async def test_a_failure_is_not_waited_for_twice(self, blobs: AskedBlobs, contents: Contents) -> None:
        names: list[str] = []

        async def on_call(name: str) -> None:
            names.append(name)
            if name == "open_read":
                raise Unavailable("gone")

        blobs.on_call = on_call
        with pytest.raises(Unavailable, match="gone"):
            await read(contents, blobs.add(LARGE))
        assert names == ["chunks", "open_read"]

    async def test_many_readers_at_once_do_not_open_more(self, blobs: AskedBlobs, contents: Contents) -> None:
        most = 0

        async def on_call(name: str) -> None:
            nonlocal most
            most = max(most, sum(not reader.is_closed for reader in blobs.opened))
            await asyncio.sleep(0)

        blobs.on_call = on_call
        data = [made_up(MIB + 5, number) for number in range(3 * MAX_READERS)]
        nodes = [blobs.add(one) for one in data]
        found = await gather([read(contents, node, offset, 5) for offset in (0, MIB) for node in nodes])
        assert found == [one[offset : offset + 5] for offset in (0, MIB) for one in data]
        assert 1 < most <= MAX_READERS

    async def test_a_reader_that_was_open_and_fails_is_replaced(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE)
        await read(contents, node, 0, 10)
        blobs.fail("read")
        assert await read(contents, node, MIB, 10) == LARGE[MIB : MIB + 10]
        assert [reader.is_closed for reader in blobs.opened] == [True, False]

    async def test_nothing_stays_open(self, blobs: AskedBlobs) -> None:
        async with Contents(blobs) as contents:
            await read(contents, blobs.add(LARGE), 0, 10)
        assert [reader.is_closed for reader in blobs.opened] == [True]

    async def test_a_blob_with_huge_chunks_is_read_through_a_reader(
        self, blobs: AskedBlobs, contents: Contents
    ) -> None:
        data = bytes(MAX_CHUNK_BYTES) + b"\1"
        node = blobs.add(data)
        blobs.lists[node.digest] = [ChunkMeta(node.digest, len(data))]
        assert await read(contents, node, MAX_CHUNK_BYTES - 1, 10) == b"\0\1"
        assert blobs.got == []

    async def test_a_long_chunk_is_fetched_whole(self, blobs: AskedBlobs, contents: Contents) -> None:
        node = blobs.add(LARGE, 2 * MIB)
        assert await read(contents, node, 2 * MIB - 5, 10) == LARGE[2 * MIB - 5 : 2 * MIB + 5]
        assert blobs.indices(node) == [[0, 1]]


class TestReadAhead:
    async def test_what_follows_is_fetched_for_whoever_reads_on(self, blobs: AskedBlobs) -> None:
        node = blobs.add(LARGE, CHUNK)
        async with Contents(blobs) as contents:
            await read(contents, node, 0, CHUNK)
            await read(contents, node, CHUNK, CHUNK)
            await blobs.until(lambda: len(blobs.got) == 3)
            assert blobs.indices(node) == [[0], [1], [2, 3, 4, 5, 6, 7, 8, 9]]
            assert await read(contents, node, 2 * CHUNK, CHUNK) == LARGE[2 * CHUNK : 3 * CHUNK]
            assert len(blobs.got) == 3

    async def test_it_goes_on_from_what_is_at_hand(self, blobs: AskedBlobs) -> None:
        node = blobs.add(LARGE, CHUNK)
        async with Contents(blobs) as contents:
            await read(contents, node, 0, 4 * CHUNK)
            read_at_once(contents, node, 0, CHUNK)
            await blobs.until(lambda: len(blobs.got) == 2)
            assert blobs.indices(node)[1] == [4, 5, 6, 7, 8, 9, 10, 11]

    async def test_it_takes_a_quarter_of_the_cache_at_most(self, blobs: AskedBlobs) -> None:
        node = blobs.add(LARGE, CHUNK)
        async with Contents(blobs, cache_bytes=1 * MIB) as contents:
            await read(contents, node, 0, CHUNK)
            await read(contents, node, CHUNK, CHUNK)
            await blobs.until(lambda: len(blobs.got) == 3)
            assert blobs.indices(node) == [[0], [1], [2, 3, 4, 5]]

    async def test_what_fails_ahead_is_silent_until_it_is_read(self, blobs: AskedBlobs) -> None:
        node = blobs.add(LARGE, CHUNK)
        async with Contents(blobs) as contents:
            await read(contents, node, 0, CHUNK)
            blobs.corrupt.add(blobs.lists[node.digest][4].digest)
            for index in range(1, 4):
                await read(contents, node, index * CHUNK, CHUNK)
            with pytest.raises(CorruptObject, match="is corrupt"):
                await read(contents, node, 4 * CHUNK, CHUNK)
            blobs.corrupt.clear()
            assert await read(contents, node, 4 * CHUNK, CHUNK) == LARGE[4 * CHUNK : 5 * CHUNK]

    async def test_a_blob_that_is_not_split_is_read_ahead_in_order(self, blobs: AskedBlobs) -> None:
        node = blobs.add(LARGE)
        async with Contents(blobs) as contents:
            for start in range(0, len(LARGE), 128 * KIB):
                assert await read(contents, node, start, 128 * KIB) == LARGE[start : start + 128 * KIB]
        assert [reader.seeks for reader in blobs.opened] == [[]]


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
