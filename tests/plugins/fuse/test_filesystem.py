"""The store as a filesystem, below the mount root."""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import AsyncIterator
from inspect import iscoroutine

import pytest

from fakes.services import Hang
from plugins.fuse.stores import Store, base_name, opened
from tvix_store.errors import DanglingReference, Unavailable
from tvix_store.nodes import Directory, DirectoryNode, FileNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import DIRECTORY_A, HELLOWORLD_BLOB, contents, store_path
from tvix_store_fuse.filesystem import FOREVER, Absent, Attributes, Entry
from tvix_store_fuse.inodes import ROOT
from vectors.nar import TREES, Dir, File, Link, Tree

pytestmark = pytest.mark.anyio

TREE = Dir(
    {
        b"bin": Dir({b"tool": File(b"#!/bin/sh\n", True)}),
        b"empty": Dir({}),
        b"file": File(b"Hello World!"),
        b"link": Link(b"../elsewhere"),
        b"n\xffme": File(b"not UTF-8"),
    }
)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """With TREE as the store path "tree"."""
    async with opened() as store:
        await store.put("tree", TREE)
        yield store


async def put_node(store: Store, name: str, node: DirectoryNode) -> None:
    """A store path of which the store has nothing but the path info."""
    await store.services.path_infos.put(
        PathInfo(store_path=store_path(name), node=node, nar_size=1, nar_sha256=bytes(32))
    )


# Attributes


async def test_the_mount_root_is_a_directory_that_nobody_can_write(store: Store) -> None:
    assert store.filesystem.attributes(ROOT) == Attributes(ROOT, 0o40555, 0, n_links=1, mtime_s=1)
    assert store.filesystem.attributes_valid_s(ROOT) == FOREVER


@pytest.mark.parametrize(
    ("path", "mode", "size"),
    [
        ([], 0o40555, 12),
        ([b"bin"], 0o40555, 2),
        ([b"empty"], 0o40555, 0),
        ([b"bin", b"tool"], 0o100555, 10),
        ([b"file"], 0o100444, 12),
        ([b"link"], 0o120777, 12),
        ([b"n\xffme"], 0o100444, 9),
    ],
    ids=repr,
)
async def test_attributes_are_those_of_a_nix_store(store: Store, path: list[bytes], mode: int, size: int) -> None:
    found = await store.find("tree", *path)
    assert found == Attributes(found.inode, mode, size, n_links=1, mtime_s=1)
    assert store.filesystem.attributes(found.inode) == found
    assert store.filesystem.attributes_valid_s(found.inode) == FOREVER


async def test_the_size_of_a_directory_stays_when_it_is_entered(store: Store) -> None:
    before = await store.find("tree", b"bin")
    await store.find("tree", b"bin", b"tool")
    await store.names(before.inode)
    assert store.filesystem.attributes(before.inode) == before


async def test_a_size_that_linux_refuses_is_cut_off(store: Store) -> None:
    await put_node(store, "huge", DirectoryNode(DIRECTORY_A.digest, 2**64 - 1))
    assert (await store.find("huge")).size == 2**63 - 1


async def test_an_inode_that_is_not_known_is_stale(store: Store) -> None:
    filesystem = store.filesystem
    found = await store.find("tree", b"file")
    filesystem.forget(found.inode, 1)
    for call in (
        lambda: filesystem.attributes(found.inode),
        lambda: filesystem.lookup(found.inode, b"a"),
        lambda: filesystem.read_link(found.inode),
        lambda: filesystem.read(found.inode, 0, 1),
        lambda: filesystem.listing(found.inode),
        lambda: filesystem.xattr_names(found.inode),
        lambda: filesystem.xattr(found.inode, b"user.a"),
        lambda: filesystem.xattr(found.inode, b"security.a"),
    ):
        with pytest.raises(OSError, match=f"inode {found.inode} is not known") as caught:
            call()
        assert caught.value.errno == errno.ESTALE


# Lookups


async def test_names_below_the_root_are_believed_for_ever(store: Store) -> None:
    top = await store.find("tree")
    found = await store.lookup(top.inode, b"file")
    assert isinstance(found, Entry)
    assert found.valid_s == FOREVER
    assert await store.lookup(top.inode, b"File") == Absent(FOREVER)


async def test_a_directory_at_hand_answers_at_once(store: Store) -> None:
    top = await store.find("tree")
    first = store.filesystem.lookup(top.inode, b"file")
    assert iscoroutine(first)
    await first
    assert isinstance(store.filesystem.lookup(top.inode, b"link"), Entry)
    assert store.filesystem.lookup(top.inode, b"absent") == Absent(FOREVER)
    assert len(store.counted.got) == 1


