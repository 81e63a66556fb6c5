"""Giving space back: what goes, what stays, and that nobody notices."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, pack_path, pack_sizes, placed
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import OutOfSpace
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import list_blobs, read_blob, read_rest, verify_blobs
from tvix_store.testing.fixtures import contents
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.pack import WritablePack

pytestmark = pytest.mark.anyio

LARGE = contents(3 * MIB)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[FsBlobService]:
    async with await open_service(tmp_path, max_pack_bytes=MIB) as service:
        yield service


def packed(service: FsBlobService) -> int:
    return sum(pack_sizes(Path(service.store.layout.path)).values())


def blobs(count: int, size: int = 20 * KIB) -> list[HashedBlob]:
    return [HashedBlob(contents(size, seed)) for seed in range(count)]


async def put(service: FsBlobService, some: Sequence[HashedBlob]) -> None:
    for start in range(0, len(some), 20):
        await service.put_many(some[start : start + 20])


async def assert_holds(service: FsBlobService, some: Sequence[HashedBlob]) -> None:
    assert await list_blobs(service) == sorted(blob.digest for blob in some)
    for blob in some:
        assert await read_blob(service, blob.digest) == blob.data
    assert await verify_blobs(service) == []


@pytest.mark.parametrize("kept_part", [0.0, 0.1, 0.5, 0.7])
async def test_space_comes_back_and_the_rest_stays(service: FsBlobService, kept_part: float, tmp_path: Path) -> None:
    some = [*blobs(200), HashedBlob(LARGE), HashedBlob(LARGE[: 2 * MIB]), HashedBlob(b""), HashedBlob(b"text" * 9999)]
    await put(service, some)
    before = packed(service)
    kept = random.Random(1).sample(some, int(kept_part * len(some)))
    gone = [blob for blob in some if blob not in kept]
    await service.delete([blob.digest for blob in gone])
    freed = await service.compact()
    needed = sum({chunk.digest: len(chunk.data) for blob in kept for chunk in chunks(blob)}.values())
    assert packed(service) <= needed / 0.75 + 64 * KIB
    assert 0 <= before - packed(service) - freed < 512 * KIB  # what the index has grown
    await assert_holds(service, kept)
    await service.aclose()
    (tmp_path / "index.sqlite").unlink()
    async with await open_service(tmp_path) as again:
        assert {blob.digest for blob in kept} <= set(await list_blobs(again))
        for blob in kept:
            assert await read_blob(again, blob.digest) == blob.data


def chunks(blob: HashedBlob) -> list[HashedBlob]:
    return [HashedBlob(bytes(chunk)) for chunk in cut(blob.data)] or [blob]


async def test_nothing_is_done_when_nothing_is_dead(service: FsBlobService, tmp_path: Path) -> None:
    await put(service, [*blobs(100), HashedBlob(LARGE)])
    before = pack_sizes(tmp_path)
    assert await service.compact() == 0
    assert pack_sizes(tmp_path) == before


async def test_an_empty_store_can_be_compacted(service: FsBlobService) -> None:
    assert await service.compact() == 0


async def test_the_store_goes_on_after_all_packs_are_removed(service: FsBlobService, tmp_path: Path) -> None:
    """A new pack must not be taken for one that somebody still has open."""
    for seed in range(3):
        blob = HashedBlob(contents(1000 + seed, seed))
        await service.put_many([blob])
        assert list(await service.get_many([blob.digest])) == [blob.data]
        await service.delete([blob.digest])
        await service.compact()
        assert pack_sizes(tmp_path) == {}


async def test_the_space_of_a_pack_that_was_read_is_free(service: FsBlobService) -> None:
    blob = HashedBlob(LARGE)
    await service.put_many([blob])
    await read_blob(service, blob.digest)
    packs = [service.store.packs.reader(number) for number in service.store.packs.numbers()]
    await service.delete([blob.digest])
    await service.compact()
    assert all(pack.is_removed() for pack in packs)
    assert not service.store.packs._open


async def test_deleted_and_put_again_meanwhile(service: FsBlobService, monkeypatch: pytest.MonkeyPatch) -> None:
    some = blobs(50)
    await put(service, some)
    await service.delete([blob.digest for blob in some])
    loop = asyncio.get_running_loop()
    remove = WritablePack.remove
    put_again: list[None] = []

    def put_then_remove(pack: WritablePack) -> None:
        if not put_again:
            put_again.append(None)
            asyncio.run_coroutine_threadsafe(put(service, some), loop).result()
        remove(pack)

    monkeypatch.setattr(WritablePack, "remove", put_then_remove)
    await service.compact()
    assert put_again
    await assert_holds(service, some)


async def test_puts_beside_compaction(service: FsBlobService) -> None:
    some = blobs(150)
    await put(service, some)
    await service.delete([blob.digest for blob in some[::2]])
    await asyncio.gather(service.compact(), put(service, some), service.compact(), put(service, some[::-1]))
    await assert_holds(service, some)


async def test_readers_go_on(service: FsBlobService) -> None:
    some = [*blobs(100), HashedBlob(LARGE)]
    await put(service, [blob for pair in zip(some, blobs(201)[100:], strict=True) for blob in pair])
    await service.delete([blob.digest for blob in blobs(201)[100:]])
    service.store.reader.clear()
    stop = asyncio.Event()

    async def read() -> int:
        rounds = 0
        while not stop.is_set() or rounds < 2:
            for blob in some:
                assert await read_blob(service, blob.digest) == blob.data
            rounds += 1
        return rounds

    async def compact() -> None:
        for _ in range(3):
            await service.compact()
        stop.set()

    await asyncio.gather(read(), read(), compact())


async def test_an_open_reader_reads_on_although_its_packs_have_gone(service: FsBlobService) -> None:
    await service.put_many([HashedBlob(LARGE)])
    other = [HashedBlob(contents(900 * KIB, seed)) for seed in range(10, 40)]
    await put(service, other)
    reader = await service.open_read(B3Digest.of(LARGE))
    assert reader is not None
    async with reader:
        first = await reader.read(1000)
        await service.delete([blob.digest for blob in other])
        await service.compact()
        assert first + await read_rest(reader) == LARGE


async def test_what_another_process_writes_to_is_left_alone(service: FsBlobService, tmp_path: Path) -> None:
    async with await open_service(tmp_path) as other:
        await other.put_many([HashedBlob(b"one")])
        await service.delete([B3Digest.of(b"one")])
        await service.compact()
        assert len(pack_sizes(tmp_path)) == 1
        await other.put_many([HashedBlob(b"two")])
    await service.compact()
    assert await list_blobs(service) == [B3Digest.of(b"two")]
    assert await read_blob(service, B3Digest.of(b"two")) == b"two"


async def test_no_room_for_copies_loses_nothing(service: FsBlobService, monkeypatch: pytest.MonkeyPatch) -> None:
    some = blobs(100)
    await put(service, some)
    await service.delete([blob.digest for blob in some[::2]])

    def full(*arguments: object) -> int:
        raise OutOfSpace("no room")

    with monkeypatch.context() as patched:
        patched.setattr(WritablePack, "append", full)
        with pytest.raises(OutOfSpace):
            await service.compact()
    await assert_holds(service, some[1::2])
    assert await service.compact() > 500 * KIB
    await assert_holds(service, some[1::2])


async def test_a_damaged_pack_is_left_alone_and_the_others_compacted(
    service: FsBlobService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = blobs(200)
    await put(service, some)
    await service.delete([blob.digest for blob in some[::2]])
    place = await placed(service.store, some[1].digest)
    damaged = pack_path(tmp_path, place.pack)
    flip(damaged, place.position)
    before = pack_sizes(tmp_path).keys()
    assert await service.compact() > 0
    assert "is left as it is" in caplog.text
    assert before & pack_sizes(tmp_path).keys() == {damaged.name}
    assert len(await list_blobs(service)) == 100


async def test_statistics_add_up(service: FsBlobService, tmp_path: Path) -> None:
    other = LARGE[: 2 * MIB] + b"x"
    shared = {digest: len(c) for data in (LARGE, other) for c in cut(data) if (digest := B3Digest.of(c))}
    await put(service, [*blobs(10, 1000), HashedBlob(LARGE), HashedBlob(other), HashedBlob(bytes(cut(LARGE)[0]))])
    stats = await service.stats()
    details = dict(stats.details)
    assert stats.objects == 13
    assert stats.logical_bytes == 10_000 + len(LARGE) + len(other) + len(cut(LARGE)[0])
    assert stats.unique_bytes == 10_000 + sum(shared.values())
    assert details["pieces"] == 10 + len(shared)
    assert details["packs"] == len(pack_sizes(tmp_path))
    assert details["pack bytes"] == sum(pack_sizes(tmp_path).values()) - 16 * len(pack_sizes(tmp_path))
    assert details["pack fill"] == 1.0
    on_disk = sum(file.stat().st_size for file in files(tmp_path))
    assert stats.stored_bytes == on_disk
    await service.delete([blob.digest for blob in blobs(10, 1000)])
    fewer = await service.stats()
    assert fewer.objects == 3
    assert dict(fewer.details)["pack fill"] not in (0, 1.0)


def files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()]


async def test_a_damaged_frame_of_which_nothing_is_alive_is_no_hindrance(
    service: FsBlobService, tmp_path: Path
) -> None:
    some = blobs(20)
    await put(service, some)
    place = await placed(service.store, some[0].digest)
    flip(pack_path(tmp_path, place.pack), place.position)
    assert len(await verify_blobs(service)) == 20
    await service.compact()
    assert pack_sizes(tmp_path) == {}
    await put(service, some)
    await assert_holds(service, some)
