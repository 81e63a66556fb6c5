"""That the stages of an import work ahead of each other, as far as they may."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fakes.services import CountingBlobs, CountingDirectories, Hang
from tvix_store.blob import BlobWriter
from tvix_store.digest import B3Digest
from tvix_store.ingest import ingest_path
from tvix_store.ingest_hash import NarHasher
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MIB
from tvix_store.nodes import FileNode
from tvix_store.testing.cancelling import cancel_when
from tvix_store.testing.fixtures import contents
from vectors.nar import Dir, File, materialise

pytestmark = pytest.mark.anyio

HUGE = BATCH_BYTES + 1


class Blobs(CountingBlobs):
    """Knows how many uploads are open at once; ``on_write`` is called when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.open = self.most_open = 0
        self.on_write: Callable[[], Awaitable[None]] | None = None

    async def open_write(self) -> BlobWriter:
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        return Writer(self, await super().open_write())


class Writer(BlobWriter):
    def __init__(self, blobs: Blobs, inner: BlobWriter) -> None:
        self._blobs = blobs
        self._inner = inner

    async def write(self, data: bytes) -> None:
        if self._blobs.on_write is not None:
            await self._blobs.on_write()
        await self._inner.write(data)

    async def close(self) -> B3Digest:
        return await self._inner.close()

    async def aclose(self) -> None:
        self._blobs.open -= 1
        await self._inner.aclose()


async def others_run() -> None:
    """Let other tasks do what they can without waiting."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


@pytest.fixture
def directories() -> CountingDirectories:
    return CountingDirectories()


def make_files(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"{number:05}").write_text(str(number))


async def test_batches_are_stored_at_once(blobs: Blobs, directories: CountingDirectories, tmp_path: Path) -> None:
    make_files(tmp_path, BATCH_COUNT + 1)
    both = asyncio.Event()

    async def wait_for_the_other() -> None:
        if len(blobs.batches) == 2:
            both.set()
        await both.wait()

    blobs.on_put = wait_for_the_other
    await ingest_path(tmp_path, blobs, directories)
    assert len(blobs.put) == BATCH_COUNT + 1


async def test_equal_contents_of_batches_under_way_are_sent_once(
    blobs: Blobs, directories: CountingDirectories, tmp_path: Path
) -> None:
    make_files(tmp_path, BATCH_COUNT + 2)
    (tmp_path / f"{BATCH_COUNT:05}").write_text("0")  # as the first, and there is one more for the second batch
    both = asyncio.Event()

    async def wait_for_the_other() -> None:
        if len(blobs.batches) == 2:
            both.set()
        await both.wait()

    blobs.on_put = wait_for_the_other
    await ingest_path(tmp_path, blobs, directories)
    assert blobs.put.count(B3Digest.of(b"0")) == 1


async def test_directories_are_stored_after_the_last_blob(
    blobs: Blobs, directories: CountingDirectories, tmp_path: Path
) -> None:
    materialise(Dir({b"a": File(contents(HUGE)), b"b": File(contents(2 * MIB)), b"c": File(b"1")}), tmp_path / "tree")
    finished = list[int]()

    async def on_put() -> None:
        await others_run()
        finished.append(directories.finished)

    blobs.on_put = on_put
    blobs.on_has = on_put
    await ingest_path(tmp_path, blobs, directories)
    assert finished == [0, 0]
    assert directories.finished == 1


async def test_the_walk_goes_on_while_a_huge_file_is_sent(
    blobs: Blobs, directories: CountingDirectories, tmp_path: Path
) -> None:
    (tmp_path / "huge").write_bytes(contents(HUGE))
    (tmp_path / "later").write_text("1")
    later = asyncio.Event()

    async def on_put() -> None:
        later.set()

    async def on_has() -> None:
        await later.wait()

    blobs.on_put, blobs.on_has = on_put, on_has
    await ingest_path(tmp_path, blobs, directories)
    assert set(blobs.blobs) == {B3Digest.of(contents(HUGE)), B3Digest.of(b"1")}


async def test_two_huge_files_are_sent_at_once(blobs: Blobs, directories: CountingDirectories, tmp_path: Path) -> None:
    asked = list[int]()
    all_asked = asyncio.Event()

    async def on_has() -> None:
        asked.append(1)
        if len(asked) == 4:
            all_asked.set()

    async def on_write() -> None:
        await all_asked.wait()
        await others_run()

    for number in range(4):
        (tmp_path / str(number)).write_bytes(contents(HUGE, number))
    blobs.on_has, blobs.on_write = on_has, on_write
    await ingest_path(tmp_path, blobs, directories)
    assert (blobs.written, blobs.most_open) == (4, 2)


async def test_equal_huge_files_are_sent_once(blobs: Blobs, directories: CountingDirectories, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(contents(HUGE))
    await ingest_path(tmp_path, blobs, directories)
    assert blobs.written == 1


async def test_large_files_of_one_batch_are_held_together(
    blobs: Blobs, directories: CountingDirectories, tmp_path: Path
) -> None:
    sizes = [3 * MIB, MIB, 4 * MIB, 1, 8 * MIB, 2 * MIB + 1]
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(contents(size, number))
    await ingest_path(tmp_path, blobs, directories)
    assert sorted(map(len, blobs.blobs.values())) == sorted(sizes)


async def test_cancelling_the_sending_of_a_huge_file(
    blobs: Blobs, directories: CountingDirectories, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(contents(HUGE))
    blobs.on_write = hang = Hang()
    await cancel_when(hang.called, ingest_path(tmp_path, blobs, directories))
    assert hang.cancelled
    assert (blobs.blobs, blobs.open) == ({}, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ingest")]


async def test_a_failure_of_the_hashing_thread_ends_the_import(
    blobs: Blobs, directories: CountingDirectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(hasher: NarHasher) -> None:
        raise MemoryError

    monkeypatch.setattr(NarHasher, "run", fail)
    (tmp_path / "file").write_bytes(contents(2 * HUGE))  # more than can be read while nobody hashes
    with pytest.raises(MemoryError):
        await ingest_path(tmp_path, blobs, directories)


async def test_imports_run_beside_each_other(blobs: Blobs, directories: CountingDirectories, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(contents(HUGE))
    imports = (os.cpu_count() or 1) + 5  # more than the event loop has threads
    results = await asyncio.gather(*(ingest_path(tmp_path / "file", blobs, directories) for _ in range(imports)))
    assert {result.node for result in results} == {FileNode(B3Digest.of(contents(HUGE)), HUGE)}
