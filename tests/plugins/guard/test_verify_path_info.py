"""Path infos that are looked at once more: each row of the table in the README."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fakes.recorder import Recorder
from plugins.guard.damaged import DamagedPathInfos
from tvix_store.around import AroundPathInfoService
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.path_info import PathInfo, Signature
from tvix_store.testing.path_info_suite import path_info
from tvix_store_guard.verify_path_info import VerifyPathInfoService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

ALL = [path_info(number) for number in range(4)]
DIGESTS = [path_info.store_path.digest for path_info in ALL]
OTHER = replace(ALL[0], nar_size=999)


@pytest.fixture
async def inner() -> DamagedPathInfos:
    inner = DamagedPathInfos()
    await inner.put_many(ALL)
    return inner


@pytest.fixture
async def refetch() -> MemoryPathInfoService:
    refetch = MemoryPathInfoService("refetch")
    await refetch.put_many(ALL)
    return refetch


async def test_what_is_corrupt_is_replaced(inner: DamagedPathInfos, refetch: MemoryPathInfoService) -> None:
    service = VerifyPathInfoService("guard", inner, refetch=refetch)
    inner.damage(ALL[0])
    assert await service.get(DIGESTS[0]) == ALL[0]
    inner.damage(ALL[0])
    assert await service.get_metadata(DIGESTS[0]) == ALL[0]
    inner.damage(ALL[0], ALL[2])
    assert list(await service.get_many(DIGESTS)) == ALL
    assert list(await inner.get_many(DIGESTS)) == ALL


@pytest.mark.parametrize("on_get", [False, True])
async def test_without_a_copy_the_error_stays(inner: DamagedPathInfos, on_get: bool) -> None:
    refetch = MemoryPathInfoService("refetch")
    service = VerifyPathInfoService("guard", inner, refetch=refetch if on_get else None, on_get=on_get)
    inner.damage(*ALL[:3])
    with pytest.raises(CorruptObject):
        await service.get(DIGESTS[0])
    with pytest.raises(CorruptObject):
        await service.get_metadata(DIGESTS[1])
    with pytest.raises(CorruptObject):
        await service.get_many(DIGESTS)


async def test_absence_is_no_corruption(refetch: MemoryPathInfoService) -> None:
    service = VerifyPathInfoService("guard", MemoryPathInfoService(), refetch=refetch)
    assert await service.get(DIGESTS[0]) is None
    assert await service.get_metadata(DIGESTS[0]) is None
    assert list(await service.get_many(DIGESTS)) == [None] * 4


class Losing(DamagedPathInfos):
    """Stores something else, so many times."""

    def __init__(self, times: int, instead: PathInfo | None = None) -> None:
        super().__init__()
        self.times = times
        self.instead = instead

    async def put(self, path_info: PathInfo) -> PathInfo:
        return (await self.put_many([path_info]))[0]

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        stored = await super().put_many(path_infos)
        if self.times > 0:
            self.times -= 1
            if self.instead is None:
                self.damage(path_infos[0])
            else:
                await super().put_many([self.instead])
        return stored


@pytest.mark.parametrize("instead", [None, OTHER], ids=["nonsense", "another"])
async def test_what_is_stored_wrong_is_put_once_more(instead: PathInfo | None) -> None:
    inner = Losing(1, instead)
    service = VerifyPathInfoService("guard", inner)
    assert await service.put(ALL[0]) == ALL[0]
    inner.times = 1
    assert list(await service.put_many(ALL)) == ALL
    assert list(await inner.get_many(DIGESTS)) == ALL


@pytest.mark.parametrize("instead", [None, OTHER], ids=["nonsense", "another"])
async def test_what_is_stored_wrong_twice_is_an_error(instead: PathInfo | None) -> None:
    with pytest.raises(CorruptObject):
        await VerifyPathInfoService("guard", Losing(2, instead)).put(ALL[0])
    with pytest.raises(CorruptObject):
        await VerifyPathInfoService("guard", Losing(2, instead)).put_many(ALL)
    assert await VerifyPathInfoService("guard", Losing(2, instead), on_put=False).put(ALL[0]) == ALL[0]


async def test_what_the_service_says_it_stored_is_what_counts() -> None:
    class Signing(MemoryPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(path_info.with_signatures(Signature("inner", bytes(64))))

    stored = await VerifyPathInfoService("guard", Signing()).put(ALL[0])
    assert stored.signatures[-1].name == "inner"


async def test_several_puts_of_one_path_may_win() -> None:
    is_put, may_go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            stored = await super().put(path_info)
            if path_info == ALL[0]:
                is_put.set()
                await may_go_on.wait()
            return stored

    service = VerifyPathInfoService("guard", Slow())
    task = asyncio.create_task(service.put(ALL[0]))
    await is_put.wait()
    assert await service.put(OTHER) == OTHER
    may_go_on.set()
    assert await task == ALL[0]
    assert await service.get(DIGESTS[0]) == OTHER


async def test_a_failure_to_read_back_is_a_failure(inner: DamagedPathInfos) -> None:
    recorder = Recorder()
    recorder.failure, recorder.failing = Unavailable("the line is cut"), ["get", "get_many"]
    service = VerifyPathInfoService("guard", AroundPathInfoService(inner, recorder))
    with pytest.raises(Unavailable):
        await service.put(ALL[0])
    with pytest.raises(Unavailable):
        await service.put_many(ALL)


async def test_batches_stay_batches(inner: DamagedPathInfos) -> None:
    recorder = Recorder()
    service = VerifyPathInfoService("guard", AroundPathInfoService(inner, recorder))
    await service.get_many(DIGESTS)
    await service.put_many(ALL)
    assert recorder.calls == [("get_many", 4), ("put_many", 4), ("get_many", 4)]
