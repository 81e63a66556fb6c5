"""What opening a store makes of an index or packs that are missing, damaged, unfinished or foreign."""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, pack_path, pack_sizes, placed
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import ConfigError, CorruptObject
from tvix_store.limits import MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, verify_blobs, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fs import index
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.pack import Packs

pytestmark = pytest.mark.anyio

LARGE = contents(3 * MIB)
STREAMED = contents(6 * MIB, 1)
DATAS = [b"", b"small", b"text " * 1000, LARGE, STREAMED, bytes(cut(LARGE)[0])]


async def fill(path: Path, *, max_pack_bytes: int = 256 * MIB) -> Sequence[B3Digest]:
    """A store with all of ``DATAS``, closed."""
    async with await open_service(path, max_pack_bytes=max_pack_bytes) as service:
        for data in DATAS[:-2]:
            await service.put_many([HashedBlob(data)])
        await write_blob(service, STREAMED)
        await service.put_many([HashedBlob(DATAS[-1])])
    return [B3Digest.of(data) for data in DATAS]


async def assert_all_there(service: FsBlobService) -> None:
    assert await list_blobs(service) == sorted(B3Digest.of(data) for data in DATAS)
    for data in DATAS:
        assert await read_blob(service, B3Digest.of(data)) == data
    assert await verify_blobs(service) == []


def index_rows(path: Path) -> list[list[tuple[object, ...]]]:
    queries = (
        "SELECT digest, length, uses FROM piece ORDER BY digest",
        "SELECT digest, length, n_chunks FROM list ORDER BY digest",
        "SELECT pack, position, size, raw FROM frame ORDER BY pack, position",
        "SELECT id, end, synced FROM pack ORDER BY id",
    )
    with closing(sqlite3.connect(path / "index.sqlite")) as connection:
        return [connection.execute(query).fetchall() for query in queries]


def remove_index(path: Path) -> None:
    for file in path.glob("index.sqlite*"):
        file.unlink()


def names(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


async def test_nothing_changes_when_a_store_is_opened_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await fill(tmp_path)
    before = pack_sizes(tmp_path), index_rows(tmp_path)
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)
    assert (pack_sizes(tmp_path), index_rows(tmp_path)) == before
    assert caplog.records == []


@pytest.mark.parametrize("max_pack_bytes", [256 * MIB, MIB])
async def test_a_missing_index_is_made_anew(tmp_path: Path, max_pack_bytes: int) -> None:
    await fill(tmp_path, max_pack_bytes=max_pack_bytes)
    before = index_rows(tmp_path)
    remove_index(tmp_path)
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)
    assert index_rows(tmp_path) == before


async def test_lists_may_come_before_their_chunks(tmp_path: Path) -> None:
    await fill(tmp_path, max_pack_bytes=MIB)
    numbers = Packs(str(tmp_path / "packs")).numbers()
    for number in numbers:
        pack_path(tmp_path, number).rename(pack_path(tmp_path, 100 - number))
    remove_index(tmp_path)
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)


@pytest.mark.parametrize("rubbish", [b"", b"no database", bytes(8192), b"SQLite format 3\0" + bytes(8000)])
async def test_a_damaged_index_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, rubbish: bytes) -> None:
    await fill(tmp_path)
    (tmp_path / "index.sqlite").write_bytes(rubbish)
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)
    if rubbish:  # an empty file is an empty database
        assert (tmp_path / "index.sqlite.damaged").read_bytes() == rubbish
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "made anew" in caplog.text


async def test_the_log_of_an_index_that_is_gone_is_not_used(tmp_path: Path) -> None:
    await fill(tmp_path)
    (tmp_path / "index.sqlite").unlink()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"index.sqlite{suffix}").write_bytes(b"of another time")
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)


async def test_an_index_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = (tmp_path / "index.sqlite").read_bytes()
    with pytest.raises(ConfigError, match=r"index.sqlite: a newer version .* version 2, this program knows version 1"):
        await open_service(tmp_path)
    assert (tmp_path / "index.sqlite").read_bytes() == before
    assert "index.sqlite.damaged" not in names(tmp_path)


