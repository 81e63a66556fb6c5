"""What is fetched ahead of whom, and how little is when nobody reads on."""

from __future__ import annotations

import asyncio
import logging
import random
import threading

import pytest

from fakes.services import Hang
from plugins.fuse.kernel import EntryOut
from plugins.fuse.reading import Machine, running
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import StoreError, Unavailable
from tvix_store.limits import KIB, MIB
from tvix_store.nodes import Directory, FileNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import store_path
from tvix_store_fuse import prefetch
from tvix_store_fuse.walk import Walk
from vectors.nar import Dir, File, Link, Tree

pytestmark = pytest.mark.anyio


def files(count: int, size: int = 8, kind: bytes = b"") -> Dir:
    """A directory of so many files, all of them different from each other and from those of another kind."""
    return Dir({b"%06d" % i: File((b"%d %s" % (i, kind)).ljust(size, b".")) for i in range(count)})


def nested(count: int, each: int) -> Dir:
    """A directory of directories."""
    return Dir({b"%06d" % i: files(each, kind=b"in %d" % i) for i in range(count)})


def batches(machine: Machine) -> list[int]:
    """How many files were fetched at a time."""
    return [len(batch) for batch in machine.blobs.got]


# Reading a directory in order


async def test_one_who_reads_on_seldom_comes_to_us() -> None:
    tree = files(3000)
    async with running(tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        # The first file, then a batch each time that the one in the middle of the last batch was read.
        assert batches(machine) == [1, 16, 64, 256, 1024, 1024, 615]
        assert machine.n_reads == 1 + 6
        assert machine.prefetch.n_pushed == 3000 - 7


async def test_nothing_is_fetched_twice() -> None:
    tree = nested(20, 30)
    async with running(tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        fetched = [digest for batch in machine.blobs.got for digest in batch]
        assert len(fetched) == len(set(fetched)) == 600


async def test_batches_are_no_longer_than_is_configured() -> None:
    tree = files(400, 10 * KIB)
    async with running(MIB, tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert batches(machine) == [1, 16, 64, 102, 102, 102, 13]


async def test_files_that_are_longer_than_a_batch_may_be_are_passed_over() -> None:
    tree = Dir({**files(10, 100).entries, b"000004": File(bytes(5000)), b"000005": File(bytes(4999))})
    async with running(1000, tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert machine.n_reads == 1 + 1 + 2


async def test_before_a_reader_lie_two_batches_at_most() -> None:
    tree = files(2000)
    async with running(tree=tree) as machine:
        entries = await machine.list(await machine.find("tree"))
        for n_read, entry in enumerate(entries.values(), 1):
            await machine.read(entry)
            assert machine.n_fetched - n_read <= sum(batches(machine)[-2:])


async def test_one_who_stops_has_nothing_more_fetched() -> None:
    async with running(tree=files(2000)) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        for entry in entries[:9]:
            await machine.read(entry)
        assert batches(machine) == [1, 16]
        await machine.read(entries[9])  # the one in the middle
        assert batches(machine) == [1, 16, 64]
        for entry in entries[10:17]:
            await machine.read(entry)
        assert batches(machine) == [1, 16, 64]


async def test_equal_files_are_fetched_and_pushed_once() -> None:
    tree = Dir({b"%d" % i: File(b"%d" % (i // 5)) for i in range(10, 60)})
    async with running(tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert sum(batches(machine)) == 10
        assert len(machine.pushed) == len(set(machine.pushed))


async def test_the_mode_of_what_is_pushed_is_its_own() -> None:
    tree = Dir({b"%d" % i: File(b"%d" % i, i % 2 == 0) for i in range(10, 20)})
    async with running(tree=tree) as machine:
        node = await machine.find("tree")
        await machine.read_through(node, tree)
        entries = await machine.list(node)
        assert {entry.nodeid for entry in entries.values()} == set(machine.pages)


async def test_what_is_empty_or_no_file_is_passed_over() -> None:
    other: dict[bytes, Tree] = {
        b"000003": Link(b"to"),
        b"000004": File(b""),
        b"000005": Dir({b"below": File(b"below")}),
    }
    tree = Dir({**files(10).entries, **other})
    async with running(tree=tree) as machine:
        entries = await machine.list(await machine.find("tree"))
        await machine.read(entries[b"000000"])
        assert batches(machine) == [1, 6]


async def test_large_files_are_left_to_others() -> None:
    limit = 256 * KIB
    tree = Dir({b"a": File(b"a"), b"b": File(bytes(limit + 1)), b"c": File(b"c"), b"d": File(b"d" * limit)})
    async with running(tree=tree) as machine:
        entries = await machine.list(await machine.find("tree"))
        await machine.read(entries[b"b"])
        assert batches(machine) == [1]
        await machine.read(entries[b"a"])
        assert batches(machine) == [1, 1, 1]  # "c", as both have no room in one batch


async def test_files_as_long_as_a_first_batch_are_followed() -> None:
    tree = files(20, 200 * KIB)
    async with running(tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert batches(machine) == [1, 1, 5, 13]


# Who is not followed


async def test_nothing_is_fetched_for_who_jumps_about_in_a_directory_that_was_not_listed() -> None:
    tree = files(20)
    async with running(tree=tree) as machine:
        node = await machine.find("tree")
        for name in [*tree.entries][::-1]:
            await machine.read(await machine.kernel.lookup(node, name))
        assert batches(machine) == [1] * 20
        assert not machine.pushed


async def test_one_who_knows_the_names_beforehand_is_followed_after_three_files() -> None:
    tree = files(40)
    async with running(tree=tree) as machine:
        node = await machine.find("tree")
        for name in tree.entries:
            await machine.read(await machine.kernel.lookup(node, name))
        assert batches(machine) == [1, 1, 1, 16, 21]


async def test_nothing_is_fetched_for_who_only_lists() -> None:
    tree = nested(5, 5)
    async with running(tree=tree) as machine:
        node = await machine.find("tree")
        for entry in (await machine.list(node)).values():
            await machine.list(entry.nodeid)
        await machine.settled()
        assert batches(machine) == []


async def test_nothing_is_fetched_if_it_is_turned_off() -> None:
    tree = files(20)
    async with running(0, tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert batches(machine) == [1] * 20
        assert not machine.pushed


# By chance, some orders have one read what shows that a batch was of use.
@pytest.mark.parametrize("seed", [0, 1, 2, 4])
async def test_one_who_jumps_about_costs_three_batches_for_nothing(seed: int) -> None:
    async with running(tree=files(2000)) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        for entry in random.Random(seed).sample(entries, 100):
            await machine.read(entry)
        assert sum(size > 1 for size in batches(machine)) == 3


async def test_one_who_reads_a_large_part_in_any_order_gets_what_is_around() -> None:
    async with running(tree=files(2000)) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        for number in random.Random(7).sample(range(2000), 2000):
            data = await machine.read(entries[number])
            assert data == b"%d " % number + b"." * (8 - len(b"%d " % number))
        assert machine.n_reads < 300
        assert sum(batches(machine)) < 2300


async def test_a_group_is_no_larger_than_a_piece_of_a_store() -> None:
    tree = files(700, 20 * KIB)
    async with running(tree=tree) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        for entry in random.Random(7).sample(entries, 600):
            await machine.read(entry)
        groups = [size for size in batches(machine)[60:] if size > 1]
        assert groups
        assert max(groups) <= 256 // 20


async def test_one_who_reads_backwards_costs_three_batches_for_nothing() -> None:
    async with running(tree=files(200)) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        for entry in entries[::-20]:
            await machine.read(entry)
        assert sum(size > 1 for size in batches(machine)) == 3


async def test_one_who_jumps_about_in_a_large_tree_costs_a_bounded_number_of_batches() -> None:
    tree = nested(300, 40)
    async with running(tree=tree) as machine:
        node = await machine.find("tree")
        below = [await machine.list(entry.nodeid) for entry in (await machine.list(node)).values()]
        for directory in random.Random(1).sample(below, 300):
            await machine.read(directory[b"000005"])
        assert sum(size > 1 for size in batches(machine)) <= 64


async def test_one_who_begins_to_read_on_after_jumping_about_is_followed() -> None:
    tree = files(500)
    async with running(tree=tree) as machine:
        entries = await machine.list(await machine.find("tree"))
        for i in range(8):
            await machine.read(entries[b"%06d" % (400 - 50 * i)])
        before = machine.n_reads
        for i in range(410, 500):
            await machine.read(entries[b"%06d" % i])
        assert machine.n_reads - before <= 3 + 3


async def test_a_batch_of_use_makes_up_for_those_in_vain() -> None:
    tree = files(900)
    async with running(tree=tree) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        for start in (100, 300, 500, 700):
            for entry in entries[start : start + 12]:  # as far as the middle of a batch
                await machine.read(entry)
        assert batches(machine).count(16) == 4


# From directory to directory


async def test_one_who_goes_through_a_tree_is_followed() -> None:
    tree = nested(200, 5)
    async with running(tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert machine.n_reads <= 12
        assert len(batches(machine)) <= 12


async def test_into_directories_of_directories_and_out_again() -> None:
    tree = Dir({b"%d" % i: Dir({**nested(4, 3).entries, b"z": File(b"%d" % i)}) for i in range(10, 30)})
    async with running(tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert machine.n_reads <= 12


async def test_nothing_is_fetched_beyond_the_store_path() -> None:
    one, two = nested(5, 5), files(50, kind=b"two")
    async with running(one=one, two=two) as machine:
        await machine.read_through(await machine.find("one"), one)
        assert sum(batches(machine)) == 25


async def test_what_waits_is_pushed_when_its_directory_was_listed() -> None:
    tree = nested(5, 4)
    async with running(tree=tree) as machine:
        below = list((await machine.list(await machine.find("tree"))).values())
        for entry in below[:2]:
            await machine.read(next(iter((await machine.list(entry.nodeid)).values())))
        n_reads = machine.n_reads
        entries = list((await machine.list(below[3].nodeid)).values())
        await machine.settled()
        assert [entry.nodeid in machine.pages for entry in entries] == [True] * 4
        assert machine.n_reads == n_reads


# The kernel


async def test_what_the_kernel_does_not_take_is_read_from_memory() -> None:
    tree = files(100)
    async with running(tree=tree) as machine:
        machine.takes = False
        await machine.read_through(await machine.find("tree"), tree)
        assert machine.n_reads == 100
        assert sum(batches(machine)) == 100
        assert machine.prefetch.n_pushed == 0


async def test_what_the_kernel_has_is_given_up_here() -> None:
    tree = files(100, 10 * KIB)
    async with running(tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert machine.contents.n_bytes <= machine.n_reads * 11 * KIB
        assert not machine.prefetch._waiting


async def test_what_the_kernel_has_dropped_is_fetched_again() -> None:
    tree = files(200)
    async with running(tree=tree) as machine:
        node = await machine.find("tree")
        await machine.read_through(node, tree)
        n_reads = machine.n_reads
        machine.pages.clear()
        await machine.read_through(node, tree)
        # Those that were held back are still here, and are not pushed.
        assert machine.n_reads - n_reads <= 2 * n_reads


async def test_what_was_evicted_before_it_was_pushed_is_fetched_by_who_reads_it() -> None:
    tree = files(40, 100 * KIB)
    async with running(cache_bytes=300 * KIB, tree=tree) as machine:
        machine.takes = False
        await machine.read_through(await machine.find("tree"), tree)
        assert machine.contents.n_bytes <= 300 * KIB


async def test_no_more_is_held_than_the_cache_may_hold() -> None:
    tree = nested(50, 10)
    async with running(cache_bytes=20 * KIB, tree=tree) as machine:
        await machine.read_through(await machine.find("tree"), tree)
        assert machine.contents.n_bytes <= 20 * KIB
        assert len(machine.prefetch._waiting) <= 4096


async def test_many_readers_in_one_tree() -> None:
    tree = nested(40, 20)
    async with running(tree=tree) as machine:
        node = await machine.find("tree")
        entries = list((await machine.list(node)).items())

        async def read(part: int) -> None:
            for name, entry in entries[part::4]:
                await machine.read_through(entry.nodeid, tree.entries[name])

        await asyncio.gather(*map(read, range(4)))
        assert sum(batches(machine)) <= 800 + 40


# Failures


async def test_a_store_that_fails_is_told_to_readers_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tree = files(40)
    async with running(tree=tree) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        n_gets = 0

        async def fail_but_once() -> None:
            nonlocal n_gets
            n_gets += 1
            if n_gets > 1:
                raise Unavailable("gone")

        machine.blobs.on_get = fail_but_once
        await machine.read(entries[0])
        assert n_gets >= 2
        assert not caplog.records
        machine.blobs.on_get = None
        for entry in entries:
            assert await machine.read(entry)


async def test_a_directory_that_cannot_be_had_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tree = nested(4, 2)
    async with running(tree=tree) as machine:
        below = list((await machine.list(await machine.find("tree"))).values())
        for entry in below[:2]:
            files_in_it = list((await machine.list(entry.nodeid)).values())
            if entry is below[1]:
                machine.filesystem.directories._held.clear()
                machine.store.counted.on_get = fail
                directory = await directory_of(machine, entry)
                machine.filesystem.directories._held.put(directory.digest.raw, directory)
            assert await machine.read(files_in_it[0])
        assert not caplog.records


async def fail() -> None:
    raise StoreError("gone")


async def directory_of(machine: Machine, entry: EntryOut) -> Directory:
    """The directory of an inode."""
    machine.store.counted.on_get = None
    inode = machine.filesystem.inodes.get(entry.nodeid)
    assert inode is not None
    directory = await machine.services.directories.get(inode.node.digest)  # type: ignore[union-attr]
    machine.store.counted.on_get = fail
    assert directory is not None
    return directory


@pytest.mark.parametrize("broken", ["fetch_small", "take"])
async def test_a_bug_does_not_spoil_reading(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tree = files(20)
    async with running(tree=tree) as machine:
        monkeypatch.setattr(machine.contents if broken == "fetch_small" else Walk, broken, None)
        await machine.read_through(await machine.find("tree"), tree)
        assert "fetching ahead failed" in caplog.text


# Closing


async def test_closing_gives_up_what_is_fetched() -> None:
    async with running(tree=files(40)) as machine:
        entries = list((await machine.list(await machine.find("tree"))).values())
        hang = Hang()

        async def hang_with_a_batch() -> None:
            if len(machine.blobs.got[-1]) > 1:
                await hang()

        machine.blobs.on_get = hang_with_a_batch
        await machine.kernel.read(entries[0].nodeid, 0, MIB)
        await hang.called.wait()
        await machine.prefetch.aclose()
        assert not machine.prefetch._tasks
        assert not machine.pushed


async def test_closing_waits_for_what_is_pushed() -> None:
    async with running(tree=files(1000)) as machine:
        pushing, may_push = threading.Event(), threading.Event()

        def push(number: int, data: bytes) -> bool:
            pushing.set()
            may_push.wait()
            return machine.push(number, data)

        machine.prefetch.push_with(push)
        entries = list((await machine.list(await machine.find("tree"))).values())
        await machine.kernel.read(entries[0].nodeid, 0, MIB)
        await asyncio.to_thread(pushing.wait)
        closing = asyncio.create_task(machine.prefetch.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        may_push.set()
        await closing
        assert len(machine.pushed) == 15


async def test_after_closing_nothing_is_fetched() -> None:
    tree = files(20)
    async with running(tree=tree) as machine:
        await machine.prefetch.aclose()
        await machine.read_through(await machine.find("tree"), tree)
        assert batches(machine) == [1] * 20


async def test_closing_twice() -> None:
    async with running(tree=files(20)) as machine:
        await machine.prefetch.aclose()
        await machine.prefetch.aclose()


# Listing what waits to be pushed


async def with_files_waiting(machine: Machine, pushing: threading.Event, may_push: threading.Event) -> int:
    """A directory whose files were fetched before it is listed; the kernel takes none before it may."""
    below = list((await machine.list(await machine.find("tree"))).values())
    for entry in below[:2]:
        await machine.read(next(iter((await machine.list(entry.nodeid)).values())))
    assert machine.prefetch._waiting

    def push(number: int, data: bytes) -> bool:
        pushing.set()
        may_push.wait()
        return machine.push(number, data)

    machine.prefetch.push_with(push)
    return below[3].nodeid


async def test_the_end_of_a_listing_waits_for_what_is_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_MAX_WAIT_S", 3600)
    async with running(tree=nested(5, 4)) as machine:
        pushing, may_push = threading.Event(), threading.Event()
        node = await with_files_waiting(machine, pushing, may_push)
        listing = asyncio.create_task(machine.kernel.entries(node))
        await asyncio.to_thread(pushing.wait)
        assert not listing.done()
        may_push.set()
        entries = [found.entry for found in (await listing)[2:]]
        assert all(entry is not None and entry.nodeid in machine.pages for entry in entries)


async def test_the_end_of_a_listing_does_not_wait_for_long() -> None:
    async with running(tree=nested(5, 4)) as machine:
        may_push = threading.Event()
        node = await with_files_waiting(machine, threading.Event(), may_push)
        assert len(await machine.kernel.entries(node)) == 2 + 4
        assert machine.prefetch._pushing is not None
        may_push.set()


async def test_a_file_that_is_not_as_long_as_its_directory_says_is_not_pushed() -> None:
    data = [b"%d" % number for number in range(4)]
    nodes = [FileNode(B3Digest.of(one), len(one)) for one in data]
    nodes[3] = FileNode(nodes[3].digest, 5)
    directory = Directory({b"%d" % number: node for number, node in enumerate(nodes)})
    async with running() as machine:
        await machine.services.blobs.put_many([HashedBlob(one) for one in data])
        await machine.services.directories.put(directory)
        path_info = PathInfo(store_path=store_path("tree"), node=directory.node(), nar_size=1, nar_sha256=bytes(32))
        await machine.services.path_infos.put(path_info)
        entries = await machine.list(await machine.find("tree"))
        for number in range(3):
            assert await machine.read(entries[b"%d" % number]) == data[number]
        assert entries[b"3"].nodeid not in machine.pages
        assert machine.prefetch.n_pushed
