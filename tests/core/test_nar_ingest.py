from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.services import CountingBlobs, CountingDirectories, Hang
from tvix_store import nar_ingest_parse
from tvix_store.blob import BlobWriter
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, InvalidObject, LimitExceeded, Unavailable
from tvix_store.ingest import Ingested
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, KIB, MIB, SMALL_BLOB_BYTES
from tvix_store.nar import NarWriter
from tvix_store.nar_calculation import NarDigest
from tvix_store.nar_ingest import ingest_nar
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.nodes import Directory, FileNode, Node, SymlinkNode
from tvix_store.testing.cancelling import cancel_when
from tvix_store.testing.fixtures import contents
from tvix_store.wire import encode_node
from vectors.castore_nodes import NODES
from vectors.nar import MAGIC, TREES, Dir, File, Link, Tree, encode, nested
from vectors.nar_streams import ACCEPT, STREAMS, Stream

pytestmark = pytest.mark.anyio

every_tree = pytest.mark.parametrize("name", TREES)


async def cut(data: bytes, piece_bytes: int = 64 * KIB) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece_bytes):
        yield data[start : start + piece_bytes]


async def each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Ingest:
    """Two services, with core's checks around them, and how much progress was told of."""

    def __init__(self) -> None:
        self.blobs = CountingBlobs()
        self.directories = CountingDirectories()
        self.files = self.n_bytes = 0
        self.checked = CheckedBlobService("blobs", self.blobs), CheckedDirectoryService("directories", self.directories)

    def advance(self, *, files: int, n_bytes: int) -> None:
        self.files += files
        self.n_bytes += n_bytes

    async def __call__(self, nar: bytes | AsyncIterator[bytes]) -> Ingested:
        pieces = cut(nar) if isinstance(nar, bytes) else nar
        return await ingest_nar(pieces, *self.checked, self.advance)

    async def nar_of(self, node: Node) -> bytes:
        blobs, directories = self.checked
        tree = await load_tree(node, directories)
        return b"".join([piece async for piece in render_nar(tree, blobs)])

    def shows_nothing(self) -> bool:
        counts = self.directories
        return (counts.finished, counts.directories, counts.closed) == (0, {}, counts.started)


@pytest.fixture
def ingest() -> Ingest:
    return Ingest()


def digest_of(nar: bytes) -> NarDigest:
    return NarDigest(len(nar), hashlib.sha256(nar).digest())


def node_of(tree: Tree) -> Node:
    match tree:
        case File(data, executable):
            return FileNode(B3Digest.of(data), len(data), executable)
        case Link(target):
            return SymlinkNode(target)
        case Dir(entries):
            return Directory({name: node_of(child) for name, child in entries.items()}).node()


# --- what comes out ---


@every_tree
@pytest.mark.parametrize("piece_bytes", [1, MIB])
async def test_sample_trees_have_the_known_node_and_nar(ingest: Ingest, name: str, piece_bytes: int) -> None:
    nar = encode(TREES[name])
    ingested = await ingest(cut(nar, piece_bytes))
    assert encode_node(ingested.node) == base64.urlsafe_b64decode(NODES[name] + "==")
    assert ingested.nar == digest_of(nar)
    assert await ingest.nar_of(ingested.node) == nar


names = st.binary(min_size=1, max_size=12).filter(lambda name: name not in (b".", b"..") and not {0, 47} & set(name))
files = st.builds(File, st.binary(max_size=300) | st.integers(0, 70_000).map(contents), st.booleans())
links = st.builds(Link, st.binary(min_size=1, max_size=40).filter(lambda target: 0 not in target))
trees = st.recursive(
    files | links, lambda children: st.builds(Dir, st.dictionaries(names, children, max_size=5)), max_leaves=20
)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(trees, st.lists(st.integers(0)))
@settings(relaxed, max_examples=60)
def test_any_tree_is_taken_however_its_nar_is_cut(tree: Tree, places: list[int]) -> None:
    async def check() -> None:
        ingest = Ingest()
        ingested = await ingest(each(pieces))
        assert ingested == Ingested(node_of(tree), digest_of(nar))
        assert await ingest.nar_of(ingested.node) == nar

    nar = encode(tree)
    ends = sorted(place % (len(nar) + 1) for place in places)
    pieces = [nar[start:end] for start, end in itertools.pairwise((0, *ends, len(nar)))]
    asyncio.run(check())


