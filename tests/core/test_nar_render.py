from __future__ import annotations

import asyncio
import hashlib
import tempfile
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from core.nar_trees import Store, many_files, trees
from fakes.services import CountingBlobs, Hang
from tvix_store.blob import BlobReader
from tvix_store.digest import B3Digest
from tvix_store.errors import DanglingReference, InvalidObject, LimitExceeded, Unavailable
from tvix_store.ingest import ingest_path
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, KIB, MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nar_calculation import NarDigest
from tvix_store.nar_dump import dump_path
from tvix_store.nar_render import RenderingNarCalculation, load_tree, render_nar
from tvix_store.nar_render import Tree as RenderedTree
from tvix_store.nodes import Directory, DirectoryNode, FileNode, SymlinkNode
from tvix_store.testing.fixtures import contents
from tvix_store.testing.minimal import MinimalBlobService
from vectors.nar import SIZES_AND_SHA256, TREES, Dir, File, Link, Tree, encode, materialise

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> Store:
    return Store()


# --- what comes out ---


@pytest.mark.parametrize("name", TREES)
async def test_sample_trees_have_the_known_nar(store: Store, name: str) -> None:
    data = await store.nar(await store.put(TREES[name]))
    assert (len(data), hashlib.sha256(data).hexdigest()) == SIZES_AND_SHA256[name]


@pytest.mark.parametrize("name", TREES)
async def test_the_size_is_known_beforehand(store: Store, name: str) -> None:
    tree = await load_tree(await store.put(TREES[name]), store.directories)
    store.counting.blobs.clear()
    assert tree.nar_size() == SIZES_AND_SHA256[name][0]


@pytest.mark.parametrize("size", [0, 1, 8, MIB - 1, MIB, MIB + 1, 3 * MIB, BATCH_BYTES + 1])
async def test_files_of_every_size(store: Store, size: int) -> None:
    tree = Dir({b"a": File(b"1"), b"b": File(contents(size), True), b"c": File(b"2"), b"d": File(contents(size))})
    node = await store.put(tree)
    assert await store.nar(node) == encode(tree)
    assert (await load_tree(node, store.directories)).nar_size() == len(encode(tree))


@pytest.mark.parametrize(
    "tree",
    [
        File(contents(2 * MIB), True),
        many_files(3 * BATCH_COUNT),
        many_files(20, MIB),
        Dir({b"%05d" % i: Link(b"x") for i in range(10 * BATCH_COUNT)}),
        Dir({b"%05d" % i: Dir({}) for i in range(3 * BATCH_COUNT)}),
        Dir({b"%02d" % i: File(contents(MIB + i, i)) for i in range(4)}),
    ],
    ids=["large root", "many files", "many bytes", "symlinks", "directories", "large files"],
)
async def test_trees_of_more_than_one_window(store: Store, tree: Tree) -> None:
    assert await store.nar(await store.put(tree)) == encode(tree)


async def test_subtrees_that_are_the_same_are_written_each_time(store: Store) -> None:
    shared = Dir({b"f": File(b"1"), b"d": Dir({})})
    tree = Dir({b"a": shared, b"b": shared, b"c": Dir({b"a": shared})})
    node = await store.put(tree)
    assert await store.nar(node) == encode(tree)
    assert len((await load_tree(node, store.directories)).directories) == 4


async def test_the_size_of_a_tree_that_doubles_at_each_level_is_found_at_once(store: Store) -> None:
    node = await store.put_directory()
    for _ in range(50):
        node = await store.put_directory(a=node, b=node)
    size = (await load_tree(node, store.directories)).nar_size()
    assert size == 24 + (72 + 2 * 96) * (2**50 - 1) + 72 * 2**50


async def test_a_nar_longer_than_any_can_be_is_refused_before_its_first_byte(store: Store) -> None:
    node = await store.put_directory()
    for _ in range(60):
        node = await store.put_directory(a=node, b=node)
    with pytest.raises(LimitExceeded, match="are possible"):
        await store.nar(node)


async def test_pieces_of_symlinks_are_not_huge(store: Store) -> None:
    node = await store.put(Dir({b"%05d" % i: Link(b"x" * 200) for i in range(10_000)}))
    assert max([len(piece) async for piece in store.render(node)]) <= MIB


async def test_files_travel_in_batches(store: Store) -> None:
    await store.nar(await store.put(many_files(3 * BATCH_COUNT)))
    assert sum(store.counting.got) == 3 * BATCH_COUNT
    assert max(store.counting.got) <= BATCH_COUNT
    store.counting.got.clear()
    await store.nar(await store.put(many_files(20, SMALL_BLOB_BYTES)))
    assert max(store.counting.got) * SMALL_BLOB_BYTES <= BATCH_BYTES


