"""What services do about verifying that do nothing about it themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, Unavailable, Unsupported
from tvix_store.limits import MIB, SMALL_BLOB_BYTES
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.testing.fixtures import PATH_INFO, contents
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService, MinimalPathInfoService
from tvix_store.verification import Damage, no_progress, verify_in_batches
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio


def test_damage_is_one_line() -> None:
    assert str(Damage("blob", "blake3-x", "pack 3 at 5", "hashes to\nsomething")) == (
        "blob blake3-x (pack 3 at 5): hashes to something"
    )
    assert str(Damage("index", None, None, "cannot be read")) == "index: cannot be read"


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_several_batches_are_under_way_and_not_all() -> None:
    started: list[int] = []
    full, go = asyncio.Event(), asyncio.Event()

    async def check(batch: Sequence[int]) -> tuple[Sequence[Damage], int]:
        started.append(batch[0])
        if len(started) == 4:
            full.set()
        await go.wait()
        return [], len(batch)

    async def verify() -> list[Damage]:
        return [damage async for damage in verify_in_batches(numbers(100), check, no_progress, batch_count=10)]

    task = asyncio.create_task(verify())
    await full.wait()
    assert started == [0, 10, 20, 30]
    go.set()
    assert await task == []
    assert started == list(range(0, 100, 10))


async def test_progress_tells_of_every_batch_and_of_the_total() -> None:
    async def check(batch: Sequence[int]) -> tuple[Sequence[Damage], int]:
        return [], len(batch)

    told: list[tuple[int, int | None]] = []
    async for _ in verify_in_batches(
        numbers(25), check, lambda done, total: told.append((done, total)), batch_count=10, total=25
    ):
        pass
    assert told == [(10, 25), (20, 25), (25, 25)]


async def test_a_failure_gives_up_the_batches_under_way() -> None:
    given_up: list[int] = []

    async def check(batch: Sequence[int]) -> tuple[Sequence[Damage], int]:
        if batch[0] == 0:
            raise Unavailable("gone")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(batch[0])
            raise
        return [], 0

    with pytest.raises(Unavailable, match="gone"):
        async for _ in verify_in_batches(numbers(40), check, no_progress, batch_count=10):
            pass
    assert given_up == [10, 20, 30]


class PickyBlobs(MemoryBlobService):
    """Does as a service that checks what it reads, and counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        self.batches.append(len(digests))
        found = await super().get_many(digests, max_blob_bytes=max_blob_bytes)
        for digest, data in zip(digests, found, strict=True):
            if data is not None and B3Digest.of(data) != digest:
                raise CorruptObject("one of them is corrupt")
        return found


async def damages(service: BlobService) -> list[str | None]:
    return sorted([damage.digest async for damage in service.verify()], key=str)


@pytest.mark.parametrize("service", [MemoryBlobService, PickyBlobs])
async def test_damaged_blobs_are_found_among_many_and_forgotten(service: type[MemoryBlobService]) -> None:
    blobs = service()
    given = [HashedBlob(contents(100 + seed, seed)) for seed in range(300)]
    await blobs.put_many(given)
    wrong = [given[3], given[4], given[250]]
    for blob in wrong:
        blobs.contents[blob.digest.raw] = b"something else"
    assert await damages(blobs) == sorted(str(blob.digest) for blob in wrong)
    assert len(blobs.contents) == 297
    assert await damages(blobs) == []


async def test_small_blobs_are_read_in_batches() -> None:
    blobs = PickyBlobs()
    await blobs.put_many([HashedBlob(contents(100, seed)) for seed in range(300)])
    assert await damages(blobs) == []
    assert blobs.batches == [64, 64, 64, 64, 44]


async def test_large_blobs_among_small_ones_are_read_and_counted() -> None:
    blobs = MemoryBlobService()
    sizes = [*range(1, 60), 200_000, 600_000, 3 * MIB]
    given = [HashedBlob(contents(size, size)) for size in sizes]
    await blobs.put_many(given)
    told: list[tuple[int, int | None]] = []
    assert [damage async for damage in blobs.verify(lambda done, total: told.append((done, total)))] == []
    assert told == [(sum(sizes), sum(sizes))]
    blobs.contents[given[-1].digest.raw] = given[-1].data[:-1]
    assert await damages(blobs) == [str(given[-1].digest)]


async def test_what_is_deleted_meanwhile_is_no_damage() -> None:
    class Vanishing(MemoryBlobService):
        async def get_many(
            self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
        ) -> Sequence[bytes | None]:
            self.contents.clear()
            return await super().get_many(digests, max_blob_bytes=max_blob_bytes)

    blobs = Vanishing()
    await blobs.put_many([HashedBlob(b"one"), HashedBlob(b"two")])
    assert await damages(blobs) == []


async def test_damaged_directories_are_found_and_forgotten() -> None:
    service = MemoryDirectoryService()
    given = [Directory({b"link": SymlinkNode(b"%d" % number)}) for number in range(50)]
    await service.put_many(given)
    service.encodings[given[7].digest.raw] = b"\xff"
    service.encodings[given[31].digest.raw] = given[30].encode()
    found = [damage async for damage in service.verify()]
    assert {damage.digest for damage in found} == {str(given[7].digest), str(given[31].digest)}
    assert given[31].digest.raw not in service.encodings
    assert [damage async for damage in service.verify()] == []


async def test_path_infos_that_spoil_the_list_are_found_and_forgotten() -> None:
    service = MemoryPathInfoService()
    await service.put(PATH_INFO)
    service.encodings[bytes(19) + b"\1"] = b"\xff"
    service.encodings[bytes(19) + b"\2"] = service.encodings[PATH_INFO.store_path.digest]
    found = [damage async for damage in service.verify()]
    assert {damage.digest for damage in found} == {"00" * 19 + "01", "00" * 19 + "02"}
    assert list(service.encodings) == [PATH_INFO.store_path.digest]


async def test_a_list_that_cannot_go_on_ends_verification_and_is_told() -> None:
    class Spoilt(MinimalPathInfoService):
        async def list(self) -> AsyncIterator[object]:  # type: ignore[override]
            yield PATH_INFO
            raise CorruptObject("the table is damaged")

    found = [damage async for damage in Spoilt().verify()]
    assert found == [Damage("path info", None, None, "the table is damaged")]


@pytest.mark.parametrize("service", [MinimalBlobService, MinimalDirectoryService, MinimalPathInfoService])
async def test_what_cannot_be_listed_cannot_be_verified(
    service: type[MinimalBlobService | MinimalDirectoryService | MinimalPathInfoService],
) -> None:
    with pytest.raises(Unsupported, match=f"{service.__name__} cannot list"):
        [damage async for damage in service().verify()]
    with pytest.raises(Unsupported, match=f"{service.__name__} has no statistics"):
        await service().stats()
