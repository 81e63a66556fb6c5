"""Dice that can be thrown again, and calls that fail, wait and hang."""

from __future__ import annotations

import asyncio

import pytest

from tvix_store.digest import B3Digest
from tvix_store.errors import OutOfSpace, StoreError, Unavailable
from tvix_store.testing.fixtures import DIRECTORY_WITH_KEEP, PATH_INFO
from tvix_store_fault.blob import FaultBlobService
from tvix_store_fault.directory import FaultDirectoryService
from tvix_store_fault.faults import FaultRates, Faults
from tvix_store_fault.path_info import FaultPathInfoService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

ABSENT = B3Digest.of(b"absent")


async def history(seed: int) -> list[str]:
    """What came of the same calls."""
    service = FaultBlobService(
        MemoryBlobService(), Faults("test", seed, FaultRates(error_rate=0.4, error_after_rate=0.4))
    )
    answers = []
    for _ in range(40):
        try:
            answers.append(str(await service.has(ABSENT)))
        except StoreError as exc:
            answers.append(str(exc))
    return answers


async def test_the_same_seed_gives_the_same_faults() -> None:
    assert await history(1) == await history(1)
    assert await history(1) != await history(2)
    assert len(set(await history(1))) == 3


async def test_only_the_methods_that_are_named_fail_and_they_alone_throw_dice() -> None:
    faults = Faults("test", 0, FaultRates(error_rate=0.5), ["get"])
    service = FaultPathInfoService(MemoryPathInfoService("inner"), faults)

    async def fails(others: int) -> bool:
        for _ in range(others):
            await service.get_metadata(PATH_INFO.store_path.digest)
        try:
            await service.get(PATH_INFO.store_path.digest)
        except Unavailable:
            return True
        return False

    many = [await fails(others=3) for _ in range(20)]
    faults = service.around = service.faults = Faults("test", 0, FaultRates(error_rate=0.5), ["get"])
    assert many == [await fails(others=0) for _ in range(20)]
    assert set(many) == {True, False}


async def test_only_what_writes_is_out_of_space() -> None:
    rates = FaultRates(out_of_space_rate=1)
    directories = FaultDirectoryService(MemoryDirectoryService("inner"), Faults("test", 0, rates))
    with pytest.raises(OutOfSpace):
        await directories.put(DIRECTORY_WITH_KEEP)
    assert await directories.get(DIRECTORY_WITH_KEEP.digest) is None
    path_infos = FaultPathInfoService(MemoryPathInfoService("inner"), Faults("test", 0, rates))
    with pytest.raises(OutOfSpace):
        await path_infos.put(PATH_INFO)
    assert await path_infos.get(PATH_INFO.store_path.digest) is None


async def test_a_call_that_hangs_is_told_of_and_ends_when_it_is_cancelled() -> None:
    faults = Faults("test", 0, FaultRates(hang_rate=1))
    call = asyncio.create_task(FaultBlobService(MemoryBlobService(), faults).has(ABSENT))
    await faults.hanging.wait()
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_call_under_way_when_it_crashes_fails() -> None:
    faults = Faults("test", 0, FaultRates(latency_s=0.001))
    call = asyncio.create_task(FaultBlobService(MemoryBlobService(), faults).has(ABSENT))
    await asyncio.sleep(0)
    faults.crash()
    faults.heal()
    with pytest.raises(Unavailable, match=r"on purpose"):
        await call
    assert faults.calls == {"has": 1}


async def test_an_upload_of_directories_ends_with_a_crash() -> None:
    faults = Faults("test")
    service = FaultDirectoryService(MemoryDirectoryService("inner"), faults)
    async with await service.put_multiple_start() as putter:
        await putter.put_many([DIRECTORY_WITH_KEEP])
        faults.crash()
        faults.heal()
        with pytest.raises(Unavailable):
            await putter.close()
    assert await service.get(DIRECTORY_WITH_KEEP.digest) is None