async def test_a_tree_of_many_portions_in_pieces_of_any_size(ingest: Ingest) -> None:
    entries = {b"%04d" % i: File(contents(i * 17 % 20_000, i), i % 3 == 0) for i in range(600)}
    tree = Dir({b"a": Dir(entries), b"b": File(contents(3 * MIB)), b"c": Dir(dict(entries))})
    nar = encode(tree)
    for piece_bytes in (999, 300_000, len(nar)):
        assert await ingest(cut(nar, piece_bytes)) == Ingested(node_of(tree), digest_of(nar))


@pytest.mark.parametrize("name", ["hello", "exec", "link", "empty-file"])
async def test_a_root_that_is_no_directory_starts_no_upload(ingest: Ingest, name: str) -> None:
    await ingest(encode(TREES[name]))
    assert ingest.directories.started == 0


async def test_a_directory_is_one_upload(ingest: Ingest) -> None:
    await ingest(encode(TREES["mixed"]))
    counts = ingest.directories
    assert (counts.started, counts.finished, counts.closed) == (1, 1, 1)


async def test_progress_adds_up_to_all_files_and_bytes(ingest: Ingest) -> None:
    large = {b"e": File(bytes(2 * MIB)), b"f": File(bytes(BATCH_BYTES + 1))}
    await ingest(encode(Dir({b"a": File(b"12"), b"b": Dir({b"c": File(b"345"), b"d": Link(b"x")}), **large})))
    assert (ingest.files, ingest.n_bytes) == (4, 2 * MIB + BATCH_BYTES + 6)


# --- batches and large files ---


async def test_blobs_travel_in_batches(ingest: Ingest) -> None:
    await ingest(encode(Dir({b"%05d" % i: File(b"%d" % i) for i in range(3 * BATCH_COUNT)})))
    assert len(ingest.blobs.put) == 3 * BATCH_COUNT
    assert len(ingest.blobs.batches) == 3
    assert max(ingest.blobs.batches) <= BATCH_COUNT


async def test_batches_are_bounded_by_bytes(ingest: Ingest) -> None:
    await ingest(encode(Dir({b"%02d" % i: File(contents(SMALL_BLOB_BYTES, i)) for i in range(20)})))
    assert max(ingest.blobs.batches) * SMALL_BLOB_BYTES <= BATCH_BYTES


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, BATCH_BYTES, BATCH_BYTES + 1, 2 * BATCH_BYTES + 17])
async def test_files_of_every_size_are_stored(ingest: Ingest, size: int) -> None:
    tree = Dir({b"a": File(b"1"), b"b": File(contents(size), True), b"c": File(b"2")})
    assert await ingest(encode(tree)) == Ingested(node_of(tree), digest_of(encode(tree)))
    assert ingest.blobs.blobs[B3Digest.of(contents(size))] == contents(size)
    assert ingest.blobs.written == (1 if size > SMALL_BLOB_BYTES else 0)


@pytest.mark.parametrize("size", [2 * MIB, BATCH_BYTES + 1])
async def test_a_large_file_may_be_the_root(ingest: Ingest, size: int) -> None:
    assert (await ingest(encode(File(contents(size))))).node == FileNode(B3Digest.of(contents(size)), size)


async def test_what_is_stored_already_is_not_sent_again(ingest: Ingest) -> None:
    nar = encode(Dir({b"a": File(b"1"), b"large": File(contents(2 * MIB))}))
    first = await ingest(nar)
    assert (len(ingest.blobs.put), ingest.blobs.written) == (1, 1)
    assert await ingest(nar) == first
    assert (len(ingest.blobs.put), ingest.blobs.written) == (1, 1)


async def test_equal_contents_are_sent_once(ingest: Ingest) -> None:
    await ingest(encode(Dir({b"%d" % i: File(b"same", i % 2 == 0) for i in range(10)})))
    assert ingest.blobs.put == [B3Digest.of(b"same")]


async def test_a_service_that_stores_something_else_is_found_out(ingest: Ingest) -> None:
    class Wrong(BlobWriter):
        async def write(self, data: bytes) -> None: ...

        async def close(self) -> B3Digest:
            return B3Digest.of(b"something else")

    async def open_write() -> BlobWriter:
        return Wrong()

    ingest.blobs.open_write = open_write  # type: ignore[method-assign]
    with pytest.raises(CorruptObject, match="was stored as"):
        await ingest_nar(cut(encode(File(bytes(2 * MIB)))), ingest.blobs, ingest.directories)


