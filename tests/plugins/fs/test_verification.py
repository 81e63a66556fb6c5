"""Finding damage, saying where it is, and forgetting what is damaged so that it can be put again."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, pack_path, pack_sizes, placed
from tvix_store.chunking import cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject
from tvix_store.limits import MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs, read_blob, verify_blobs
from tvix_store.testing.fixtures import contents
from tvix_store.verification import Damage
from tvix_store_fs import index
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.frame import FIXED_BYTES
from tvix_store_fs.pack import PACK_HEADER_BYTES

pytestmark = pytest.mark.anyio

LARGE, OTHER = contents(3 * MIB), contents(2 * MIB) + b"other"
CHUNK = bytes(cut(LARGE)[0])
"""Which OTHER has, too."""

SMALL = [contents(1000, seed) for seed in range(1, 6)]
TEXT = [b"text %d " % number * 500 for number in range(5)]
DATAS = [*SMALL, *TEXT, LARGE, OTHER]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[FsBlobService]:
    async with await open_service(tmp_path) as service:
        for some in (SMALL, TEXT, [LARGE], [OTHER]):
            await service.put_many([HashedBlob(data) for data in some])
        yield service


async def healed(service: FsBlobService) -> None:
    """Everything can be put again, and then all is well, also after another start."""
    await service.put_many([HashedBlob(data) for data in DATAS])
    path = Path(service.store.layout.path)
    assert await verify_blobs(service) == []
    for data in DATAS:
        assert await read_blob(service, B3Digest.of(data)) == data
    await service.aclose()
    async with await open_service(path) as again:
        assert await verify_blobs(again) == []
        assert await list_blobs(again) == sorted(B3Digest.of(data) for data in DATAS)


async def location(service: FsBlobService, data: bytes) -> str:
    place = await placed(service.store, B3Digest.of(data))
    return f"{service.store.packs.path(place.pack)} at {place.position}"


async def flip_in(service: FsBlobService, data: bytes, offset: int) -> None:
    """Damage the frame with a piece; a negative offset counts from its end."""
    place = await placed(service.store, B3Digest.of(data))
    start = place.position if offset >= 0 else place.position + place.size
    flip(pack_path(Path(service.store.layout.path), place.pack), start + offset)
    service.store.reader.clear()


async def flip_list(service: FsBlobService, data: bytes, offset: int) -> str:
    (frame,) = await service.store.read(index.frame_of_list, [B3Digest.of(data).raw])
    assert frame is not None
    place = (await service.store.read(index.places, [frame]))[frame]
    flip(pack_path(Path(service.store.layout.path), place.pack), place.position + offset)
    return f"{service.store.packs.path(place.pack)} at {place.position}"


def told(damages: Sequence[Damage]) -> set[tuple[str, str | None, str | None]]:
    return {(damage.kind, damage.digest, damage.location) for damage in damages}


def text(data: bytes) -> str:
    return str(B3Digest.of(data))


def change_index(service: FsBlobService, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(service.store.layout.index)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


async def test_a_sound_store_has_nothing_to_tell(service: FsBlobService) -> None:
    seen: list[tuple[int, int | None]] = []
    assert await verify_blobs(service, lambda done, total: seen.append((done, total))) == []
    sizes = pack_sizes(Path(service.store.layout.path)).values()
    n_bytes = sum(sizes) - len(sizes) * PACK_HEADER_BYTES
    assert seen[-1] == (n_bytes, n_bytes)


@pytest.mark.parametrize("offset", [0, 5, 9, 14, 18])
async def test_a_damaged_header_costs_the_frame(service: FsBlobService, offset: int) -> None:
    where = await location(service, TEXT[0])
    await flip_in(service, TEXT[0], offset)
    damages = await verify_blobs(service)
    assert told(damages) == {("blob", text(data), where) for data in TEXT}
    for data in TEXT:
        await assert_absent(service, B3Digest.of(data))
    await healed(service)


@pytest.mark.parametrize("offset", [4, 6, 20, 28])
async def test_a_header_that_is_damaged_harmlessly_is_written_again(service: FsBlobService, offset: int) -> None:
    """All that is in the frame can still be had."""
    where = await location(service, SMALL[0])
    await flip_in(service, SMALL[0], offset)
    damages = await verify_blobs(service)
    assert told(damages) == {("pack", None, where)}
    assert await location(service, SMALL[0]) != where
    assert await verify_blobs(service) == []
    assert list(await service.get_many([B3Digest.of(data) for data in SMALL])) == SMALL
    await healed(service)


async def test_a_damaged_record_costs_one_blob(service: FsBlobService) -> None:
    where = await location(service, SMALL[0])
    await flip_in(service, SMALL[0], FIXED_BYTES + 36 + 3)
    assert told(await verify_blobs(service)) == {("blob", text(SMALL[1]), where)}
    await assert_absent(service, B3Digest.of(SMALL[1]))
    assert await read_blob(service, B3Digest.of(SMALL[2])) == SMALL[2]
    await healed(service)


async def test_damage_in_a_raw_payload_costs_one_blob(service: FsBlobService) -> None:
    where = await location(service, SMALL[0])
    await flip_in(service, SMALL[0], -1500)
    assert told(await verify_blobs(service)) == {("blob", text(SMALL[3]), where)}
    assert await location(service, SMALL[0]) != where  # the rest has been moved
    await healed(service)


async def test_damage_in_a_compressed_payload_costs_the_frame(service: FsBlobService) -> None:
    where = await location(service, TEXT[0])
    await flip_in(service, TEXT[0], FIXED_BYTES + 36 * len(TEXT) + 1)
    assert told(await verify_blobs(service)) == {("blob", text(data), where) for data in TEXT}
    await healed(service)


async def test_a_damaged_chunk_costs_all_that_have_it(service: FsBlobService) -> None:
    where = await location(service, CHUNK)
    await flip_in(service, CHUNK, FIXED_BYTES + 36 * len(cut(LARGE)) + 5)
    damages = await verify_blobs(service)
    assert ("chunk", text(CHUNK), where) in told(damages)
    assert {damage.digest for damage in damages if damage.kind == "blob"} >= {text(LARGE), text(OTHER)}
    await assert_absent(service, B3Digest.of(LARGE))
    await assert_absent(service, B3Digest.of(OTHER))
    await healed(service)


@pytest.mark.parametrize("offset", [0, 20, 28, 40, 80, 105])
async def test_a_damaged_list_costs_its_blob(service: FsBlobService, offset: int) -> None:
    where = await flip_list(service, LARGE, offset)
    damages = await verify_blobs(service)
    assert ("blob", text(LARGE), where) in told(damages)
    assert await list_blobs(service) == sorted(B3Digest.of(data) for data in DATAS if data != LARGE)
    assert await read_blob(service, B3Digest.of(OTHER)) == OTHER
    await healed(service)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE piece SET frame = frame + 1 WHERE digest = ?",
        "UPDATE piece SET frame = 1000 WHERE digest = ?",
        "UPDATE frame SET position = position + 1 WHERE id = (SELECT frame FROM piece WHERE digest = ?)",
        "UPDATE frame SET size = size + 1 WHERE id = (SELECT frame FROM piece WHERE digest = ?)",
        "UPDATE frame SET raw = raw + 1 WHERE id = (SELECT frame FROM piece WHERE digest = ?)",
        "UPDATE frame SET pack = 77 WHERE id = (SELECT frame FROM piece WHERE digest = ?)",
        "DELETE FROM frame WHERE id = (SELECT frame FROM piece WHERE digest = ?)",
    ],
)
async def test_a_wrong_index_is_told_of_and_put_right(service: FsBlobService, statement: str) -> None:
    digest = B3Digest.of(SMALL[0])
    change_index(service, statement, digest.raw)
    damages = await verify_blobs(service)
    assert str(digest) in {damage.digest for damage in damages}
    assert await read_blob(service, digest) == SMALL[0]
    assert await verify_blobs(service) == []
    await healed(service)


@pytest.mark.parametrize(
    "statement", ["UPDATE list SET frame = 1000 WHERE digest = ?", "UPDATE list SET frame = 1 WHERE digest = ?"]
)
async def test_a_wrong_place_of_a_list_is_told_of_and_put_right(service: FsBlobService, statement: str) -> None:
    digest = B3Digest.of(LARGE)
    change_index(service, statement, digest.raw)
    damages = await verify_blobs(service)
    assert str(digest) in {damage.digest for damage in damages}
    await healed(service)


async def test_a_missing_chunk_is_told_of(service: FsBlobService) -> None:
    change_index(service, "DELETE FROM piece WHERE digest = ?", B3Digest.of(CHUNK).raw)
    damages = await verify_blobs(service)
    assert {damage.digest for damage in damages} == {text(LARGE), text(OTHER)}
    assert all(f"chunk {B3Digest.of(CHUNK).raw.hex()}" in damage.reason.replace("blake3-", "") for damage in damages)
    await healed(service)


async def test_a_damaged_database_is_made_anew_at_the_next_start(service: FsBlobService, tmp_path: Path) -> None:
    change_index(service, "UPDATE pack SET synced = synced")  # so that all of it is in the file
    with closing(sqlite3.connect(service.store.layout.index)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'list'").fetchone()
    flip(tmp_path / "index.sqlite", 4096 * (page - 1) + 3, 5)  # the number of cells
    await service.aclose()
    async with await open_service(tmp_path) as again:
        damages = await verify_blobs(again)
        assert [damage.kind for damage in damages][:1] == ["index"]
        assert "made anew at the next start" in damages[0].reason
    async with await open_service(tmp_path) as again:
        assert await verify_blobs(again) == []
        assert await list_blobs(again) == sorted(B3Digest.of(data) for data in DATAS)


async def test_what_is_damaged_is_named_when_it_is_read(service: FsBlobService) -> None:
    where = await location(service, TEXT[0])
    await flip_in(service, TEXT[0], 0)
    with pytest.raises(CorruptObject) as caught:
        await service.get_many([B3Digest.of(TEXT[0])])
    assert str(caught.value) == f"test: blob blake3-{B3Digest.of(TEXT[0]).raw.hex()} is corrupt: {where}: is no frame"


@pytest.mark.parametrize("asked", [LARGE, CHUNK])
async def test_discarding_drops_all_that_share_a_damaged_chunk(
    service: FsBlobService, asked: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await flip_in(service, CHUNK, FIXED_BYTES + 36 * len(cut(LARGE)) + 5)
    where = await location(service, CHUNK)
    await service.discard_corrupt(B3Digest.of(asked))
    assert await list_blobs(service) == sorted(B3Digest.of(data) for data in (*SMALL, *TEXT))
    assert where in caplog.text
    await healed(service)


async def test_discarding_keeps_what_is_sound(service: FsBlobService, caplog: pytest.LogCaptureFixture) -> None:
    before = await list_blobs(service)
    for data in (SMALL[0], LARGE, CHUNK, b"absent"):
        await service.discard_corrupt(B3Digest.of(data))
    assert await list_blobs(service) == before
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    await healed(service)


async def test_discarding_a_blob_with_a_damaged_list(service: FsBlobService) -> None:
    await flip_list(service, LARGE, 80)
    with pytest.raises(CorruptObject):
        await service.open_read(B3Digest.of(LARGE))
    await service.discard_corrupt(B3Digest.of(LARGE))
    await assert_absent(service, B3Digest.of(LARGE))
    assert await read_blob(service, B3Digest.of(OTHER)) == OTHER
    await healed(service)


async def test_a_blob_with_a_damaged_list_can_be_deleted(service: FsBlobService) -> None:
    await flip_list(service, LARGE, 80)
    await service.delete([B3Digest.of(LARGE), B3Digest.of(SMALL[0])])
    await assert_absent(service, B3Digest.of(LARGE))
    await assert_absent(service, B3Digest.of(SMALL[0]))
    await healed(service)
