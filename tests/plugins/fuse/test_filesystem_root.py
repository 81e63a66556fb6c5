"""The mount root: store paths by name, absence and failure, and its listing."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from inspect import iscoroutine

import pytest

from fakes.services import Hang
from plugins.fuse.stores import Store, answer, base_name, opened
from tvix_store.errors import Unavailable, Unsupported
from tvix_store.testing.fixtures import store_path
from tvix_store_fuse.filesystem import FOREVER, Absent, Entry
from tvix_store_fuse.inodes import ROOT
from tvix_store_fuse.store_paths import StorePaths
from vectors.nar import Dir, File, Link

pytestmark = pytest.mark.anyio

NAME = base_name("file")
NO_STORE_PATHS = {
    "probe": b".git",
    "text": b"autorun.inf",
    "digest-alone": NAME[:32],
    "no-name": NAME[:33],
    "other-separator": NAME.replace(b"-", b"_", 1),
    "foreign-digit": b"e" + NAME[1:],
    "foreign-character": NAME + b"~",
    "not-utf-8": NAME + b"\xff",
    "not-ascii": NAME + "é".encode(),
    "upper-case-digest": NAME[:32].upper() + NAME[32:],
    "long-name": NAME[:33] + b"x" * 212,
    "dots": NAME[:33] + b"..",
}


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """With one file as the store path "file"; the root can be listed."""
    async with opened(list_root=True, negative_s=2.0, path_s=30.0) as store:
        await store.put("file", File(b"data"))
        yield store


async def fail() -> None:
    raise Unavailable("the store is away")


async def found(store: Store, name: bytes) -> Entry:
    entry = await store.lookup(ROOT, name)
    assert isinstance(entry, Entry)
    return entry


# Lookups


@pytest.mark.parametrize("name", NO_STORE_PATHS.values(), ids=NO_STORE_PATHS)
async def test_a_name_that_no_store_path_can_have_is_absent_without_asking(store: Store, name: bytes) -> None:
    assert store.filesystem.lookup(ROOT, name) == Absent(FOREVER)
    assert store.path_infos.got == []


async def test_the_longest_name_is_asked_for(store: Store) -> None:
    assert await store.lookup(ROOT, NAME[:33] + b"x" * 211) == Absent(2.0)
    assert len(store.path_infos.got) == 1


async def test_a_store_path_is_believed_for_a_while(store: Store) -> None:
    entry = await found(store, NAME)
    assert entry.valid_s == 30.0
    assert (entry.attributes.mode, entry.attributes.size) == (0o100444, 4)


async def test_files_and_symlinks_can_be_store_paths(store: Store) -> None:
    await store.put("link", Link(b"target"))
    await store.put("exe", File(b"data", True))
    assert (await store.find("link")).mode == 0o120777
    assert (await store.find("exe")).mode == 0o100555
    assert store.filesystem.read_link((await store.find("link")).inode) == b"target"


async def test_absence_is_believed_for_a_short_time_and_not_remembered(store: Store) -> None:
    assert await store.lookup(ROOT, base_name("later")) == Absent(2.0)
    await store.put("later", File(b""))
    assert (await found(store, base_name("later"))).attributes.size == 0


async def test_a_digest_with_another_name_is_another_store_path(store: Store) -> None:
    await found(store, NAME)
    assert await store.lookup(ROOT, NAME[:33] + b"other") == Absent(2.0)
    assert (await found(store, NAME)).valid_s == 30.0


async def test_a_store_path_that_was_removed_is_absent(store: Store) -> None:
    await found(store, NAME)
    await store.services.path_infos.delete([store_path("file").digest])
    assert await store.lookup(ROOT, NAME) == Absent(2.0)
    store.path_infos.on_get = fail
    with pytest.raises(Unavailable, match="the store is away"):
        await store.lookup(ROOT, NAME)


async def test_a_store_path_that_was_replaced_is_shown_as_it_is_now(store: Store) -> None:
    await store.put("tree", Dir({b"a": File(b"1")}))
    old = await store.find("tree")
    await store.put("tree", Dir({b"b": File(b"2")}))
    new = await store.find("tree")
    assert new.inode != old.inode
    assert await store.names(new.inode) == [b"b"]
    assert await store.names(old.inode) == [b"a"]


async def test_lookups_of_one_name_share_a_call_and_each_counts(store: Store) -> None:
    entries = await asyncio.gather(*(found(store, NAME) for _ in range(10)))
    assert len(store.path_infos.got) == 1
    inode = entries[0].attributes.inode
    store.filesystem.forget(inode, 9)
    assert store.filesystem.attributes(inode).size == 4
    store.filesystem.forget(inode, 1)
    assert store.filesystem.counts().n_inodes == 0


async def test_lookups_of_an_absent_name_share_a_call(store: Store) -> None:
    absent = await asyncio.gather(*(store.lookup(ROOT, base_name("absent")) for _ in range(10)))
    assert absent == [Absent(2.0)] * 10
    assert len(store.path_infos.got) == 1


async def test_a_slow_lookup_keeps_no_other(store: Store) -> None:
    store.path_infos.on_get = hang = Hang()
    slow = asyncio.create_task(store.lookup(ROOT, base_name("slow")))
    await hang.called.wait()
    store.path_infos.on_get = None
    await found(store, NAME)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert hang.cancelled


async def test_a_store_that_fails_is_no_absence(store: Store) -> None:
    store.path_infos.on_get = fail
    with pytest.raises(Unavailable, match="the store is away"):
        await store.lookup(ROOT, NAME)
    store.path_infos.on_get = None
    assert (await found(store, NAME)).valid_s == 30.0


async def test_a_store_that_hangs_is_unavailable() -> None:
    async with opened(timeout_s=0.01) as store:
        store.path_infos.on_get = Hang()
        with pytest.raises(Unavailable, match=rf"path info {NAME.decode()}: no answer within 0\.01 s"):
            await store.lookup(ROOT, NAME)


async def test_a_call_that_takes_too_long_goes_on_and_is_not_in_the_way() -> None:
    async with opened(timeout_s=0.01) as store:
        store.path_infos.on_get = hang = Hang()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await store.lookup(ROOT, NAME)
        assert not hang.cancelled
        assert len(store.path_infos.got) == 2
        store.path_infos.on_get = None
        answer = None
        while answer is None:
            with suppress(Unavailable):  # this machine may take as long
                answer = await store.lookup(ROOT, NAME)
        assert answer == Absent(1.0)
        assert not hang.cancelled
    assert hang.cancelled


async def test_what_was_seen_is_shown_while_the_store_is_away(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    before = await found(store, NAME)
    store.filesystem.forget(before.attributes.inode, 1)
    store.path_infos.on_get = fail
    with caplog.at_level(logging.WARNING):
        during = await found(store, NAME)
    assert during.valid_s == 2.0
    assert (during.attributes.mode, during.attributes.size) == (before.attributes.mode, before.attributes.size)
    assert f"{NAME.decode()} is shown as it was seen before: the store is away" in caplog.text
    store.path_infos.on_get = None
    assert (await found(store, NAME)).valid_s == 30.0


async def test_what_was_listed_is_shown_while_the_store_is_away(store: Store) -> None:
    await store.names(ROOT)
    store.path_infos.on_get = fail
    assert (await found(store, NAME)).valid_s == 2.0


async def test_no_more_store_paths_are_remembered_than_there_may_be(store: Store) -> None:
    for name in ("b", "c"):
        await store.put(name, File(b""))
    async with StorePaths(store.services.path_infos, max_known=2) as paths:
        for name in ("file", "b", "file", "c"):
            await paths.find(store_path(name))
        known = [name for name in ("file", "b", "c") if paths.known(base_name(name)) is not None]
        assert known == ["file", "c"]


# Listings


async def test_a_root_that_is_not_to_be_listed_says_so() -> None:
    async with opened() as store:
        await store.put("file", File(b"data"))
        for anew in (True, False):
            with pytest.raises(PermissionError) as caught:
                store.filesystem.listing(ROOT, anew)
            assert caught.value.errno == errno.EPERM
        assert (await store.find("file")).size == 4
        assert store.path_infos.n_lists == 0


async def test_all_store_paths_are_listed(store: Store) -> None:
    for i in range(50):
        await store.put(f"p{i}", File(b"%d" % i))
    names = await store.names(ROOT)
    assert sorted(names) == sorted([NAME, *(base_name(f"p{i}") for i in range(50))])


async def test_an_empty_store_lists_nothing() -> None:
    async with opened(list_root=True) as store:
        assert await store.names(ROOT) == []


async def test_the_store_is_asked_again_when_a_listing_begins(store: Store) -> None:
    await store.names(ROOT)
    assert not iscoroutine(store.filesystem.listing(ROOT))
    assert store.path_infos.n_lists == 1
    await store.put("new", File(b""))
    assert await store.names(ROOT, anew=False) == [NAME]
    assert await store.names(ROOT, anew=True) == [NAME, base_name("new")]
    assert store.path_infos.n_lists == 2


async def test_positions_are_kept_while_store_paths_come_and_go(store: Store) -> None:
    await store.put("second", File(b"2"))
    names = await store.names(ROOT)
    await store.services.path_infos.delete([store_path("file").digest])
    await store.put("third", File(b"3"))
    later = [name if name != NAME else b"" for name in names] + [base_name("third")]
    assert await store.names(ROOT) == later
    listing = await answer(store.filesystem.listing(ROOT))
    with pytest.raises(LookupError):
        listing.node(later.index(b""))
    await store.put("file", File(b"data"))
    assert await store.names(ROOT) == [*names, base_name("third")]


async def test_a_store_path_found_to_be_gone_is_not_listed(store: Store) -> None:
    await store.names(ROOT)
    await store.services.path_infos.delete([store_path("file").digest])
    await store.lookup(ROOT, NAME)
    assert await store.names(ROOT, anew=False) == [b""]


async def test_a_store_path_found_to_be_replaced_is_listed_as_it_is_now(store: Store) -> None:
    listing = await answer(store.filesystem.listing(ROOT))
    path_info = await store.put("file", Link(b"now"))
    await store.find("file")
    assert listing.node(0) == path_info.node


async def test_listings_at_the_same_time_share_a_call(store: Store) -> None:
    listings = await asyncio.gather(*(store.names(ROOT) for _ in range(10)))
    assert listings == [[NAME]] * 10
    assert store.path_infos.n_lists == 1


async def test_a_listing_that_fails_leaves_the_one_before(store: Store) -> None:
    await store.put("second", File(b"2"))
    names = await store.names(ROOT)
    await store.put("third", File(b"3"))
    store.path_infos.on_list = fail
    with pytest.raises(Unavailable, match="the store is away"):
        await store.names(ROOT)
    assert await store.names(ROOT, anew=False) == names


async def test_a_first_listing_that_fails_is_no_empty_one(store: Store) -> None:
    store.path_infos.on_list = fail
    for _ in range(2):
        with pytest.raises(Unavailable, match="the store is away"):
            await store.names(ROOT, anew=False)


async def test_a_store_that_cannot_list_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> AsyncIterator[None]:
        raise Unsupported("cannot list")

    monkeypatch.setattr(store.path_infos, "list", refuse)
    with pytest.raises(Unsupported, match="cannot list"):
        await store.names(ROOT)


async def test_a_list_that_stops_coming_is_unavailable() -> None:
    async with opened(list_root=True, timeout_s=0.01) as store:
        await store.put("file", File(b""))
        store.path_infos.on_list = Hang()
        with pytest.raises(Unavailable, match=r"list of store paths: no answer within 0\.01 s"):
            await store.names(ROOT)


async def test_what_is_listed_is_entered_as_looked_up(store: Store) -> None:
    listing = await answer(store.filesystem.listing(ROOT))
    entry = store.filesystem.enter(ROOT, listing.name(0), listing.node(0))
    assert entry.valid_s == 30.0
    assert await store.lookup(ROOT, NAME) == entry
    assert store.filesystem.xattr(entry.attributes.inode, b"user.tvix.store.nar_size") == b"120"
    store.filesystem.forget(entry.attributes.inode, 2)
    assert store.filesystem.counts().n_inodes == 0


async def test_a_replaced_store_path_is_entered_with_what_was_listed_of_it(store: Store) -> None:
    await store.find("file")
    path_info = await store.put("file", File(b"more data"))
    listing = await answer(store.filesystem.listing(ROOT, anew=True))
    entry = store.filesystem.enter(ROOT, NAME, listing.node(0))
    size = store.filesystem.xattr(entry.attributes.inode, b"user.tvix.store.nar_size")
    assert size == b"%d" % path_info.nar_size


async def test_the_time_of_a_listable_root_steps_so_that_it_is_read_anew(store: Store) -> None:
    assert store.filesystem.attributes_valid_s(ROOT) == 2.0
    for now, mtime_s in ((1_000_000.5, 1_000_000), (1_000_001.9, 1_000_000), (1_000_002.0, 1_000_002)):
        store.now = now
        assert store.filesystem.attributes(ROOT).mtime_s == mtime_s


@pytest.mark.parametrize(("negative_s", "mtime_s"), [(0.0, 1_000_003), (0.5, 1_000_003), (1.5, 1_000_002)])
async def test_the_time_of_the_root_steps_by_whole_seconds(negative_s: float, mtime_s: int) -> None:
    async with opened(list_root=True, negative_s=negative_s) as store:
        store.now = 1_000_003.7
        assert store.filesystem.attributes(ROOT).mtime_s == mtime_s


async def test_closing_ends_lookups_and_listings(store: Store) -> None:
    store.path_infos.on_get, store.path_infos.on_list = Hang(), Hang()
    calls = [asyncio.create_task(store.lookup(ROOT, NAME)), asyncio.create_task(store.names(ROOT))]
    await store.path_infos.on_get.called.wait()
    await store.path_infos.on_list.called.wait()
    await store.filesystem.aclose()
    for call in calls:
        with pytest.raises(Unavailable):
            await call
    assert store.path_infos.on_get.cancelled
    assert store.path_infos.on_list.cancelled
