"""What is put into replicas in the background, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import pytest

from plugins.spread.cells import KINDS, Member, key, many, member
from plugins.spread.spreading import blobs, directories, path_infos
from tvix_store.around import Access, Around, AroundBlobService, AroundDirectoryService, AroundPathInfoService, Call
from tvix_store.blob import BlobService
from tvix_store.digest import HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import Unavailable
from tvix_store.limits import KIB, MIB
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.testing import run_blob_state_machine, run_directory_state_machine
from tvix_store.testing.fixtures import PATH_INFO, contents
from tvix_store_spread import repairs as repairs_module
from tvix_store_spread.mirror import MirrorOptions, SpreadReads
from tvix_store_spread.mirror_blob import MirrorBlobService
from tvix_store_spread.mirror_directory import MirrorDirectoryService
from tvix_store_spread.mirror_path_info import MirrorPathInfoService
from tvix_store_spread.repairs import Repairs

T = TypeVar("T")


def mirror(kind: str, first: Member, second: Member) -> Any:
    services, options = {"a": first.service, "b": second.service}, MirrorOptions(2, SpreadReads.FIRST)
    if kind == "blob":
        return MirrorBlobService("test", services, options)
    if kind == "directory":
        return MirrorDirectoryService("test", services, options)
    return MirrorPathInfoService("test", services, options)


class Mending:
    """Repairs that stop until they are let through, and fail for the members that are named."""

    def __init__(self, *failing: int) -> None:
        self.failing = failing
        self.done: list[tuple[int, list[str]]] = []
        self.begun = asyncio.Event()
        self.let_through = asyncio.Event()
        self.was_cancelled = False

    async def __call__(self, position: int, keys: Sequence[str]) -> int:
        self.begun.set()
        try:
            await self.let_through.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if position in self.failing:
            raise Unavailable("down")
        self.done.append((position, list(keys)))
        return len(keys)


@pytest.mark.anyio
async def test_closing_gives_up_what_is_under_way() -> None:
    mending = Mending()
    repairs: Repairs[str] = Repairs("test", 1, mending)
    repairs.notice("a", [0])
    await mending.begun.wait()
    await repairs.aclose()
    assert mending.was_cancelled
    repairs.notice("b", [0])
    await repairs.aclose()
    assert mending.done == []


@pytest.mark.anyio
async def test_each_member_gets_what_it_lacks_and_once() -> None:
    mending = Mending()
    mending.let_through.set()
    async with Repairs("test", 3, mending) as repairs:
        for key in ("a", "b", "a"):
            repairs.notice(key, [0, 2])
        await repairs.settle()
        assert repairs.repaired == 4
    assert mending.done == [(0, ["a", "b"]), (2, ["a", "b"])]


@pytest.mark.anyio
async def test_a_member_that_fails_keeps_nobody_waiting() -> None:
    mending = Mending(0)
    mending.let_through.set()
    async with Repairs("test", 2, mending) as repairs:
        for number in range(200):
            repairs.notice(str(number), [0, 1])
        await repairs.settle()
        assert (repairs.repaired, repairs.failed) == (200, 200)


@pytest.mark.anyio
async def test_only_so_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairs_module, "_MAX_WAITING", 2)
    mending = Mending()
    mending.let_through.set()
    async with Repairs("test", 1, mending) as repairs:
        for key in "abc":
            repairs.notice(key, [0])
        assert repairs.dropped == 1
        await repairs.settle()
    assert mending.done == [(0, ["a", "b"])]


@pytest.mark.anyio
async def test_what_is_kept_off_waits_for_a_repair_and_is_not_repaired_meanwhile() -> None:
    mending = Mending()
    async with Repairs("test", 1, mending) as repairs:
        repairs.notice("a", [0])
        await mending.begun.wait()
        repairs.notice("b", [0])
        async with repairs.kept_off(["b"]):
            repairs.notice("b", [0])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), repairs.kept_off(["a"]):
                    raise AssertionError("a is being repaired")
            mending.let_through.set()
            async with repairs.kept_off(["a"]):
                assert mending.done == [(0, ["a"])]
            await repairs.settle()
    assert mending.done == [(0, ["a"])]


@pytest.mark.anyio
async def test_blobs_of_all_sizes_are_repaired() -> None:
    first, second = member("blob"), member("blob")
    there = [HashedBlob(contents(size, size)) for size in (1, 5000, 128 * KIB, 128 * KIB + 1, 3 * MIB)]
    await second.memory.put_many(there)
    service = MirrorBlobService("test", {"a": first.service, "b": second.service}, MirrorOptions(2, SpreadReads.FIRST))
    async with service:
        assert all(await service.has_many([blob.digest for blob in there]))
        await service.mirroring.repairs.settle()
    assert first.memory.contents == second.memory.contents


@pytest.mark.anyio
@pytest.mark.parametrize("is_read", [False, True])
async def test_what_is_corrupt_in_a_replica_keeps_nothing_else_from_being_repaired(is_read: bool) -> None:
    first, second = member("directory"), member("directory")
    tree = [Directory({b"leaf": SymlinkNode(b"%d" % number)}) for number in range(9)]
    await second.memory.put_many(tree)
    await first.memory.put_many(tree[:3])
    first.memory.encodings.update(dict.fromkeys(first.memory.encodings, b"?"))
    members = {"a": first.service, "b": second.service}
    async with MirrorDirectoryService("test", members, MirrorOptions(2, SpreadReads.FIRST)) as service:
        if is_read:
            assert None not in await service.get_many([directory.digest for directory in tree])
        else:
            for directory in tree:
                service.mirroring.repairs.notice(directory.digest, [0])
        await service.mirroring.repairs.settle()
    assert first.memory.encodings == second.memory.encodings


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_corrupt_where_it_comes_from_is_left_out(kind: str) -> None:
    first, second = member(kind), member(kind)
    things = many(kind)[:9]
    await second.memory.put_many(things)
    held = getattr(second.memory, "contents" if kind == "blob" else "encodings")
    corrupt = list(held)[4]
    held[corrupt] = held[corrupt][:-1]
    service = mirror(kind, first, second)
    async with service:
        for thing in things:
            service.mirroring.repairs.notice(key(kind, thing), [0])
        await service.mirroring.repairs.settle()
        assert (service.mirroring.repairs.repaired, service.mirroring.repairs.failed) == (8, 0)
    assert getattr(first.memory, "contents" if kind == "blob" else "encodings") == held


@pytest.mark.anyio
async def test_what_is_deleted_does_not_come_back() -> None:
    first, second = member("blob"), member("blob")
    blob = HashedBlob(b"gone")
    await second.memory.put_many([blob])
    service = MirrorBlobService("test", {"a": first.service, "b": second.service}, MirrorOptions(2, SpreadReads.FIRST))
    async with service:
        assert await service.has(blob.digest)
        await service.delete([blob.digest])
        await service.mirroring.repairs.settle()
    assert first.memory.contents == second.memory.contents == {}


@pytest.mark.anyio
async def test_a_repair_replaces_nothing() -> None:
    """What was put since it was noticed stays."""
    first, second = member("path_info"), member("path_info")
    await second.memory.put(PATH_INFO)
    service = MirrorPathInfoService(
        "test", {"a": first.service, "b": second.service}, MirrorOptions(2, SpreadReads.FIRST)
    )
    newer = replace(PATH_INFO, nar_size=77)
    async with service:
        assert await service.get(PATH_INFO.store_path.digest) == PATH_INFO
        await service.put(newer)
        await service.mirroring.repairs.settle()
    assert first.memory.encodings == second.memory.encodings
    assert await first.memory.get(PATH_INFO.store_path.digest) == newer


class TakesLessAndLess(Around):
    """The first puts take longest, so that those that overlap end in reverse."""

    def __init__(self) -> None:
        self.left = 50

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        self.left -= 5
        for _ in range(self.left):
            await asyncio.sleep(0)
        return await operation()


@pytest.mark.anyio
async def test_puts_of_one_path_at_the_same_time_leave_the_replicas_the_same() -> None:
    first, second = path_infos(), path_infos()
    service = MirrorPathInfoService(
        "test", {"a": first, "b": AroundPathInfoService(second, TakesLessAndLess())}, MirrorOptions(2)
    )
    async with asyncio.TaskGroup() as group:
        for size in range(8):
            group.create_task(service.put(replace(PATH_INFO, nar_size=size)))
    assert await first.get(PATH_INFO.store_path.digest) == await second.get(PATH_INFO.store_path.digest)


class OftenDown(Around):
    """Every third write fails, and every third piece that is read; what is absent takes an answer of all."""

    def __init__(self) -> None:
        self.numbers = count()

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        fails = call.access is Access.WRITE or call.method == "reader.read"
        if fails and next(self.numbers) % 3 == 2:
            raise Unavailable("down")
        return await operation()


def test_blobs_answer_as_a_dict_does_though_one_replica_is_often_down() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[BlobService]:
        members = {"a": AroundBlobService(blobs(), OftenDown()), "b": blobs()}
        async with MirrorBlobService("test", members, MirrorOptions(1)) as service:
            yield service

    run_blob_state_machine(factory, max_examples=10)


def test_directories_answer_as_a_dict_does_though_one_replica_is_often_down() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[DirectoryService]:
        members = {"a": AroundDirectoryService(directories(), OftenDown()), "b": directories()}
        async with MirrorDirectoryService("test", members, MirrorOptions(1)) as service:
            yield service

    run_directory_state_machine(factory, max_examples=10)
