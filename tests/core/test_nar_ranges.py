"""Ranges of NARs: the same bytes as of the whole, and nothing is fetched that is not in them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.nar_trees import Store, many_files, trees
from tvix_store.blob import BlobReader, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, LimitExceeded
from tvix_store.limits import BATCH_COUNT, KIB, MIB, SMALL_BLOB_BYTES
from tvix_store.nar_render import check_present, load_tree
from tvix_store.nodes import FileNode, Node
from tvix_store.testing.fixtures import contents
from tvix_store.testing.minimal import MinimalBlobService
from vectors.nar import Dir, File, Link, Tree, encode

pytestmark = pytest.mark.anyio

LARGE = contents(3 * MIB + 5)


class WatchedBlobs(MinimalBlobService):
    """Knows what was fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: set[bytes] = set()

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        found = [self.blobs.get(digest) for digest in digests]
        self.fetched.update(data for data in found if data is not None)
        return found


class ChunkedBlobs(WatchedBlobs):
    """Keeps large blobs in chunks, and checks what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[B3Digest, list[ChunkMeta]] = {}
        self.discarded: list[B3Digest] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(chunks=True, verifies=True)

    def cut(self) -> None:
        """Have those in chunks that are large."""
        for digest, data in list(self.blobs.items()):
            chunks = [bytes(chunk) for chunk in cut(data)]
            if len(data) > SMALL_BLOB_BYTES:
                del self.blobs[digest]
                self.lists[digest] = [ChunkMeta(B3Digest.of(chunk), len(chunk)) for chunk in chunks]
                self.blobs.update({B3Digest.of(chunk): chunk for chunk in chunks})

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        found = await super().get_many(digests)
        for digest, data in zip(digests, found, strict=True):
            if data is not None and B3Digest.of(data) != digest:
                raise CorruptObject(f"{digest} is corrupt", expected=str(digest))
        return found

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        return self.lists.get(digest, [] if digest in self.blobs else None)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        raise AssertionError("is not streamed")

    async def discard_corrupt(self, digest: B3Digest) -> None:
        self.discarded.append(digest)


class InOnePiece(WatchedBlobs):
    """Checks what it gives, and has no chunks."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(verifies=True)


async def chunked(tree: Tree) -> tuple[Store, ChunkedBlobs, Node]:
    """The tree in a store of chunks."""
    blobs = ChunkedBlobs()
    store = Store(blobs)
    node = await store.put(tree)
    blobs.cut()
    return store, blobs, node


@pytest.fixture
def store() -> Store:
    return Store()


# --- the bytes ---


