"""Going through a tree, in the order in which programs do."""

from __future__ import annotations

import pytest

from plugins.fuse.stores import Store, answer, opened
from tvix_store.digest import B3Digest
from tvix_store.errors import DanglingReference
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store_fuse.inodes import ROOT
from tvix_store_fuse.walk import Entries, Stretch, Walk
from vectors.nar import Dir, File, Link, Tree

pytestmark = pytest.mark.anyio

ALL = {"max_files": 1000, "max_bytes": 10**9, "max_file_bytes": 10**9}
TREE = Dir(
    {
        b"a": File(b"1"),
        b"b": Dir({b"c": File(b"2"), b"d": Dir({b"e": File(b"3")}), b"f": File(b"4")}),
        b"empty": Dir({}),
        b"g": File(b"5"),
        b"link": Link(b"to"),
        b"nothing": File(b""),
        b"z": Dir({b"y": File(b"6")}),
    }
)


def contents(stretch: Stretch) -> str:
    """The files, each of which has one character."""
    known = {B3Digest.of(b"%d" % i): str(i) for i in range(10)}
    return "".join(known[node.digest] for node in stretch.files)


async def walk(store: Store, *below: bytes, position: int = 0, list_on_the_way: bool = True) -> Walk:
    """From a place in the store path "tree"."""
    for depth in range(len(below) + 1):
        number = (await store.find("tree", *below[:depth])).inode
        if list_on_the_way:
            await answer(store.filesystem.listing(number))
    start = store.filesystem.inodes.get(number)
    assert start is not None
    return Walk(store.filesystem.inodes, store.filesystem.directories, Entries(), start, position)


async def stretch_of(
    tree: Tree, *below: bytes, position: int = 0, crosses: bool = True, listed: bool = True
) -> Stretch:
    async with opened() as store:
        await store.put("tree", tree)
        going = await walk(store, *below, position=position, list_on_the_way=listed)
        stretch = await going.take(**ALL, crosses=crosses)
        assert going.is_at_end
        return stretch


async def test_through_the_rest_of_a_directory() -> None:
    assert contents(await stretch_of(TREE, position=1, crosses=False)) == "5"
    assert contents(await stretch_of(TREE, b"b", crosses=False)) == "24"


async def test_into_directories_where_they_stand() -> None:
    assert contents(await stretch_of(TREE)) == "123456"


async def test_out_into_what_contains_it_all() -> None:
    assert contents(await stretch_of(TREE, b"b", b"d")) == "3456"
    assert contents(await stretch_of(TREE, b"b", b"d", position=1)) == "456"
    assert contents(await stretch_of(TREE, b"z")) == "6"


async def test_not_out_into_what_was_not_listed() -> None:
    assert contents(await stretch_of(TREE, b"b", b"d", listed=False)) == "3"


async def test_not_out_of_the_store_path() -> None:
    async with opened(list_root=True) as store:
        await store.put("tree", TREE)
        await store.put("another", TREE)
        await answer(store.filesystem.listing(ROOT, True))
        assert contents(await (await walk(store, b"z")).take(**ALL, crosses=True)) == "6"


async def test_which_directories_were_entered() -> None:
    async with opened() as store:
        await store.put("tree", TREE)
        stretch = await (await walk(store)).take(**ALL, crosses=True)
        places = [(b"b",), (b"b", b"d"), (b"empty",), (b"z",)]
        digests = []
        for place in places:
            inode = store.filesystem.inodes.get((await store.find("tree", *place)).inode)
            assert inode is not None
            assert isinstance(inode.node, DirectoryNode)
            digests.append(inode.node.digest.raw)
        assert stretch.directories == list(zip(digests, [1, 2, 4, 5], strict=True))
        assert stretch.n_bytes == 6


async def test_stretches_follow_each_other() -> None:
    async with opened() as store:
        await store.put("tree", TREE)
        going = await walk(store)
        found = [contents(await going.take(2, 100, 100, True)) for _ in range(4)]
        assert found == ["12", "34", "56", ""]
        assert going.is_at_end


@pytest.mark.parametrize("max_bytes", [6, 7])
async def test_bytes_are_bounded(max_bytes: int) -> None:
    async with opened() as store:
        await store.put("tree", Dir({b"%d" % i: File(b"x%d" % i) for i in range(7)}))
        going = await walk(store)
        stretches = [await going.take(100, max_bytes, 100, False) for _ in range(3)]
        assert [(len(stretch.files), stretch.n_bytes) for stretch in stretches] == [(3, 6), (3, 6), (1, 2)]


async def test_long_files_are_passed_over() -> None:
    async with opened() as store:
        await store.put("tree", Dir({b"a": File(b"1"), b"b": File(bytes(8)), b"c": File(b"2")}))
        assert contents(await (await walk(store)).take(100, 1000, 7, False)) == "12"


async def test_directories_of_one_stretch_are_bounded() -> None:
    async with opened() as store:
        await store.put("tree", Dir({b"%05d" % i: Dir({b"%d" % i: Link(b"t")}) for i in range(3000)}))
        going = await walk(store)
        assert [len((await going.take(**ALL, crosses=True)).directories) for _ in range(3)] == [1024, 1024, 952]


async def test_a_directory_that_is_absent() -> None:
    async with opened() as store:
        await store.put("tree", TREE)
        going = await walk(store)
        store.counted.encodings.clear()
        store.filesystem.directories._held.clear()
        with pytest.raises(DanglingReference):
            await going.take(**ALL, crosses=True)


def file(number: int) -> FileNode:
    return FileNode(B3Digest.of(b"%d" % number), 1)


def test_entries() -> None:
    nodes: dict[bytes, Node] = {b"a": SymlinkNode(b"t"), b"b": file(1), b"c": file(2), b"d": file(1)}
    directory = Directory(nodes)
    entries = Entries()
    assert entries.nodes(directory) == (SymlinkNode(b"t"), file(1), file(2), file(1))
    assert [entries.position(directory, file(number)) for number in (1, 2, 3)] == [1, 2, None]


def test_entries_of_a_few_directories_are_held() -> None:
    directories = [Directory({b"a": file(number)}) for number in range(17)]
    entries = Entries()
    first = entries.nodes(directories[0])
    for directory in directories[1:16]:
        entries.nodes(directory)
    assert entries.nodes(directories[0]) is first
    entries.nodes(directories[16])
    assert entries.nodes(directories[0]) is first
    assert len(entries._held) == 16