async def test_pieces_are_neither_tiny_nor_huge(store: Store) -> None:
    node = await store.put(many_files(400, 10 * KIB))
    sizes = [len(piece) async for piece in store.render(node)]
    assert all(PIECE_BYTES <= size <= PIECE_BYTES + 16 * KIB for size in sizes[:-1])
    node = await store.put(Dir({b"a": File(contents(5 * MIB)), b"b": File(contents(MIB))}))
    assert max([len(piece) async for piece in store.render(node)]) <= SMALL_BLOB_BYTES + PIECE_BYTES


@given(trees)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_imported_is_rendered_as_it_was(tree: Tree) -> None:
    async def check(path: Path) -> None:
        store = Store()
        ingested = await ingest_path(path, store.blobs, store.directories)
        dump = b"".join(dump_path(path))
        assert await store.nar(ingested.node) == dump
        assert ingested.nar == NarDigest(len(dump), hashlib.sha256(dump).digest())
        assert (await load_tree(ingested.node, store.directories)).nar_size() == len(dump)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(materialise(tree, Path(folder) / "tree")))


# --- what cannot be rendered ---


@pytest.mark.parametrize("size", [5, 2 * MIB])
async def test_an_absent_blob_is_named(store: Store, size: int) -> None:
    node = await store.put(Dir({b"a": File(contents(size))}))
    store.counting.blobs.clear()
    with pytest.raises(DanglingReference, match=f"blob {B3Digest.of(contents(size))} does not exist".replace("+", ".")):
        await store.nar(node)


async def test_the_empty_blob_is_always_there(store: Store) -> None:
    node = await store.put(TREES["complicated"])
    store.counting.blobs.clear()
    assert len(await store.nar(node)) == 840


async def test_an_absent_root_is_named(store: Store) -> None:
    absent = DirectoryNode(B3Digest.of(b"x"), 0)
    with pytest.raises(DanglingReference, match=r"directory blake3-.* does not exist"):
        await load_tree(absent, store.directories)


async def test_an_absent_directory_below_is_named(store: Store) -> None:
    node = await store.put_directory(a=DirectoryNode(B3Digest.of(b"x"), 0))
    with pytest.raises(DanglingReference, match=r"directory blake3-.* does not exist"):
        await load_tree(node, store.directories)


@pytest.mark.parametrize(
    ("actual", "stated"),
    [(10, 9), (10, 11), (10, 0), (10, 2 * MIB), (2 * MIB, 2 * MIB - 1), (2 * MIB, 2 * MIB + 1), (2 * MIB, 10)],
)
async def test_a_blob_that_is_not_as_long_as_its_node_says(store: Store, actual: int, stated: int) -> None:
    """The CASTORE_NODE_TOO_BIG and _TOO_SMALL of the reference."""
    await store.put(File(contents(actual)))
    node = await store.put_directory(a=FileNode(B3Digest.of(contents(actual)), stated))
    with pytest.raises(InvalidObject, match=r"blob .* (has .* bytes, its node says|is longer than)"):
        await store.nar(node)


async def test_nothing_is_sent_beyond_what_was_announced(store: Store) -> None:
    await store.put(File(contents(3 * MIB)))
    node = FileNode(B3Digest.of(contents(3 * MIB)), 2 * MIB)
    sent = bytearray()
    with pytest.raises(InvalidObject):
        await store.nar(node, sent)
    assert len(sent) <= (await load_tree(node, store.directories)).nar_size()


async def test_a_tree_deeper_than_a_nar_may_be(store: Store) -> None:
    tree: Tree = File(b"x")
    for _ in range(65):
        tree = Dir({b"d": tree})
    with pytest.raises(LimitExceeded, match="a tree of 66 levels, a NAR has at most 64"):
        await store.nar(await store.put(tree))


async def test_a_failure_comes_after_what_went_before(store: Store) -> None:
    node = await store.put(many_files(BATCH_COUNT + 10))
    del store.counting.blobs[B3Digest.of(contents(8, BATCH_COUNT + 5))]
    sent = bytearray()
    with pytest.raises(DanglingReference):
        await store.nar(node, sent)
    assert sent
    assert encode(many_files(BATCH_COUNT + 10)).startswith(sent)


async def test_a_failing_store_is_told_as_it_is(store: Store) -> None:
    async def fail() -> None:
        raise Unavailable("the store is gone")

    store.counting.on_get = fail
    with pytest.raises(Unavailable, match=r"^the store is gone$"):
        await store.nar(await store.put(TREES["mixed"]))


# --- reading ahead ---


async def second_window_hangs(store: Store) -> tuple[AsyncGenerator[bytes], Hang]:
    """A NAR whose first window was fetched; the second never comes."""
    node = await store.put(many_files(5 * BATCH_COUNT))
    hang = Hang()

    async def on_get() -> None:
        if len(store.counting.got) > 1:
            await hang()

    store.counting.on_get = on_get
    return render_nar(await load_tree(node, store.directories), store.blobs), hang