async def test_an_index_that_is_missing_while_others_use_the_store_is_an_error(tmp_path: Path) -> None:
    async with await open_service(tmp_path) as service:
        await service.put_many([HashedBlob(b"small")])
        os.rename(tmp_path / "index.sqlite", tmp_path / "elsewhere")
        with pytest.raises(CorruptObject, match="once no other process uses the store"):
            await open_service(tmp_path)
        os.rename(tmp_path / "elsewhere", tmp_path / "index.sqlite")
        assert await read_blob(service, B3Digest.of(b"small")) == b"small"


async def test_a_pack_of_a_newer_version_is_an_error(tmp_path: Path) -> None:
    await fill(tmp_path)
    with pack_path(tmp_path).open("r+b") as file:
        file.write(struct.pack("<8sI", b"tvixpack", 2))
    remove_index(tmp_path)
    before = pack_sizes(tmp_path)
    with pytest.raises(ConfigError, match=r"00000001.pack: its format has version 2"):
        await open_service(tmp_path)
    assert pack_sizes(tmp_path) == before


async def test_a_missing_pack_costs_what_was_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with await open_service(tmp_path, max_pack_bytes=1) as service:
        for data in (b"one", b"two", LARGE):
            await service.put_many([HashedBlob(data)])
    pack_path(tmp_path, 1).unlink()
    async with await open_service(tmp_path) as service:
        assert "00000001.pack is missing" in caplog.text
        await assert_absent(service, B3Digest.of(b"one"))
        assert await read_blob(service, B3Digest.of(LARGE)) == LARGE
        await service.put_many([HashedBlob(b"one")])
        assert await read_blob(service, B3Digest.of(b"one")) == b"one"
    caplog.clear()
    async with await open_service(tmp_path) as service:
        assert await verify_blobs(service) == []
    assert caplog.records == []


async def test_a_missing_pack_costs_the_blobs_that_have_chunks_in_it(tmp_path: Path) -> None:
    async with await open_service(tmp_path, max_pack_bytes=1) as service:
        await service.put_many([HashedBlob(LARGE)])
        await service.put_many([HashedBlob(LARGE + b"more")])
        shared = (await placed(service.store, B3Digest.of(cut(LARGE)[0]))).pack
    pack_path(tmp_path, shared).unlink()
    async with await open_service(tmp_path) as service:
        assert await list_blobs(service) == []
        await write_blob(service, LARGE + b"more")
        assert await read_blob(service, B3Digest.of(LARGE + b"more")) == LARGE + b"more"
        assert await verify_blobs(service) == []


async def test_what_is_no_pack_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await fill(tmp_path)
    foreign = {"00000007.pack": b"something else altogether", "notes.txt": b"mine", "0000002.pack": b"short name"}
    for name, data in foreign.items():
        (tmp_path / "packs" / name).write_bytes(data)
    for _ in range(2):
        async with await open_service(tmp_path) as service:
            await assert_all_there(service)
            await service.put_many([HashedBlob(b"more")])
            await service.delete([B3Digest.of(b"more")])
            await service.compact()
    assert "00000007.pack: is no pack, and passed over" in caplog.text
    assert {name: (tmp_path / "packs" / name).read_bytes() for name in foreign} == foreign


@pytest.mark.parametrize("tail", [b"T", b"TVXF", b"x" * 100, b"TVXF" + bytes(5000), b"TVXF\1" + b"\xff" * 50])
@pytest.mark.parametrize("is_indexed", [True, False])
async def test_a_torn_tail_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tail: bytes, is_indexed: bool
) -> None:
    await fill(tmp_path)
    before = pack_sizes(tmp_path)
    with pack_path(tmp_path).open("ab") as file:
        file.write(tail)
    if not is_indexed:
        remove_index(tmp_path)
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)
        assert pack_sizes(tmp_path) == before
        assert f"cut off {len(tail)} bytes" in caplog.text


async def test_a_frame_that_was_not_indexed_is_taken_in(tmp_path: Path) -> None:
    """As after the end of a process between writing to a pack and to the index."""
    async with await open_service(tmp_path / "other") as service:
        await service.put_many([HashedBlob(b"new")])
    await fill(tmp_path / "store")
    frame = pack_path(tmp_path / "other").read_bytes()[16:]
    with pack_path(tmp_path / "store").open("ab") as file:
        file.write(frame)
    async with await open_service(tmp_path / "store") as service:
        assert await read_blob(service, B3Digest.of(b"new")) == b"new"
        assert len(await list_blobs(service)) == len(DATAS) + 1


