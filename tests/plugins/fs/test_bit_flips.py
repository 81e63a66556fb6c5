"""Single bits that flip in packs and in the index: never wrong bytes, never unnoticed, and storing again heals."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip
from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, StoreError
from tvix_store.limits import KIB
from tvix_store.testing.blob_access import list_blobs, read_blob, verify_blobs, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.store import PackStore

pytestmark = pytest.mark.anyio

FLIPS = 100
TOO_LONG = 60 * KIB
"""Those that are longer are read by a reader."""

SHARED = contents(80 * KIB, 1)
KEPT = [
    *(contents(size, size) for size in (1, 50, 700, 1500)),
    *(b"%d compresses well\n" % number * 100 for number in range(8)),
    SHARED,
    SHARED + b"and more",
    contents(100 * KIB, 2) * 3,
]
DELETED = [contents(900, 77), contents(50 * KIB, 78), SHARED[: 70 * KIB] + b"deleted"]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[CheckedBlobService]:
    async with CheckedBlobService("test", await opened_by_itself(path)) as service:
        yield service


async def opened_by_itself(path: Path) -> FsBlobService:
    return FsBlobService("test", await PackStore.open("test", str(path), avg_chunk_size=4 * KIB))


async def put_all(service: CheckedBlobService) -> None:
    await service.put_many([HashedBlob(data) for data in KEPT if len(data) < TOO_LONG])
    for data in KEPT:
        if len(data) >= TOO_LONG:
            await write_blob(service, data)


@pytest.fixture
async def pristine(tmp_path: Path) -> Path:
    """A store with blobs of all kinds, some of them deleted, closed."""
    path = tmp_path / "pristine"
    async with opened(path) as service:
        await service.put_many([HashedBlob(data) for data in DELETED])
        await put_all(service)
        await service.delete([B3Digest.of(data) for data in DELETED])
    return path


async def read_all(service: CheckedBlobService) -> tuple[set[bytes], set[bytes]]:
    """The blobs that are absent, and those that are corrupt. None of them is wrong."""
    absent: set[bytes] = set()
    corrupt: set[bytes] = set()
    for data in KEPT:
        for read in (read_blob, _get):
            try:
                found = await read(service, B3Digest.of(data))
            except CorruptObject:
                corrupt.add(data)
                continue
            assert found in (data, None), "wrong bytes"
            if found is None:
                absent.add(data)
    return absent, corrupt


async def _get(service: CheckedBlobService, digest: B3Digest) -> bytes | None:
    return (await service.get_many([digest]))[0]


async def check_a_flip(pristine: Path, work: Path, file: str, position: int, bit: int) -> None:
    """What happens after a bit has flipped, to who reads and to who verifies."""
    for name in ("read", "verified"):
        shutil.rmtree(work / name, ignore_errors=True)
        shutil.copytree(pristine, work / name)
        flip(work / name / file, position, bit)
    try:
        async with opened(work / "read") as service:
            absent, corrupt = await read_all(service)
            with suppress(StoreError):
                await list_blobs(service)
        async with opened(work / "verified") as service:
            reported = len(await verify_blobs(service))
    except StoreError:
        return  # it is said to be damaged when it is opened
    is_made_anew = (work / "read" / "index.sqlite.damaged").exists()
    # That one blob was deleted is a single bit in the index. If it flips, it has been deleted as far as can be told.
    assert reported or is_made_anew or (not corrupt and len(absent) <= 1), (
        "some cannot be read, and nothing is reported"
    )
    async with opened(work / "verified") as service:
        await put_all(service)
        assert await read_all(service) == (set(), set()), "storing again does not heal"
        again = await verify_blobs(service)
        assert not again, f"there is more damage: {again[0]}"


async def flips_that_fail(pristine: Path, work: Path, file: str, chance: random.Random) -> list[str]:
    """Flip bits; at which positions something happens that must not."""
    data = (pristine / file).read_bytes()
    written = [position for position, byte in enumerate(data) if byte]
    failed: list[str] = []
    for _ in range(FLIPS):
        position = chance.choice(written) if chance.random() < 0.8 else chance.randrange(len(data))
        bit = chance.randrange(8)
        try:
            await check_a_flip(pristine, work, file, position, bit)
        except Exception as exc:
            failed.append(f"{position} bit {bit}: {type(exc).__name__}: {exc}")
    return failed


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("file", ["index.sqlite", "packs/00000001.pack"])
async def test_a_flipped_bit_is_noticed_and_healed(pristine: Path, tmp_path: Path, file: str, seed: int) -> None:
    failed = await flips_that_fail(pristine, tmp_path, file, random.Random(seed))
    assert not failed, "\n".join(failed)


async def test_a_flipped_bit_in_a_header_of_a_frame_is_noticed_and_healed(pristine: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    data = (pristine / "packs/00000001.pack").read_bytes()
    frames = [position for position in range(len(data)) if data.startswith(b"TVXF", position)]
    for _ in range(FLIPS):
        position = chance.choice(frames) + chance.randrange(100)
        await check_a_flip(pristine, tmp_path, "packs/00000001.pack", position, chance.randrange(8))


async def read_in_the_middle(service: BlobService, data: bytes) -> None:
    """Read some of it after a seek; if that goes well, it is right."""
    with suppress(CorruptObject):
        reader = await service.open_read(B3Digest.of(data))
        if reader is not None:
            async with reader:
                await reader.seek(len(data) // 2)
                assert data[len(data) // 2 :].startswith(await reader.read(100)), "wrong bytes"


async def get(service: BlobService, data: bytes) -> None:
    """Have it whole; if that goes well, it is right."""
    with suppress(CorruptObject):
        for found in await service.get_many([B3Digest.of(data)]):
            assert found in (data, None), "wrong bytes"


@pytest.mark.parametrize("file", ["index.sqlite", "packs/00000001.pack"])
async def test_the_service_gives_no_wrong_bytes_by_itself(pristine: Path, tmp_path: Path, file: str) -> None:
    """It states that it verifies, so nobody else looks."""
    chance = random.Random(7)
    size = (pristine / file).stat().st_size
    for _ in range(FLIPS):
        shutil.rmtree(tmp_path / "read", ignore_errors=True)
        shutil.copytree(pristine, tmp_path / "read")
        flip(tmp_path / "read" / file, chance.randrange(size), chance.randrange(8))
        try:
            service = await opened_by_itself(tmp_path / "read")
        except StoreError:
            continue
        async with service:
            for data in KEPT:
                await read_in_the_middle(service, data)
                await get(service, data)