async def test_only_the_directories_on_the_way_are_read(store: Store) -> None:
    await store.find("tree", b"bin", b"tool")
    assert len(store.counted.got) == 2
    assert store.counted.closures == []


async def test_lookups_in_one_directory_share_a_call(store: Store) -> None:
    top = await store.find("tree")
    found = await asyncio.gather(*(store.lookup(top.inode, b"file") for _ in range(30)))
    assert len(set(found)) == 1
    assert len(store.counted.got) == 1


@pytest.mark.parametrize("name", [b"file", b"link"])
async def test_nothing_is_below_what_is_no_directory(store: Store, name: bytes) -> None:
    found = await store.find("tree", name)
    for call in (lambda: store.filesystem.lookup(found.inode, b"a"), lambda: store.filesystem.listing(found.inode)):
        with pytest.raises(NotADirectoryError):
            call()


async def test_equal_files_and_symlinks_have_one_inode_and_modes_are_kept_apart() -> None:
    same: dict[bytes, Tree] = {b"file": File(b"same"), b"exe": File(b"same", True), b"link": Link(b"same")}
    async with opened() as store:
        await store.put("a", Dir({**same, b"again": File(b"same")}))
        await store.put("b", Dir(same))
        first = {name: (await store.find("a", name)).inode for name in (*same, b"again")}
        second = {name: (await store.find("b", name)).inode for name in same}
        assert {name: first[name] for name in same} == second
        assert first[b"again"] == first[b"file"]
        assert len(set(second.values())) == 3
        assert (await store.find("a", b"exe")).mode == 0o100555
        assert (await store.find("b", b"file")).mode == 0o100444


async def test_equal_directories_have_inodes_of_their_own() -> None:
    async with opened() as store:
        for name in ("a", "b"):
            await store.put(name, Dir({b"x": Dir({b"f": File(b"1")}), b"y": Dir({b"f": File(b"1")})}))
        paths = [(name, sub) for name in ("a", "b") for sub in (b"x", b"y")]
        assert len({(await store.find(name, sub)).inode for name, sub in paths}) == 4
        assert len({(await store.find(name, sub, b"f")).inode for name, sub in paths}) == 1
        assert (await store.find("a", b"x")).inode == (await store.find("a", b"x")).inode


async def test_dot_is_the_inode_itself_whatever_it_is(store: Store) -> None:
    for path in ([], [b"bin"], [b"file"], [b"link"]):
        found = await store.find("tree", *path)
        assert await store.lookup(found.inode, b".") == Entry(found, FOREVER if path else 60)
        store.filesystem.forget(found.inode, 1)
        assert store.filesystem.attributes(found.inode) == found
    assert await store.lookup(ROOT, b".") == Entry(store.filesystem.attributes(ROOT), FOREVER)


async def test_dot_dot_is_the_directory_that_it_is_in(store: Store) -> None:
    top, below = await store.find("tree"), await store.find("tree", b"bin")
    assert await store.lookup(below.inode, b"..") == Entry(top, 60)
    assert await store.lookup(top.inode, b"..") == Entry(store.filesystem.attributes(ROOT), FOREVER)
    assert await store.lookup(ROOT, b"..") == Entry(store.filesystem.attributes(ROOT), FOREVER)


async def test_dot_dot_counts_as_a_lookup(store: Store) -> None:
    top, below = await store.find("tree"), await store.find("tree", b"bin")
    await store.lookup(below.inode, b"..")
    store.filesystem.forget(top.inode, 2)
    assert store.filesystem.attributes(top.inode) == top
    store.filesystem.forget(top.inode, 1)
    with pytest.raises(OSError, match="not known") as caught:
        store.filesystem.lookup(below.inode, b"..")
    assert caught.value.errno == errno.ESTALE


async def test_after_all_is_forgotten_nothing_is_held(store: Store) -> None:
    inodes = [await store.find("tree", *path) for path in ([], [b"bin"], [b"bin", b"tool"], [b"file"], [b"link"])]
    assert store.filesystem.counts().n_inodes == 5
    for attributes in inodes:
        store.filesystem.forget(attributes.inode, 5)
    assert store.filesystem.counts().n_inodes == 0
    assert store.filesystem.counts().n_directories == 2


async def test_a_directory_that_is_missing_has_attributes_and_nothing_in_it(store: Store) -> None:
    missing = Directory({b"f": FileNode(HELLOWORLD_BLOB.digest, 12)})
    await put_node(store, "broken", missing.node())
    found = await store.find("broken")
    assert found.size == missing.size
    with pytest.raises(DanglingReference, match=str(missing.digest)):
        await store.lookup(found.inode, b"f")
    with pytest.raises(DanglingReference, match=str(missing.digest)):
        await store.names(found.inode)
    await store.services.directories.put(missing)
    assert await store.names(found.inode) == [b"f"]