# --- what is no NAR ---


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
async def test_stream_is_taken_or_refused(ingest: Ingest, stream: Stream) -> None:
    if stream.want == ACCEPT:
        ingested = await ingest(stream.data)
        assert await ingest.nar_of(ingested.node) == stream.data
    else:
        with pytest.raises(InvalidObject, match="NAR byte"):
            await ingest(stream.data)
        assert ingest.shows_nothing()


@pytest.mark.parametrize("name", ["hello", "link", "mixed", "complicated"])
async def test_every_truncated_nar_is_refused(name: str) -> None:
    nar = encode(TREES[name])
    for end in range(len(nar)):
        ingest = Ingest()
        with pytest.raises(InvalidObject, match=f"NAR byte {end}.*truncated"):
            await ingest(nar[:end])
        assert ingest.shows_nothing()


@pytest.mark.parametrize("size", [2 * MIB, BATCH_BYTES + 1])
async def test_a_truncated_large_file_is_refused(ingest: Ingest, size: int) -> None:
    nar = encode(Dir({b"a": File(contents(size))}))
    with pytest.raises(InvalidObject, match="truncated"):
        await ingest(nar[: MIB + size // 2])
    assert ingest.shows_nothing()
    assert ingest.blobs.blobs == {}


async def test_bytes_behind_the_nar_are_refused(ingest: Ingest) -> None:
    for piece_bytes in (1, MIB):
        with pytest.raises(InvalidObject, match="complete, but the input goes on"):
            await ingest(cut(encode(TREES["mixed"]) + b"\0", piece_bytes))
        assert ingest.shows_nothing()


async def test_depth_is_limited(ingest: Ingest) -> None:
    await ingest(MAGIC + nested(63))
    with pytest.raises(LimitExceeded, match="over 64 levels deep"):
        await ingest(MAGIC + nested(64))


@given(
    st.sampled_from(["mixed", "complicated", "hello", "prefixdirs"]), st.integers(0), st.binary(min_size=1, max_size=9)
)
@settings(relaxed, max_examples=200)
def test_what_was_tampered_with_is_refused_or_rendered_as_it_came(name: str, place: int, bytes_: bytes) -> None:
    async def check() -> None:
        ingest = Ingest()
        try:
            ingested = await ingest(nar)
        except InvalidObject as exc:
            assert "\n" not in str(exc)  # noqa: PT017 - it need not be raised
            assert ingest.shows_nothing()
        else:
            assert ingested.nar == digest_of(nar)
            assert await ingest.nar_of(ingested.node) == nar

    nar = encode(TREES[name])
    place %= len(nar)
    nar = nar[:place] + bytes_ + nar[place + len(bytes_) :]
    asyncio.run(check())


# --- memory and back pressure ---


class HashingWriter(BlobWriter):
    """Keeps nothing but the hash."""

    def __init__(self) -> None:
        self._hasher = blake3()

    async def write(self, data: bytes) -> None:
        self._hasher.update(data)

    async def close(self) -> B3Digest:
        return B3Digest(self._hasher.digest())


class ForgetfulBlobs(CountingBlobs):
    """Keeps nothing."""

    async def put_many(self, blobs: object) -> None: ...

    async def open_write(self) -> BlobWriter:
        return HashingWriter()


def zeros(size: int, piece_bytes: int = 256 * KIB) -> Iterator[bytes]:
    """The NAR of a file of zeros."""
    writer = NarWriter()
    yield writer.begin_file(size, executable=False)
    for start in range(0, size, piece_bytes):
        yield writer.content(bytes(min(piece_bytes, size - start)))
    yield writer.end_file()


def many(count: int, size: int) -> Iterator[bytes]:
    """The NAR of a directory of files of different contents."""
    writer = NarWriter()
    yield writer.begin_directory()
    for number in range(count):
        yield writer.entry(b"%09d" % number)
        yield writer.file(b"%09d" % number * (size // 9), executable=False)
    yield writer.end_directory()


@pytest.mark.parametrize(
    ("nar", "max_bytes"),
    [
        (zeros(200 * MIB), 16 * MIB),
        (many(300, MIB), 40 * MIB),
        (many(30, 7 * MIB), 48 * MIB),
        (many(15_000, 9), 48 * MIB),
    ],
    ids=["one file", "small files", "large files", "tiny files"],
)
async def test_memory_does_not_grow_with_the_nar(nar: Iterator[bytes], max_bytes: int) -> None:
    tracemalloc.start()
    try:
        await ingest_nar(each(nar), ForgetfulBlobs(), CountingDirectories())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < max_bytes


async def test_entries_of_open_directories_are_limited(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nar_ingest_parse, "_MAX_OPEN_BYTES", 100 * KIB)
    files = {b"%03d" % i: File(b"") for i in range(200)}
    await ingest(encode(Dir({b"a": Dir(files), b"b": Dir(files), b"c": Dir(files)})))
    with pytest.raises(LimitExceeded, match=r'over \d+ entries in "b" and'):
        await ingest(encode(Dir({**files, b"a": Dir({b"x": File(b"")}), b"b": Dir(files)})))


class Endless:
    """The NAR of an endless file, and how much of it was asked for."""

    def __init__(self) -> None:
        self.n_bytes = 0
        self.is_closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for piece in zeros(2**60):
                self.n_bytes += len(piece)
                yield piece
        except GeneratorExit:
            self.is_closed = True
            raise


async def test_source_is_read_only_as_fast_as_the_service_takes_it(ingest: Ingest) -> None:
    class Stuck(HashingWriter):
        async def write(self, data: bytes) -> None:
            await stuck()

    async def open_write() -> BlobWriter:
        return Stuck()

    stuck, source = Hang(), Endless()
    ingest.blobs.open_write = open_write  # type: ignore[method-assign]
    running = asyncio.ensure_future(ingest(source.pieces()))
    await stuck.called.wait()
    n_bytes = -1
    while source.n_bytes > n_bytes:  # it goes on until all queues are full
        n_bytes = source.n_bytes
        await asyncio.to_thread(lambda: None)
        await asyncio.to_thread(lambda: None)
    assert n_bytes < 16 * MIB
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stuck.cancelled


# --- failure and cancellation ---


async def test_what_the_source_raises_comes_through(ingest: Ingest) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield encode(Dir({b"a": File(contents(10 * MIB))}))[: 9 * MIB]
        raise Unavailable("connection reset")

    with pytest.raises(Unavailable, match="connection reset"):
        await ingest(failing())
    assert ingest.shows_nothing()
    assert ingest.blobs.blobs == {}


async def test_a_failing_service_ends_it_while_the_source_goes_on(ingest: Ingest) -> None:
    async def fail() -> None:
        raise Unavailable("disk gone")

    async def stalling() -> AsyncIterator[bytes]:
        yield encode(Dir({b"%02d" % i: File(contents(MIB, i)) for i in range(10)}))[:-1]
        await asyncio.Event().wait()

    ingest.blobs.on_put = fail
    with pytest.raises(Unavailable, match="disk gone"):
        await ingest(stalling())
    assert ingest.shows_nothing()


async def test_a_failing_directory_upload_ends_it(ingest: Ingest) -> None:
    async def fail() -> None:
        raise Unavailable("disk gone")

    ingest.directories.on_put = fail
    with pytest.raises(Unavailable, match="disk gone"):
        await ingest(encode(TREES["mixed"]))
    assert ingest.shows_nothing()


@pytest.mark.parametrize("where", ["source", "put", "directories"])
async def test_when_cancelled_nothing_is_visible_and_nothing_runs_on(ingest: Ingest, where: str) -> None:
    hang = Hang()

    async def stalling() -> AsyncIterator[bytes]:
        yield nar[:-8]
        if where == "source":
            await hang()
        yield nar[-8:]

    nar = encode(Dir({b"a": Dir({b"b": File(b"1")}), b"large": File(contents(BATCH_BYTES + 1)), b"z": File(b"2")}))
    ingest.blobs.on_put = hang if where == "put" else None
    ingest.directories.on_put = hang if where == "directories" else None
    tasks = asyncio.all_tasks()
    await cancel_when(hang.called, ingest(stalling()))
    assert hang.cancelled
    assert ingest.shows_nothing()
    assert asyncio.all_tasks() == tasks


async def test_source_is_left_to_its_owner(ingest: Ingest) -> None:
    """It can be closed as soon as the ingest has ended, because nobody is waiting for it any more."""
    source = Endless()
    pieces = source.pieces()
    ingest.blobs.open_write = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        await ingest(pieces)
    assert not source.is_closed
    await pieces.aclose()  # type: ignore[attr-defined]
    assert source.is_closed
