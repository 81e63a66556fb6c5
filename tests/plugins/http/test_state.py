"""What is remembered of uploads, and for how long."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject
from tvix_store.ingest import Ingested
from tvix_store.nar_calculation import NarDigest
from tvix_store.nodes import FileNode, SymlinkNode
from tvix_store_http.state import Document, State, Upload

pytestmark = pytest.mark.anyio

KEEP_S = 1000.0


@dataclass
class Clock:
    """A clock that stands still unless it is put forward."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def numbered(number: int) -> Upload:
    """An upload, different for each number."""
    node = FileNode(B3Digest.of(b"%d" % number), number, executable=False)
    ingested = Ingested(node, NarDigest(number, number.to_bytes(32)))
    return Upload((number + 2**32).to_bytes(32), number + 1, "xz", ingested)


@asynccontextmanager
async def opened(path: Path, clock: Clock | None = None) -> AsyncIterator[State]:
    async with await State.open(str(path / "state.sqlite"), KEEP_S, clock=clock or Clock()) as state:
        yield state


async def test_an_upload_is_found_by_the_hash_of_its_file_and_by_that_of_its_nar(tmp_path: Path) -> None:
    upload = numbered(1)
    async with opened(tmp_path) as state:
        await state.add_upload(upload)
        assert await state.upload(upload.file_sha256) == upload
        assert await state.nar(upload.ingested.nar.sha256) == upload.ingested
        assert await state.upload(upload.ingested.nar.sha256) is None
        assert await state.nar(upload.file_sha256) is None


async def test_thousands_of_uploads_survive_a_restart(tmp_path: Path) -> None:
    uploads = [numbered(number) for number in range(3000)]
    async with opened(tmp_path) as state:
        await asyncio.gather(*map(state.add_upload, uploads))
        assert state.commits < 300  # at once, they share commits
    async with opened(tmp_path) as state:
        assert [await state.upload(upload.file_sha256) for upload in uploads] == uploads


async def test_another_process_sees_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        await one.add_upload(numbered(1))
        assert await other.upload(numbered(1).file_sha256) == numbered(1)
        await other.add_upload(numbered(2))
        assert await one.nar(numbered(2).ingested.nar.sha256) == numbered(2).ingested


async def test_what_nobody_uses_is_forgotten_after_the_time_and_not_before(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as state:
        await state.add_upload(numbered(1))
        clock.now += KEEP_S - 1
        await state.add_upload(numbered(2))
        clock.now += 2
        await state.add_upload(numbered(3))
    async with opened(tmp_path, clock) as state:
        assert await state.upload(numbered(1).file_sha256) is None
        assert await state.nar(numbered(1).ingested.nar.sha256) is None
        assert await state.upload(numbered(2).file_sha256) == numbered(2)


async def test_the_time_counts_from_the_last_look(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as state:
        await state.add_upload(numbered(1))
        await state.add_upload(numbered(2))
        clock.now += KEEP_S - 1
        assert await state.upload(numbered(1).file_sha256) is not None
        assert await state.nar(numbered(2).ingested.nar.sha256) is not None
        clock.now += KEEP_S - 1
    async with opened(tmp_path, clock) as state:
        assert await state.nar(numbered(1).ingested.nar.sha256) == numbered(1).ingested
        assert await state.nar(numbered(2).ingested.nar.sha256) == numbered(2).ingested


async def test_a_published_nar_is_remembered_for_good(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as state:
        await state.add_upload(numbered(1))
        await state.publish(numbered(1).ingested)
        await state.add_upload(numbered(1))  # sending it again does not make it unpublished
        clock.now += 100 * KEEP_S
    async with opened(tmp_path, clock) as state:
        assert await state.nar(numbered(1).ingested.nar.sha256) == numbered(1).ingested
        assert await state.upload(numbered(1).file_sha256) is None


async def test_one_nar_in_several_files(tmp_path: Path) -> None:
    first = numbered(1)
    second = Upload(bytes(32), 5, "zstd", first.ingested)
    async with opened(tmp_path) as state:
        await state.add_upload(first)
        await state.add_upload(second)
        assert await state.upload(first.file_sha256) == first
        assert await state.upload(second.file_sha256) == second
        await state.forget(first.ingested.nar.sha256)
        assert await state.upload(first.file_sha256) is await state.upload(second.file_sha256) is None


async def test_a_node_that_cannot_be_read_is_corrupt(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        await state.add_upload(numbered(1))
    connection = sqlite3.connect(tmp_path / "state.sqlite")
    connection.execute("UPDATE nar SET node = x'ffff'")
    connection.commit()
    connection.close()
    async with opened(tmp_path) as state:
        with pytest.raises(CorruptObject, match=r"state\.sqlite: NAR 00"):
            await state.nar(numbered(1).ingested.nar.sha256)


async def test_long_symlinks_fit(tmp_path: Path) -> None:
    ingested = Ingested(SymlinkNode(b"x" * 4095), NarDigest(4200, bytes(32)))
    async with opened(tmp_path) as state:
        await state.publish(ingested)
        assert await state.nar(bytes(32)) == ingested


@pytest.mark.parametrize("data", [b"", b"short", b"long " * 10_000, bytes(range(256)) * 3])
async def test_documents_come_back_as_they_were(tmp_path: Path, data: bytes) -> None:
    async with opened(tmp_path) as state:
        await state.put_document("log/x", Document(b"before", "text/plain"))
        await state.put_document("log/x", Document(data, "text/html"))
    async with opened(tmp_path) as state:
        assert await state.document("log/x") == Document(data, "text/html")
        assert await state.document_size("log/x") == (len(data), "text/html")
        assert await state.document("log/y") is None
        assert await state.document_size("log/y") is None


async def test_logs_are_kept_compressed(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        await state.put_document("log/x", Document(b"the same line\n" * 1_000_000, "text/plain"))
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as connection:
        assert connection.execute("SELECT length(data) FROM document").fetchone() < (100_000,)


async def test_a_document_that_does_not_decompress_is_corrupt(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        await state.put_document("log/x", Document(bytes(1000), "text/plain"))
    connection = sqlite3.connect(tmp_path / "state.sqlite")
    connection.execute("UPDATE document SET data = x'00'")
    connection.commit()
    connection.close()
    async with opened(tmp_path) as state:
        with pytest.raises(CorruptObject, match="document 'log/x' is corrupt"):
            await state.document("log/x")