@given(trees, st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_range_is_that_slice_of_the_whole(tree: Tree, data: st.DataObject) -> None:
    nar = encode(tree)
    start = data.draw(st.integers(-3, len(nar) + 3))
    end = data.draw(st.none() | st.integers(-3, len(nar) + 3))

    async def check() -> None:
        store = Store()
        node = await store.put(tree)
        rendered = await store.nar(node, start=start, end=end)
        assert rendered == nar[max(start, 0) : None if end is None else max(end, 0)]

    asyncio.run(check())


BOUNDARIES = Dir(
    {
        b"a": File(b"1" * 9),
        b"b": Dir({b"empty": File(b""), b"x": Link(b"target"), b"y": Dir({})}),
        b"c": File(LARGE, True),
        b"d": File(b"2"),
        b"e": Dir({b"deep": Dir({b"f": File(contents(700 * KIB, 4))})}),
    }
)


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_ranges_around_every_boundary(in_chunks: bool) -> None:
    nar = encode(BOUNDARIES)
    store = Store()
    node = await store.put(BOUNDARIES)
    if in_chunks:
        store, _, node = await chunked(BOUNDARIES)
    large = nar.index(LARGE)
    tokens = {nar.index(name) for name in (b"1" * 9, b"empty", b"target", b"deep")}
    positions = sorted({0, 1, 8, large, large + len(LARGE), large + MIB, len(nar), *tokens})
    edges = sorted({position + shift for position in positions for shift in (-1, 0, 1)})
    for start in edges:
        for end in (start + 1, start + 40, start + 2 * MIB, None):
            assert await store.nar(node, start=start, end=end) == nar[max(start, 0) : end], (start, end)


async def test_ranges_of_a_tree_of_many_windows(store: Store) -> None:
    tree = Dir({b"%d" % i: many_files(900, 30) for i in range(4)})
    node, nar = await store.put(tree), encode(tree)
    for start in range(0, len(nar), 100_003):
        for n_bytes in (1, 5000, 300_000):
            assert await store.nar(node, start=start, end=start + n_bytes) == nar[start : start + n_bytes]


async def test_a_range_of_a_tree_that_doubles_at_each_level_is_found_at_once(store: Store) -> None:
    node = await store.put_directory(f=FileNode(B3Digest.of(b"x"), 1))
    store.counting.blobs[B3Digest.of(b"x")] = b"x"
    for _ in range(45):
        node = await store.put_directory(a=node, b=node)
    size = (await load_tree(node, store.directories)).nar_size()
    middle = await store.nar(node, start=size // 2, end=size // 2 + 5000)
    assert len(middle) == 5000
    assert await store.nar(node, start=size - 16) == b"\1\0\0\0\0\0\0\0)\0\0\0\0\0\0\0"


# --- what is fetched for them ---


async def test_only_files_in_the_range_are_fetched() -> None:
    tree = Dir({b"%05d" % i: File(b"%d" % i * 100) for i in range(3 * BATCH_COUNT)})
    blobs = WatchedBlobs()
    store, nar = Store(blobs), encode(tree)
    node = await store.put(tree)
    start = nar.index(b"2000" * 100) + 5
    end = nar.index(b"2002" * 100) + 1
    assert await store.nar(node, start=start, end=end) == nar[start:end]
    assert blobs.fetched == {b"2000" * 100, b"2001" * 100, b"2002" * 100}


async def test_only_chunks_in_the_range_are_fetched() -> None:
    tree = Dir({b"a": File(LARGE), b"b": File(b"1")})
    store, blobs, node = await chunked(tree)
    start = encode(tree).index(LARGE) + 2 * MIB
    assert await store.nar(node, start=start, end=start + 10) == LARGE[2 * MIB : 2 * MIB + 10]
    assert len(blobs.fetched) == 1


async def test_the_end_of_a_range_of_a_blob_in_one_piece_is_not_sent_before_all_was_checked(store: Store) -> None:
    """A range that stops before the end would otherwise be whole, and wrong."""
    node = await store.put(File(LARGE))
    store.counting.blobs[B3Digest.of(LARGE)] = LARGE[:MIB] + b"x" + LARGE[MIB + 1 :]
    for start, end in ((0, 2 * MIB), (MIB, MIB + 200), (2 * MIB, 2 * MIB + 1)):
        sent = bytearray()
        with pytest.raises(CorruptObject):
            await store.nar(node, sent, start, end)
        assert len(sent) < end - start


# --- chunks that are vouched for ---


async def test_large_files_come_chunk_by_chunk() -> None:
    tree = Dir({b"%02d" % i: File(contents(MIB + i * MIB, i)) for i in range(7)})
    store, _, node = await chunked(tree)
    assert await store.nar(node) == encode(tree)


async def test_a_wrong_chunk_is_never_sent() -> None:
    tree = Dir({b"a": File(LARGE)})
    store, blobs, node = await chunked(tree)
    (chunks,) = blobs.lists.values()
    blobs.blobs[chunks[2].digest] = bytes(chunks[2].size)
    sent = bytearray()
    with pytest.raises(CorruptObject):
        await store.nar(node, sent)
    assert encode(tree).startswith(sent)
    assert blobs.discarded == [chunks[2].digest, B3Digest.of(LARGE)]


async def test_a_missing_chunk_is_noticed_and_the_blob_forgotten() -> None:
    store, blobs, node = await chunked(Dir({b"a": File(LARGE)}))
    (chunks,) = blobs.lists.values()
    del blobs.blobs[chunks[2].digest]
    with pytest.raises(DanglingReference, match="does not exist"):
        await store.nar(node)
    assert blobs.discarded == [B3Digest.of(LARGE)]


@pytest.mark.parametrize("change", [-1, 1])
async def test_chunks_of_another_size_than_the_node_says(change: int) -> None:
    store, _, _ = await chunked(File(LARGE))
    node = FileNode(B3Digest.of(LARGE), len(LARGE) + change)
    with pytest.raises(InvalidObject, match=r"blob .* has .* bytes, its node says"):
        await store.nar(node)


async def test_an_absent_large_blob_is_named() -> None:
    store, blobs, node = await chunked(File(LARGE))
    blobs.lists.clear()
    with pytest.raises(DanglingReference, match=r"blob blake3-.* does not exist"):
        await store.nar(node)


@pytest.mark.parametrize("size", [2 * MIB, 9 * MIB])
async def test_a_large_blob_in_one_piece_is_not_held_in_memory_as_a_whole(size: int) -> None:
    blobs = InOnePiece()
    store, tree = Store(blobs), Dir({b"a": File(contents(size)), b"b": File(b"1")})
    node = await store.put(tree)
    assert await store.nar(node) == encode(tree)
    assert await store.nar(node, start=MIB, end=MIB + 10) == encode(tree)[MIB : MIB + 10]
    assert max(map(len, blobs.fetched)) < 3 * MIB


# --- looking beforehand ---


@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_what_is_missing_is_found_beforehand_if_it_is_in_the_range(store: Store, size: int) -> None:
    tree = Dir({b"a": File(b"1" * 100), b"b": Dir({b"c": File(contents(size))}), b"d": File(b"2" * 100)})
    node, nar = await store.put(tree), encode(tree)
    loaded = await load_tree(node, store.directories)
    await check_present(loaded, store.blobs)
    del store.counting.blobs[B3Digest.of(contents(size))]
    missing = nar.index(contents(size))
    for start, end in ((0, None), (missing, missing + 1), (missing + size - 1, None), (0, missing + 1)):
        with pytest.raises(DanglingReference, match=r"blob blake3-.* does not exist"):
            await check_present(loaded, store.blobs, start=start, end=end)
    await check_present(loaded, store.blobs, end=missing)
    await check_present(loaded, store.blobs, start=missing + size)


async def test_a_root_that_is_a_file_is_looked_for(store: Store) -> None:
    with pytest.raises(DanglingReference):
        await check_present(await load_tree(FileNode(B3Digest.of(b"x"), 1), store.directories), store.blobs)
    await check_present(await load_tree(await store.put(File(b"")), store.directories), store.blobs)


async def test_a_tree_too_deep_is_refused_beforehand(store: Store) -> None:
    tree: Tree = File(b"x")
    for _ in range(65):
        tree = Dir({b"d": tree})
    loaded = await load_tree(await store.put(tree), store.directories)
    with pytest.raises(LimitExceeded):
        await check_present(loaded, store.blobs)