async def test_three_windows_and_no_more_are_on_their_way_while_one_is_sent(store: Store) -> None:
    node = await store.put(many_files(6 * BATCH_COUNT))
    last = asyncio.Event()

    async def on_get() -> None:
        if len(store.counting.got) == 4:
            last.set()
        if len(store.counting.got) > 1:
            await asyncio.Event().wait()

    store.counting.on_get = on_get
    pieces = render_nar(await load_tree(node, store.directories), store.blobs)
    assert await anext(pieces)
    await last.wait()
    assert len(store.counting.got) == 4
    await pieces.aclose()


async def test_closing_the_stream_cancels_what_is_on_its_way(store: Store) -> None:
    pieces, hang = await second_window_hangs(store)
    await anext(pieces)
    await hang.called.wait()
    await pieces.aclose()
    assert hang.cancelled


async def test_cancelling_the_reader_cancels_what_is_on_its_way(store: Store) -> None:
    pieces, hang = await second_window_hangs(store)

    async def read() -> None:
        async with aclosing(pieces):
            async for _ in pieces:
                pass

    task = asyncio.create_task(read())
    await hang.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hang.cancelled


class ZeroReader(BlobReader):
    """So many zeros, without having them."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.closed = False

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        piece = bytes(min(max_bytes, PIECE_BYTES, self.left))
        self.left -= len(piece)
        return piece

    async def seek(self, position: int) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


class ZeroBlobs(MinimalBlobService):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.reader = ZeroReader(size)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        return self.reader


async def test_a_stream_that_is_given_up_closes_the_blob_at_once(store: Store) -> None:
    zeros = ZeroBlobs(10 * MIB)
    tree = await load_tree(FileNode(B3Digest.of(b""), 10 * MIB), store.directories)
    pieces = render_nar(tree, zeros)
    await anext(pieces)
    await anext(pieces)
    assert not zeros.reader.closed
    await pieces.aclose()
    assert zeros.reader.closed


class OpenBlobs(CountingBlobs):
    """Large blobs that say when they are opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: dict[B3Digest, ZeroReader] = {}
        self.two_are_open = asyncio.Event()

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        self.opened[digest] = ZeroReader(10 * MIB)
        if len(self.opened) == 2:
            self.two_are_open.set()
        return self.opened[digest]


async def test_the_next_large_file_is_begun_while_one_is_sent_and_closed_with_it(store: Store) -> None:
    blobs = OpenBlobs()
    files = {f"{i}": FileNode(B3Digest.of(b"%d" % i), 10 * MIB) for i in range(5)}
    tree = await load_tree(await store.put_directory(**files), store.directories)
    pieces = render_nar(tree, blobs)
    await anext(pieces)
    assert len(await anext(pieces)) == PIECE_BYTES
    await blobs.two_are_open.wait()
    assert len(blobs.opened) <= 4
    assert not blobs.opened[files["0"].digest].closed
    await pieces.aclose()
    assert all(reader.closed for reader in blobs.opened.values())


async def test_each_directory_is_looked_at_once_to_find_the_size(store: Store) -> None:
    leaf = await store.put_directory(a=SymlinkNode(b"x"))
    node = await store.put_directory(**{f"{i}": await store.put_directory(a=leaf, b=leaf) for i in range(3)}, z=leaf)
    tree = await load_tree(node, store.directories)
    looked_at: list[B3Digest] = []

    class Watched(dict[B3Digest, Directory]):
        def __getitem__(self, digest: B3Digest) -> Directory:
            looked_at.append(digest)
            return super().__getitem__(digest)

    assert RenderedTree(node, Watched(tree.directories)).nar_size() == tree.nar_size()
    assert sorted(looked_at) == sorted(tree.directories)


async def test_memory_does_not_grow_with_a_file(store: Store) -> None:
    size = 300 * MIB
    tree = await load_tree(FileNode(B3Digest.of(b"x"), size), store.directories)
    tracemalloc.start()
    try:
        length = sum([len(piece) async for piece in render_nar(tree, ZeroBlobs(size))])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == tree.nar_size()
    assert peak < 4 * MIB


async def test_calculation_is_size_and_hash_of_the_rendered_nar(store: Store) -> None:
    for name, (size, sha256) in SIZES_AND_SHA256.items():
        calculation = RenderingNarCalculation(store.blobs, store.directories)
        assert await calculation.calculate_nar(await store.put(TREES[name])) == NarDigest(size, bytes.fromhex(sha256))


async def test_calculation_of_what_is_longer_than_one_portion(store: Store) -> None:
    tree = Dir({b"%02d" % i: File(contents(MIB + i, i)) for i in range(5)})
    digest = await RenderingNarCalculation(store.blobs, store.directories).calculate_nar(await store.put(tree))
    assert digest == NarDigest(len(encode(tree)), hashlib.sha256(encode(tree)).digest())


async def test_calculation_of_what_is_not_all_there(store: Store) -> None:
    node = await store.put(Dir({b"%02d" % i: File(contents(MIB + i, i)) for i in range(5)}))
    del store.counting.blobs[B3Digest.of(contents(MIB + 4, 4))]
    with pytest.raises(DanglingReference):
        await RenderingNarCalculation(store.blobs, store.directories).calculate_nar(node)
