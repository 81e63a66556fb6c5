from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import socket
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3

from fakes.services import CountingBlobs, CountingDirectories, Hang
from tvix_store import ingest_file, ingest_walk
from tvix_store.blob import BlobWriter
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject, LimitExceeded, StoreError, Unavailable
from tvix_store.ingest import Ingested, ingest_path
from tvix_store.ingest_walk import MAX_BATCHES
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MIB, SMALL_BLOB_BYTES
from tvix_store.nar_calculation import NarDigest
from tvix_store.nar_dump import dump_path
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.testing.cancelling import cancel_when
from tvix_store.testing.fixtures import DIRECTORY_COMPLICATED, DIRECTORY_WITH_KEEP, contents
from tvix_store.wire import decode_node, encode_node
from vectors.castore_nodes import DOCUMENTED_NODES, NODES
from vectors.nar import SIZES_AND_SHA256, TREES, Dir, File, Link, Tree, materialise

pytestmark = pytest.mark.anyio

every_tree = pytest.mark.parametrize("name", TREES)


@pytest.fixture
def blobs() -> CountingBlobs:
    return CountingBlobs()


@pytest.fixture
def directories() -> CountingDirectories:
    return CountingDirectories()


@pytest.fixture
def ingest(blobs: CountingBlobs, directories: CountingDirectories) -> Ingest:
    return Ingest(blobs, directories)


class Ingest:
    """Imports into the two services, with core's checks around them, and keeps count of the progress."""

    def __init__(self, blobs: CountingBlobs, directories: CountingDirectories) -> None:
        self.blobs = blobs
        self.directories = directories
        self.files = self.n_bytes = 0

    def advance(self, *, files: int, n_bytes: int) -> None:
        self.files += files
        self.n_bytes += n_bytes

    async def __call__(self, path: str | bytes | Path) -> Ingested:
        blobs = CheckedBlobService("blobs", self.blobs)
        directories = CheckedDirectoryService("directories", self.directories)
        return await ingest_path(path, blobs, directories, self.advance)


def nar_of(path: Path) -> NarDigest:
    data = b"".join(dump_path(path))
    return NarDigest(len(data), hashlib.sha256(data).digest())


def encoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def make_files(folder: Path, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        (folder / f"{number:05}").write_text(str(number))


# --- what comes out ---


@every_tree
async def test_sample_trees_have_the_known_node_and_nar(ingest: Ingest, name: str, tmp_path: Path) -> None:
    ingested = await ingest(materialise(TREES[name], tmp_path / "tree"))
    size, sha256 = SIZES_AND_SHA256[name]
    assert encode_node(ingested.node) == encoded(NODES[name])
    assert ingested.nar == NarDigest(size, bytes.fromhex(sha256))


def documented(tree: Tree) -> Node:
    """The node of a tree with sizes as ``castore.proto`` documents them."""
    match tree:
        case File(data, executable):
            return FileNode(B3Digest.of(data), len(data), executable)
        case Link(target):
            return SymlinkNode(target)
        case Dir(entries):
            directory = Directory({name: documented(child) for name, child in entries.items()})
            return DirectoryNode(directory.digest, directory.documented_size)


@every_tree
async def test_sample_trees_have_the_known_node_with_documented_sizes(name: str) -> None:
    assert decode_node(encoded(DOCUMENTED_NODES[name])) == documented(TREES[name])


async def test_the_fixture_of_the_reference_is_stored_whole(ingest: Ingest, tmp_path: Path) -> None:
    ingested = await ingest(materialise(TREES["complicated"], tmp_path / "tree"))
    assert ingested.node == DIRECTORY_COMPLICATED.node()
    assert set(ingest.directories.directories.values()) == {DIRECTORY_COMPLICATED, DIRECTORY_WITH_KEEP}


@pytest.mark.parametrize("name", ["hello", "exec", "link", "empty-file"])
async def test_a_root_that_is_no_directory_starts_no_upload(ingest: Ingest, name: str, tmp_path: Path) -> None:
    await ingest(materialise(TREES[name], tmp_path / "tree"))
    assert ingest.directories.started == 0


async def test_a_directory_is_one_upload(ingest: Ingest, tmp_path: Path) -> None:
    await ingest(materialise(TREES["mixed"], tmp_path / "tree"))
    counts = ingest.directories
    assert (counts.started, counts.finished, counts.closed) == (1, 1, 1)


async def test_a_symlink_to_a_directory_is_not_followed(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert (await ingest(tmp_path / "link")).node == SymlinkNode(os.fsencode(tmp_path))


@pytest.mark.parametrize(("mode", "executable"), [(0o100, True), (0o711, True), (0o677, False), (0o011, False)])
async def test_the_owner_makes_a_file_executable(ingest: Ingest, tmp_path: Path, mode: int, executable: bool) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    path.chmod(mode | 0o400)
    node = (await ingest(path)).node
    assert isinstance(node, FileNode)
    assert node.executable is executable


@pytest.mark.parametrize("as_type", [str, os.fsencode, Path])
async def test_paths_come_as_text_bytes_or_path(ingest: Ingest, tmp_path: Path, as_type: Callable[[Path], Any]) -> None:
    path = materialise(TREES["hello"], tmp_path / "tree")
    assert (await ingest(as_type(path))).nar == nar_of(path)


async def test_names_and_targets_need_not_be_text(ingest: Ingest, tmp_path: Path) -> None:
    tree = Dir({b"\xff\xfe": File(b"x"), b"link": Link(b"\x80/\n"), b"\x01\x7f": Dir({b"\xe4": File(b"y")})})
    path = materialise(tree, tmp_path / "tree")
    ingested = await ingest(path)
    assert isinstance(ingested.node, DirectoryNode)
    directory = ingest.directories.directories[ingested.node.digest]
    assert list(directory.entries) == [b"\x01\x7f", b"link", b"\xff\xfe"]
    assert directory.get(b"link") == SymlinkNode(b"\x80/\n")
    assert ingested.nar == nar_of(path)


async def test_a_wide_directory_travels_in_batches(ingest: Ingest, tmp_path: Path) -> None:
    make_files(tmp_path, 3 * BATCH_COUNT)
    assert (await ingest(tmp_path)).nar == nar_of(tmp_path)
    assert len(ingest.blobs.batches) >= 3
    assert max(ingest.blobs.batches) <= BATCH_COUNT
    assert len(ingest.blobs.put) == 3 * BATCH_COUNT


async def test_batches_are_bounded_by_bytes(ingest: Ingest, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}").write_bytes(contents(SMALL_BLOB_BYTES, number))
    assert (await ingest(tmp_path)).nar == nar_of(tmp_path)
    assert max(ingest.blobs.batches) * SMALL_BLOB_BYTES <= BATCH_BYTES


async def test_a_tree_of_the_depth_that_a_nar_may_have(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path.joinpath(*["d"] * 63)
    path.mkdir(parents=True)
    assert (await ingest(tmp_path)).nar == nar_of(tmp_path)


async def test_a_deeper_tree_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    tmp_path.joinpath(*["d"] * 64).mkdir(parents=True)
    with pytest.raises(LimitExceeded, match="over 64 levels deep"):
        await ingest(tmp_path)


# --- large files ---


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, BATCH_BYTES, BATCH_BYTES + 1, 2 * BATCH_BYTES + 17])
async def test_files_of_every_size_are_stored(ingest: Ingest, tmp_path: Path, size: int) -> None:
    path = tmp_path / "tree"
    materialise(Dir({b"a": File(b"1"), b"b": File(contents(size), True), b"c": File(b"2")}), path)
    assert (await ingest(path)).nar == nar_of(path)
    assert contents(size) in ingest.blobs.blobs.values()
    assert ingest.blobs.written == (1 if size > SMALL_BLOB_BYTES else 0)


@pytest.mark.parametrize("size", [2 * MIB, BATCH_BYTES + 1])
async def test_a_large_file_may_be_the_root(ingest: Ingest, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(contents(size))
    ingested = await ingest(path)
    assert ingested.node == FileNode(B3Digest.of(contents(size)), size)
    assert ingested.nar == nar_of(path)


async def test_a_sparse_file_is_its_zeros(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 3 * MIB)
    assert (await ingest(path)).node == FileNode(B3Digest.of(bytes(3 * MIB)), 3 * MIB)


class HashingWriter(BlobWriter):
    """Keeps nothing but the hash."""

    def __init__(self) -> None:
        self._hasher = blake3()

    async def write(self, data: bytes) -> None:
        self._hasher.update(data)

    async def close(self) -> B3Digest:
        return B3Digest(self._hasher.digest())


async def test_memory_does_not_grow_with_a_file(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_write() -> BlobWriter:
        return HashingWriter()

    monkeypatch.setattr(ingest.blobs, "open_write", open_write)
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 300 * MIB)
    tracemalloc.start()
    try:
        await ingest(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


# --- nothing is sent twice ---


async def test_what_is_stored_already_is_not_sent_again(ingest: Ingest, tmp_path: Path) -> None:
    tree = Dir({b"a": File(b"1"), b"large": File(contents(2 * MIB)), b"huge": File(contents(BATCH_BYTES + 1))})
    path = materialise(tree, tmp_path / "tree")
    first = await ingest(path)
    assert (len(ingest.blobs.put), ingest.blobs.written) == (1, 2)
    assert await ingest(path) == first
    assert (len(ingest.blobs.put), ingest.blobs.written) == (1, 2)


async def test_equal_contents_of_one_batch_are_sent_once(ingest: Ingest, tmp_path: Path) -> None:
    await ingest(materialise(Dir({b"%d" % i: File(b"same", i % 2 == 0) for i in range(10)}), tmp_path / "tree"))
    assert ingest.blobs.put == [B3Digest.of(b"same")]


async def test_only_new_contents_are_sent(ingest: Ingest, tmp_path: Path) -> None:
    path = materialise(TREES["prefixdirs"], tmp_path / "tree")
    await ingest(path)
    (path / "new").write_text("new")
    ingest.blobs.put.clear()
    await ingest(path)
    assert ingest.blobs.put == [B3Digest.of(b"new")]


# --- progress ---


async def test_progress_adds_up_to_all_files_and_bytes(ingest: Ingest, tmp_path: Path) -> None:
    tree = Dir({b"a": File(b"12"), b"b": Dir({b"c": File(b"345"), b"d": Link(b"x")}), b"e": File(bytes(2 * MIB))})
    await ingest(materialise(tree, tmp_path / "tree"))
    assert (ingest.files, ingest.n_bytes) == (3, 2 * MIB + 5)


async def test_progress_is_told_batch_by_batch(ingest: Ingest, tmp_path: Path) -> None:
    make_files(tmp_path, 2 * BATCH_COUNT)
    told: list[int] = []
    blobs, directories = ingest.blobs, ingest.directories
    await ingest_path(tmp_path, blobs, directories, lambda *, files, n_bytes: told.append(files))
    assert sum(told) == 2 * BATCH_COUNT
    assert len(told) >= 2


# --- what cannot be imported ---


async def fails(ingest: Ingest, path: Path, error: type[StoreError], reason: str, at: Path | None = None) -> None:
    """The import fails with a message that names the file, and shows no tree."""
    with pytest.raises(error, match=f'^cannot import "{re.escape(str(at or path))}": {reason}') as caught:
        await ingest(path)
    assert "\n" not in str(caught.value)
    assert ingest.directories.finished == 0
    assert ingest.directories.directories == {}
    assert ingest.directories.closed == ingest.directories.started


async def test_a_path_that_is_not_there(ingest: Ingest, tmp_path: Path) -> None:
    await fails(ingest, tmp_path / "absent", Unavailable, "No such file or directory")


async def test_a_socket_is_refused(ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    materialise(TREES["complicated"], tmp_path / "tree")
    monkeypatch.chdir(tmp_path / "tree")  # its path may be too long for bind
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        await fails(ingest, tmp_path / "tree", InvalidObject, "sockets are not", tmp_path / "tree" / "socket")


async def test_a_pipe_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    await fails(ingest, tmp_path, InvalidObject, "pipes are not supported", tmp_path / "pipe")


async def test_a_device_is_refused(ingest: Ingest) -> None:
    await fails(ingest, Path("/dev/null"), InvalidObject, "devices are not supported")


class Meanwhile:
    """The ``os`` that ingest sees: before a function of it is called for a path, something happens, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._functions = SimpleNamespace(**vars(os))
        for module in (ingest_file, ingest_walk):
            monkeypatch.setattr(module, "os", self._functions)

    def before(self, function: str, path: Path | None, act: Callable[[], object]) -> None:
        original = getattr(os, function)
        acts = [act]

        def call(target: object, *args: object, **kwargs: object) -> object:
            if acts and (path is None or target == os.fsencode(path)):
                acts.pop()()
            return original(target, *args, **kwargs)

        setattr(self._functions, function, call)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    return Meanwhile(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file among others in a tree."""
    tree = Dir({b"a": File(b"1"), b"file": File(b"contents"), b"z": File(b"2")})
    return materialise(tree, tmp_path / "tree") / "file"


def refuse() -> None:
    raise PermissionError(13, "Permission denied")


async def test_a_file_that_vanishes(ingest: Ingest, meanwhile: Meanwhile, file: Path) -> None:
    meanwhile.before("open", file, file.unlink)
    await fails(ingest, file.parent, Unavailable, "No such file or directory", file)


async def test_a_file_that_may_not_be_read(ingest: Ingest, meanwhile: Meanwhile, file: Path) -> None:
    meanwhile.before("open", file, refuse)
    await fails(ingest, file.parent, Unavailable, "Permission denied", file)


async def test_a_directory_that_may_not_be_read(ingest: Ingest, meanwhile: Meanwhile, file: Path) -> None:
    meanwhile.before("scandir", file.parent, refuse)
    await fails(ingest, file.parent, Unavailable, "Permission denied")


@pytest.mark.parametrize("function", ["lstat", "readlink"])
async def test_a_symlink_that_vanishes(ingest: Ingest, meanwhile: Meanwhile, tmp_path: Path, function: str) -> None:
    link = materialise(Link(b"x"), tmp_path / "link")
    meanwhile.before(function, link, link.unlink)
    await fails(ingest, tmp_path, Unavailable, "No such file or directory", link)


async def test_a_file_that_cannot_be_read_to_the_end(ingest: Ingest, meanwhile: Meanwhile, file: Path) -> None:
    meanwhile.before("read", None, refuse)
    await fails(ingest, file.parent, Unavailable, "Permission denied", file.parent / "a")


@pytest.mark.parametrize(
    ("replace", "error", "reason"),
    [
        (lambda path: os.symlink("/etc/passwd", path), Unavailable, "Too many levels of symbolic links"),
        (os.mkfifo, InvalidObject, "it changed while it was read"),
        (os.mkdir, InvalidObject, "it changed while it was read"),
    ],
)
async def test_a_file_that_is_replaced_is_not_followed(
    ingest: Ingest,
    meanwhile: Meanwhile,
    file: Path,
    replace: Callable[[Path], None],
    error: type[StoreError],
    reason: str,
) -> None:
    def act() -> None:
        file.unlink()
        replace(file)

    meanwhile.before("open", file, act)
    await fails(ingest, file.parent, error, reason, file)


@pytest.mark.parametrize("size", [0, 1, 7, 9, 100, 2 * MIB])
async def test_a_small_file_that_changes_its_size(
    ingest: Ingest, meanwhile: Meanwhile, tmp_path: Path, size: int
) -> None:
    path = materialise(File(b"contents"), tmp_path / "file")
    meanwhile.before("read", None, lambda: os.truncate(path, size))
    await fails(ingest, path, InvalidObject, "it changed while it was read")


@pytest.mark.parametrize("size", [MIB, 2 * MIB - 1, 2 * MIB + 1, 4 * MIB])
async def test_a_large_file_that_changes_its_size(
    ingest: Ingest, meanwhile: Meanwhile, tmp_path: Path, size: int
) -> None:
    path = materialise(File(contents(2 * MIB)), tmp_path / "file")
    meanwhile.before("read", None, lambda: os.truncate(path, size))
    await fails(ingest, path, InvalidObject, "it changed while it was read")
    assert ingest.blobs.blobs == {}


def between_the_passes(ingest: Ingest, path: Path, act: Callable[[], object]) -> None:
    """Make a file so large that it is read twice, for which ``act`` happens between the two times."""
    path.write_bytes(contents(BATCH_BYTES + 5))

    async def hook() -> None:
        act()

    ingest.blobs.on_has = hook


async def test_a_huge_file_that_changes_between_the_passes(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "file"
    between_the_passes(ingest, path, lambda: path.write_bytes(contents(BATCH_BYTES + 5, 1)))
    await fails(ingest, path, InvalidObject, "it changed while it was read")


async def test_a_huge_file_that_vanishes_between_the_passes(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "file"
    between_the_passes(ingest, path, path.unlink)
    await fails(ingest, path, Unavailable, "No such file or directory")


async def test_a_huge_file_that_shrinks_between_the_passes(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "file"
    between_the_passes(ingest, path, lambda: os.truncate(path, MIB))
    await fails(ingest, path, InvalidObject, "it changed while it was read")


async def test_a_huge_file_that_only_grows_is_stored_as_it_was(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "file"

    def grow() -> None:
        with path.open("ab") as file:
            file.write(bytes(3 * MIB))

    between_the_passes(ingest, path, grow)
    before = contents(BATCH_BYTES + 5)
    assert (await ingest(path)).node == FileNode(B3Digest.of(before), len(before))
    assert list(ingest.blobs.blobs.values()) == [before]


# --- failure and cancellation ---


def threads() -> list[threading.Thread]:
    """Those of imports that still run."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("ingest")]


async def unavailable() -> None:
    raise Unavailable("the store is gone")


@pytest.mark.parametrize("service", ["blobs", "directories"])
async def test_a_failing_store_ends_the_import(ingest: Ingest, tmp_path: Path, service: str) -> None:
    getattr(ingest, service).on_put = unavailable
    with pytest.raises(Unavailable, match=r"^the store is gone$"):
        await ingest(materialise(TREES["mixed"], tmp_path / "tree"))
    assert (ingest.directories.finished, ingest.directories.closed) == (0, 1)


async def test_a_failing_store_ends_the_reading(ingest: Ingest, tmp_path: Path, meanwhile: Meanwhile) -> None:
    make_files(tmp_path, (MAX_BATCHES + 1) * BATCH_COUNT)
    (tmp_path / "last").symlink_to("x")
    read = list[str]()
    meanwhile.before("readlink", tmp_path / "last", lambda: read.append("last"))
    hang = Hang()

    async def all_at_once() -> None:
        if len(ingest.blobs.batches) == MAX_BATCHES:
            await unavailable()
        await hang()

    ingest.blobs.on_put = all_at_once
    with pytest.raises(Unavailable, match=r"^the store is gone$"):
        await ingest(tmp_path)
    assert (len(ingest.blobs.batches), read) == (MAX_BATCHES, [])
    assert not threads()


async def test_what_cannot_be_read_ends_the_storing(ingest: Ingest, tmp_path: Path, meanwhile: Meanwhile) -> None:
    make_files(tmp_path, BATCH_COUNT + 1)
    os.mkfifo(tmp_path / "pipe")
    hang, storing = Hang(), threading.Event()

    async def on_put() -> None:
        storing.set()
        await hang()

    ingest.blobs.on_put = on_put
    meanwhile.before("lstat", tmp_path / "pipe", storing.wait)
    with pytest.raises(InvalidObject, match="pipes are not supported"):
        await ingest(tmp_path)
    assert hang.cancelled
    assert ingest.directories.finished == 0
    assert not threads()


async def test_a_cancelled_import_shows_nothing(ingest: Ingest, tmp_path: Path) -> None:
    ingest.blobs.on_put = hang = Hang()
    await cancel_when(hang.called, ingest(materialise(TREES["mixed"], tmp_path / "tree")))
    assert hang.cancelled
    assert ingest.directories.directories == {}
    assert (ingest.directories.finished, ingest.directories.closed) == (0, 1)
    assert not threads()


async def test_a_cancelled_import_closes_a_file_only_when_nobody_reads_it(
    ingest: Ingest, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    path = materialise(File(contents(2 * MIB)), tmp_path / "file")
    loop, reading, go_on, events = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), list[str]()

    def slow() -> None:
        loop.call_soon_threadsafe(reading.set)
        go_on.wait()
        events.append("read")

    meanwhile.before("read", None, slow)
    task = asyncio.create_task(ingest(path))
    await reading.wait()
    meanwhile.before("close", None, lambda: events.append("close"))
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["read", "close"]
