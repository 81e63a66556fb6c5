"""Directories that were read lately."""

from __future__ import annotations

import asyncio

import pytest

from fakes.services import Hang
from plugins.fuse.stores import CountingDirectories
from tvix_store.errors import DanglingReference, Unavailable
from tvix_store.nodes import Directory, FileNode, SymlinkNode
from tvix_store.testing.cancelling import cancel_when
from tvix_store.testing.fixtures import DIRECTORY_A, DIRECTORY_B, DIRECTORY_D, HELLOWORLD_BLOB
from tvix_store_fuse.directories import Directories

pytestmark = pytest.mark.anyio

FILE = FileNode(HELLOWORLD_BLOB.digest, 12)


def with_links(count: int, kind: bytes = b"") -> Directory:
    """A directory with so many entries, unlike others of another kind."""
    return Directory({b"%d" % i: SymlinkNode(b"to " + kind) for i in range(count)})


def comb(depth: int) -> list[Directory]:
    """Each but the first holds the one before it."""
    directories = [Directory({b"file": FILE})]
    for _ in range(depth):
        directories.append(Directory({b"below": directories[-1].node()}))
    return directories


async def service_with(*directories: Directory) -> CountingDirectories:
    service = CountingDirectories()
    await service.put_many(directories)
    return service


async def test_what_was_got_is_at_hand() -> None:
    service = await service_with(DIRECTORY_B)
    async with Directories(service) as directories:
        assert directories.at_hand(DIRECTORY_B.digest) is None
        got = await directories.get(DIRECTORY_B.digest)
        assert got == DIRECTORY_B
        assert directories.at_hand(DIRECTORY_B.digest) is got
        assert await directories.get(DIRECTORY_B.digest) is got
    assert len(service.got) == 1


async def test_an_empty_directory_is_one_too() -> None:
    async with Directories(await service_with(DIRECTORY_A)) as directories:
        assert await directories.get(DIRECTORY_A.digest) == DIRECTORY_A
        assert directories.at_hand(DIRECTORY_A.digest) == DIRECTORY_A


async def test_what_is_absent_may_come() -> None:
    service = CountingDirectories()
    async with Directories(service) as directories:
        with pytest.raises(DanglingReference, match=f"directory {DIRECTORY_B.digest} does not exist"):
            await directories.get(DIRECTORY_B.digest)
        await service.put(DIRECTORY_B)
        assert await directories.get(DIRECTORY_B.digest) == DIRECTORY_B


async def test_a_failure_is_not_remembered() -> None:
    service = await service_with(DIRECTORY_B)

    async def fail() -> None:
        raise Unavailable("gone")

    async with Directories(service) as directories:
        service.on_get = fail
        with pytest.raises(Unavailable, match="gone"):
            await directories.get(DIRECTORY_B.digest)
        service.on_get = None
        assert await directories.get(DIRECTORY_B.digest) == DIRECTORY_B


async def test_who_asks_at_the_same_time_shares_the_call() -> None:
    service = await service_with(DIRECTORY_B)
    async with Directories(service) as directories:
        found = await asyncio.gather(*(directories.get(DIRECTORY_B.digest) for _ in range(50)))
    assert found == [DIRECTORY_B] * 50
    assert len(service.got) == 1


async def test_who_goes_away_leaves_the_call_to_the_others() -> None:
    service = await service_with(DIRECTORY_B)
    may_end, begun = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await may_end.wait()

    service.on_get = wait
    async with Directories(service) as directories:
        other = asyncio.create_task(directories.get(DIRECTORY_B.digest))
        await cancel_when(begun, directories.get(DIRECTORY_B.digest))
        may_end.set()
        assert await other == DIRECTORY_B
    assert len(service.got) == 1


async def test_what_was_used_least_recently_goes_first() -> None:
    first, second, third = with_links(4, b"a"), with_links(4, b"b"), with_links(4, b"c")
    async with Directories(await service_with(first, second, third), max_entries=14) as directories:
        await directories.get(first.digest)
        await directories.get(second.digest)
        directories.at_hand(first.digest)
        await directories.get(third.digest)
        held = [directory for directory in (first, second, third) if directories.at_hand(directory.digest)]
        assert held == [first, third]
        assert (len(directories), directories.n_entries) == (2, 10)


async def test_the_entries_of_all_are_bounded_and_each_directory_counts_as_one_more() -> None:
    many = [with_links(2, b"%d" % i) for i in range(20)]
    async with Directories(await service_with(*many), max_entries=30) as directories:
        for directory in many:
            await directories.get(directory.digest)
            assert directories.n_entries == 3 * len(directories) <= 30
        assert len(directories) == 10


async def test_one_that_is_too_large_is_held_as_long_as_it_is_used() -> None:
    large, small = with_links(100), with_links(1)
    async with Directories(await service_with(large, small), max_entries=10) as directories:
        await directories.get(large.digest)
        assert directories.at_hand(large.digest) == large
        await directories.get(small.digest)
        assert directories.at_hand(large.digest) is None
        assert directories.at_hand(small.digest) == small


async def test_a_closure_brings_what_is_below() -> None:
    service = await service_with(DIRECTORY_A, DIRECTORY_B, DIRECTORY_D)
    async with Directories(service) as directories:
        await directories.get_closure(DIRECTORY_D.digest)
        for directory in (DIRECTORY_A, DIRECTORY_B, DIRECTORY_D):
            assert directories.at_hand(directory.digest) == directory
    assert service.got == []