async def test_a_store_that_does_not_answer_is_no_absence() -> None:
    async with opened(timeout_s=0.01) as store:
        await store.put("tree", TREE)
        top = await store.find("tree")
        store.counted.on_get = Hang()
        with pytest.raises(Unavailable, match=r"no answer within 0\.01 s"):
            await store.lookup(top.inode, b"file")


async def test_closing_ends_what_is_under_way(store: Store) -> None:
    top = await store.find("tree")
    store.counted.on_get = hang = Hang()
    call = asyncio.create_task(store.lookup(top.inode, b"file"))
    await hang.called.wait()
    await store.filesystem.aclose()
    with pytest.raises(Unavailable):
        await call
    assert hang.cancelled


# Files and symlinks


async def test_symlinks_are_read(store: Store) -> None:
    assert store.filesystem.read_link((await store.find("tree", b"link")).inode) == b"../elsewhere"


@pytest.mark.parametrize("path", [[], [b"file"]], ids=["directory", "file"])
async def test_what_is_no_symlink_has_no_target(store: Store, path: list[bytes]) -> None:
    found = await store.find("tree", *path)
    for inode in (found.inode, ROOT):
        with pytest.raises(OSError, match="is not a symlink") as caught:
            store.filesystem.read_link(inode)
        assert caught.value.errno == errno.EINVAL


async def test_files_are_read_up_to_their_end() -> None:
    async with opened() as store:
        data = contents(1000)
        await store.put("file", File(data))
        inode = (await store.find("file")).inode
        assert await store.content(inode, 0, 4096) == data
        assert await store.content(inode, 10, 20) == data[10:30]
        assert await store.content(inode, 999, 2) == data[999:]
        assert store.reads == [(0, 1000), (10, 20), (999, 1)]


@pytest.mark.parametrize(("offset", "size"), [(1000, 1), (5000, 10), (2**62, 4096), (0, 0)])
async def test_where_nothing_is_to_be_read_nobody_is_asked(offset: int, size: int) -> None:
    async with opened() as store:
        await store.put("file", File(contents(1000)))
        inode = (await store.find("file")).inode
        assert store.filesystem.read(inode, offset, size) == ()
        assert store.reads == []


async def test_an_empty_file_has_nothing_to_read() -> None:
    async with opened() as store:
        await store.put("empty", File(b""))
        assert await store.content((await store.find("empty")).inode, 0, 4096) == b""


async def test_only_files_are_read(store: Store) -> None:
    for inode in (ROOT, (await store.find("tree", b"bin")).inode):
        with pytest.raises(IsADirectoryError):
            store.filesystem.read(inode, 0, 1)
    with pytest.raises(OSError, match="is a symlink") as caught:
        store.filesystem.read((await store.find("tree", b"link")).inode, 0, 1)
    assert caught.value.errno == errno.EINVAL


# Listings


async def test_a_directory_is_listed_in_its_order() -> None:
    tree = TREES["sorting"]
    assert isinstance(tree, Dir)
    async with opened() as store:
        path_info = await store.put("sorting", tree)
        inode = (await store.find("sorting")).inode
        assert await store.names(inode) == sorted(tree.entries)
        listing = store.filesystem.listing(inode)
        assert not iscoroutine(listing)
        assert isinstance(path_info.node, DirectoryNode)
        directory = await store.services.directories.get(path_info.node.digest)
        assert directory is not None
        nodes = [listing.node(position) for position in range(len(listing))]  # type: ignore[union-attr,arg-type]
        assert nodes == list(directory.entries.values())


async def test_an_empty_directory_lists_nothing(store: Store) -> None:
    assert await store.names((await store.find("tree", b"empty")).inode) == []


async def test_a_listing_is_made_once_however_often_it_is_asked_for(store: Store) -> None:
    inode = (await store.find("tree")).inode
    await store.names(inode)
    assert store.filesystem.listing(inode) is store.filesystem.listing(inode, anew=True)


async def test_the_listings_used_last_are_held() -> None:
    async with opened() as store:
        inodes = []
        for i in range(6):
            await store.put(f"tree{i}", Dir({b"%d" % i: File(b"")}))
            inodes.append((await store.find(f"tree{i}")).inode)
            await store.names(inodes[-1])
        used = store.filesystem.listing(inodes[-1])
        for inode in inodes[:4]:
            store.filesystem.listing(inode)
            assert store.filesystem.listing(inodes[-1]) is used
        oldest = store.filesystem.listing(inodes[0])
        for inode in inodes[1:5]:
            store.filesystem.listing(inode)
        assert store.filesystem.listing(inodes[0]) is not oldest