async def test_a_pack_that_lost_its_end_loses_no_more(tmp_path: Path) -> None:
    async with await open_service(tmp_path) as service:
        await service.put_many([HashedBlob(b"one")])
        await service.put_many([HashedBlob(b"two")])
    os.truncate(pack_path(tmp_path), pack_path(tmp_path).stat().st_size - 1)
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE pack SET synced = 16")
    async with await open_service(tmp_path) as service:
        assert await list_blobs(service) == [B3Digest.of(b"one")]
        await service.put_many([HashedBlob(b"two")])
        assert await read_blob(service, B3Digest.of(b"two")) == b"two"
        assert await verify_blobs(service) == []


@pytest.mark.parametrize("stub", [b"", b"tvix", b"tvixpack\1\0\0\0"])
async def test_a_pack_that_was_just_being_made_is_removed(tmp_path: Path, stub: bytes) -> None:
    await fill(tmp_path)
    pack_path(tmp_path, 2).write_bytes(stub)
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)
    assert list(pack_sizes(tmp_path)) == ["00000001.pack"]


async def test_an_unfinished_pack_is_gone_on_with(tmp_path: Path) -> None:
    for number in range(4):
        async with await open_service(tmp_path) as service:
            await service.put_many([HashedBlob(b"%d" % number)])
    assert list(pack_sizes(tmp_path)) == ["00000001.pack"]
    async with await open_service(tmp_path) as service:
        assert len(await list_blobs(service)) == 4


async def test_packs_roll_when_they_are_long_enough(tmp_path: Path) -> None:
    async with await open_service(tmp_path, max_pack_bytes=100_000) as service:
        for seed in range(20):
            await service.put_many([HashedBlob(contents(30_000, seed))])
        sizes = list(pack_sizes(tmp_path).values())
        assert len(sizes) == 5
        assert all(100_000 <= size < 140_000 for size in sizes)
        assert len(await list_blobs(service)) == 20
    async with await open_service(tmp_path, max_pack_bytes=100_000) as service:
        await service.put_many([HashedBlob(b"more")])
        assert len(pack_sizes(tmp_path)) == 6
        packs = await service.store.read(index.packs)
        assert [pack.end for pack in packs.values()] == list(pack_sizes(tmp_path).values())


async def test_two_stores_on_a_folder_write_to_packs_of_their_own(tmp_path: Path) -> None:
    async with await open_service(tmp_path) as one, await open_service(tmp_path) as two:
        for number in range(4):
            await one.put_many([HashedBlob(b"one %d" % number)])
            await two.put_many([HashedBlob(b"two %d" % number)])
        assert len(pack_sizes(tmp_path)) == 2
        assert await list_blobs(one) == await list_blobs(two)
        assert len(await list_blobs(one)) == 8
        assert list(await one.get_many([B3Digest.of(b"two 3")])) == [b"two 3"]


async def test_damage_in_the_middle_costs_only_what_is_damaged(tmp_path: Path) -> None:
    async with await open_service(tmp_path) as service:
        for data in (b"one", b"two", b"three"):
            await service.put_many([HashedBlob(data)])
        place = await placed(service.store, B3Digest.of(b"two"))
    flip(pack_path(tmp_path), place.position + 20)
    remove_index(tmp_path)
    async with await open_service(tmp_path) as service:
        assert await list_blobs(service) == sorted([B3Digest.of(b"one"), B3Digest.of(b"three")])


async def test_a_pack_that_is_removed_while_the_store_is_opened_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else compacts: what was listed is not there any more."""
    await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection, connection:
        connection.execute("INSERT INTO pack VALUES (50, 16, 16)")
    numbers = Packs.numbers
    monkeypatch.setattr(Packs, "numbers", lambda packs: [*numbers(packs), 50])
    async with await open_service(tmp_path) as service:
        await assert_all_there(service)


async def test_what_was_deleted_stays_deleted(tmp_path: Path) -> None:
    digests = await fill(tmp_path)
    async with await open_service(tmp_path) as service:
        await service.delete(digests)
    async with await open_service(tmp_path) as service:
        assert await list_blobs(service) == []
        await service.compact()
    remove_index(tmp_path)
    async with await open_service(tmp_path) as service:
        assert await list_blobs(service) == []