async def test_a_closure_stops_after_so_many_and_ends_what_it_reads() -> None:
    below = comb(10)
    service = await service_with(*below)
    async with Directories(service) as directories:
        await directories.get_closure(below[-1].digest, max_directories=3)
        assert [directories.at_hand(directory.digest) is not None for directory in below] == [False] * 8 + [True] * 3
        assert service.n_closures_ended == 1


async def test_a_closure_does_not_push_out_what_it_brought() -> None:
    below = comb(100)
    async with Directories(await service_with(*below), max_entries=40) as directories:
        await directories.get_closure(below[-1].digest)
        assert directories.at_hand(below[-1].digest) == below[-1]
        assert directories.at_hand(below[-10].digest) == below[-10]
        assert directories.n_entries == 20


async def test_the_closure_of_what_is_absent_brings_nothing() -> None:
    async with Directories(CountingDirectories()) as directories:
        await directories.get_closure(DIRECTORY_B.digest)
        assert len(directories) == 0


async def test_a_closure_with_something_missing_brings_what_came_before() -> None:
    async with Directories(await service_with(DIRECTORY_D, DIRECTORY_A)) as directories:
        with pytest.raises(DanglingReference):
            await directories.get_closure(DIRECTORY_D.digest)
        assert directories.at_hand(DIRECTORY_D.digest) == DIRECTORY_D


async def test_who_wants_a_closure_at_the_same_time_shares_it() -> None:
    service = await service_with(DIRECTORY_A, DIRECTORY_B, DIRECTORY_D)
    async with Directories(service) as directories:
        await asyncio.gather(*(directories.get_closure(DIRECTORY_D.digest) for _ in range(20)))
    assert service.closures == [DIRECTORY_D.digest]


async def test_a_closure_that_takes_long_keeps_nobody_else() -> None:
    service = await service_with(DIRECTORY_A, DIRECTORY_B)
    service.on_item = hang = Hang()
    async with Directories(service) as directories:
        closure = asyncio.create_task(directories.get_closure(DIRECTORY_B.digest))
        await hang.called.wait()
        assert await directories.get(DIRECTORY_A.digest) == DIRECTORY_A
        closure.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closure
    assert hang.cancelled


async def test_it_is_known_which_closures_were_read() -> None:
    async with Directories(await service_with(DIRECTORY_A)) as directories:
        assert not directories.closure_was_read(DIRECTORY_A.digest)
        await directories.get_closure(DIRECTORY_A.digest)
        assert directories.closure_was_read(DIRECTORY_A.digest)


async def test_only_the_last_closures_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvix_store_fuse.directories._MAX_REMEMBERED_CLOSURES", 2)
    read = [DIRECTORY_A, DIRECTORY_B, DIRECTORY_D]
    async with Directories(await service_with(*read)) as directories:
        for directory in read:
            await directories.get_closure(directory.digest)
        assert [directories.closure_was_read(directory.digest) for directory in read] == [False, True, True]


async def test_what_is_brought_again_counts_once() -> None:
    async with Directories(await service_with(DIRECTORY_A, DIRECTORY_B)) as directories:
        await directories.get(DIRECTORY_B.digest)
        await directories.get_closure(DIRECTORY_B.digest)
        assert (len(directories), directories.n_entries) == (2, 3)


async def test_a_service_that_does_not_answer_is_unavailable() -> None:
    service = await service_with(DIRECTORY_B)
    service.on_get = Hang()
    async with Directories(service, timeout_s=0.01) as directories:
        with pytest.raises(Unavailable, match=f"directory {DIRECTORY_B.digest}: no answer within 0.01 s"):
            await directories.get(DIRECTORY_B.digest)


async def test_a_closure_that_stops_coming_is_unavailable() -> None:
    service = await service_with(DIRECTORY_A, DIRECTORY_B)
    service.on_item = Hang()
    async with Directories(service, timeout_s=0.01) as directories:
        with pytest.raises(Unavailable, match=f"directories below {DIRECTORY_B.digest}: no answer within 0.01 s"):
            await directories.get_closure(DIRECTORY_B.digest)
    assert service.n_closures_ended == 1


async def test_a_timeout_of_the_service_itself_is_not_taken_for_ours() -> None:
    service = await service_with(DIRECTORY_B)

    async def fail() -> None:
        raise TimeoutError("of its own")

    service.on_get = fail
    async with Directories(service) as directories:
        with pytest.raises(TimeoutError, match="of its own"):
            await directories.get(DIRECTORY_B.digest)


async def test_closing_ends_what_is_under_way() -> None:
    service = await service_with(DIRECTORY_A, DIRECTORY_B)
    service.on_get, service.on_item = Hang(), Hang()
    directories = Directories(service)
    calls = [
        asyncio.create_task(directories.get(DIRECTORY_B.digest)),
        asyncio.create_task(directories.get_closure(DIRECTORY_B.digest)),
    ]
    await service.on_get.called.wait()
    await service.on_item.called.wait()
    await directories.aclose()
    await directories.aclose()
    assert service.on_get.cancelled
    assert service.on_item.cancelled
    for call in calls:
        with pytest.raises(Unavailable):
            await call