async def test_what_is_listed_is_entered_and_counts_as_looked_up(store: Store) -> None:
    top = await store.find("tree")
    listing = store.filesystem.listing(top.inode)
    assert iscoroutine(listing)
    listed = await listing
    entries = {}
    for position in range(len(listed)):
        name = listed.name(position)
        entries[name] = store.filesystem.enter(top.inode, name, listed.node(position))
    assert {stat.S_IFMT(entry.attributes.mode) for entry in entries.values()} == {
        stat.S_IFDIR,
        stat.S_IFREG,
        stat.S_IFLNK,
    }
    for name, entry in entries.items():
        assert entry.valid_s == FOREVER
        assert await store.lookup(top.inode, name) == entry
        store.filesystem.forget(entry.attributes.inode, 1)
        assert store.filesystem.attributes(entry.attributes.inode) == entry.attributes


DEEP = Dir({b"%d" % i: Dir({b"below": Dir({b"%d" % i: File(b"%d" % i)})}) for i in range(20)})


async def test_somebody_who_lists_one_directory_makes_nothing_else_be_read() -> None:
    async with opened() as store:
        await store.put("deep", DEEP)
        await store.names((await store.find("deep", b"3")).inode)
        assert store.counted.closures == []
        assert len(store.counted.got) == 2


async def test_somebody_who_walks_has_the_directories_read_together() -> None:
    async with opened() as store:
        await store.put("deep", DEEP)
        await store.names((await store.find("deep")).inode)
        for i in range(20):
            assert await store.names((await store.find("deep", b"%d" % i)).inode) == [b"below"]
            assert await store.names((await store.find("deep", b"%d" % i, b"below")).inode) == [b"%d" % i]
        assert len(store.counted.closures) == 1
        assert len(store.counted.got) == 1


async def test_walkers_at_the_same_time_share_what_is_read() -> None:
    async with opened() as store:
        await store.put("deep", DEEP)
        await store.names((await store.find("deep")).inode)
        inodes = [(await store.find("deep", b"%d" % i)).inode for i in range(20)]
        await asyncio.gather(*(store.names(inode) for inode in inodes))
        assert len(store.counted.closures) == 1


async def test_a_walker_who_comes_later_shares_what_is_being_read() -> None:
    async with opened() as store:
        await store.put("deep", DEEP)
        await store.names((await store.find("deep")).inode)
        first, second = [(await store.find("deep", b"%d" % i)).inode for i in range(2)]
        begun, may_go_on = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            await may_go_on.wait()

        store.counted.on_item = wait
        calls = [asyncio.create_task(store.names(first))]
        await begun.wait()
        calls.append(asyncio.create_task(store.names(second)))
        await asyncio.sleep(0)
        may_go_on.set()
        assert await asyncio.gather(*calls) == [[b"below"], [b"below"]]
        assert len(store.counted.closures) == 1


async def test_what_a_closure_did_not_bring_is_not_looked_for_in_it_again() -> None:
    async with opened(max_entries=20) as store:
        path_info = await store.put("deep", DEEP)
        assert isinstance(path_info.node, DirectoryNode)
        await store.names((await store.find("deep")).inode)
        for i in range(20):
            inode = (await store.find("deep", b"%d" % i)).inode
            assert await store.names(inode) == [b"below"]
        assert store.counted.closures.count(path_info.node.digest) == 1
        assert len(store.counted.closures) <= 20


async def test_a_directory_missing_elsewhere_spoils_no_listing() -> None:
    async with opened() as store:
        found = await store.put("deep", DEEP)
        assert isinstance(found.node, DirectoryNode)
        top = await store.services.directories.get(found.node.digest)
        assert top is not None
        other = Directory({**top.entries, b"missing": DirectoryNode(HELLOWORLD_BLOB.digest, 2)})
        await store.services.directories.put(other)
        await put_node(store, "other", other.node())
        await store.names((await store.find("other")).inode)
        assert await store.names((await store.find("other", b"3")).inode) == [b"below"]
        with pytest.raises(DanglingReference):
            await store.names((await store.find("other", b"missing")).inode)


async def test_a_name_of_the_mount_root_is_that_of_the_store_path(store: Store) -> None:
    found = await store.lookup(ROOT, base_name("tree"))
    assert isinstance(found, Entry)
    assert found.attributes == await store.find("tree")
