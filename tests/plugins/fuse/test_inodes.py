"""What the kernel knows by number."""

from __future__ import annotations

import tracemalloc

import pytest

from tvix_store.digest import B3Digest
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.testing.fixtures import DIRECTORY_A, DIRECTORY_B, PATH_INFO_FULL
from tvix_store_fuse.inodes import ROOT, InodeTable

FILE = FileNode(B3Digest.of(b"abc"), 3)
LINK = SymlinkNode(b"target")
DIRECTORY = DIRECTORY_A.node()


@pytest.fixture
def table() -> InodeTable:
    return InodeTable()


def n_records(table: InodeTable) -> int:
    """All that the table holds in any of its maps, beside the mount root."""
    return sum(len(held) for held in vars(table).values() if isinstance(held, dict)) - 1


def test_the_mount_root_is_in_itself(table: InodeTable) -> None:
    root = table.get(ROOT)
    assert root is not None
    assert (root.number, root.node, root.place) == (1, None, 1)
    assert len(table) == 0


def test_numbers_are_given_out_from_2_upwards(table: InodeTable) -> None:
    assert [table.enter(ROOT, b"%d" % i, SymlinkNode(b"%d" % i)).number for i in range(3)] == [2, 3, 4]


@pytest.mark.parametrize("node", [FILE, LINK, DIRECTORY], ids=["file", "symlink", "directory"])
def test_no_number_is_given_out_twice(table: InodeTable, node: Node) -> None:
    first = table.enter(ROOT, b"a", node).number
    table.forget(first, 1)
    assert table.get(first) is None
    assert table.enter(ROOT, b"a", node).number == first + 1


def test_equal_files_share_an_inode_which_was_seen_last_where_it_was_entered_last(table: InodeTable) -> None:
    first = table.enter(ROOT, b"a", FILE, PATH_INFO_FULL)
    assert (first.place, first.path_info) == (ROOT, PATH_INFO_FULL)
    second = table.enter(7, b"b", FileNode(B3Digest.of(b"abc"), 3))
    assert second is first
    assert (first.place, first.path_info) == (7, None)


@pytest.mark.parametrize("other", [FileNode(FILE.digest, 3, True), FileNode(FILE.digest, 4)], ids=["mode", "size"])
def test_files_whose_attributes_differ_share_nothing(table: InodeTable, other: FileNode) -> None:
    assert table.enter(ROOT, b"a", FILE) is not table.enter(ROOT, b"b", other)
    assert table.enter(ROOT, b"c", FILE).node == FILE
    assert table.enter(ROOT, b"d", other).node == other
    assert len(table) == 2


def test_symlinks_with_one_target_share_an_inode(table: InodeTable) -> None:
    assert table.enter(ROOT, b"a", LINK) is table.enter(5, b"b", SymlinkNode(b"target"))
    assert table.enter(ROOT, b"c", SymlinkNode(b"other")) is not table.enter(ROOT, b"a", LINK)


def test_equal_directories_are_inodes_of_their_own_wherever_they_are(table: InodeTable) -> None:
    numbers = {table.enter(parent, name, DIRECTORY).number for parent in (ROOT, 5) for name in (b"a", b"b")}
    assert len(numbers) == 4


def test_a_directory_entered_again_is_the_same_inode(table: InodeTable) -> None:
    first = table.enter(ROOT, b"a", DIRECTORY)
    assert table.enter(ROOT, b"a", DirectoryNode(DIRECTORY.digest, DIRECTORY.size)) is first
    assert first.n_lookups == 2


def test_a_directory_in_the_place_of_another_is_another_inode(table: InodeTable) -> None:
    old = table.enter(ROOT, b"a", DIRECTORY)
    new = table.enter(ROOT, b"a", DIRECTORY_B.node())
    assert new is not old
    assert (old.node, new.node) == (DIRECTORY, DIRECTORY_B.node())
    table.forget(old.number, 1)
    assert table.enter(ROOT, b"a", DIRECTORY_B.node()) is new
    table.forget(new.number, 2)
    assert n_records(table) == 0


def test_a_directory_may_be_forgotten_after_the_one_that_took_its_place(table: InodeTable) -> None:
    old = table.enter(ROOT, b"a", DIRECTORY)
    new = table.enter(ROOT, b"a", DIRECTORY_B.node())
    table.forget(new.number, 1)
    assert table.get(old.number) is old
    table.forget(old.number, 1)
    assert n_records(table) == 0


@pytest.mark.parametrize("node", [FILE, LINK, DIRECTORY], ids=["file", "symlink", "directory"])
def test_an_inode_stays_until_all_lookups_are_forgotten(table: InodeTable, node: Node) -> None:
    inode = table.enter(ROOT, b"a", node)
    for _ in range(4):
        table.enter(ROOT, b"a", node)
    table.forget(inode.number, 2)
    table.forget(inode.number, 2)
    assert table.get(inode.number) is inode
    assert table.enter(ROOT, b"a", node) is inode
    table.forget(inode.number, 2)
    assert table.get(inode.number) is None
    assert n_records(table) == 0


def test_more_lookups_may_be_forgotten_than_there_were(table: InodeTable) -> None:
    table.forget(table.enter(ROOT, b"a", FILE).number, 100)
    assert n_records(table) == 0


def test_what_is_not_known_is_forgotten_already(table: InodeTable) -> None:
    table.forget(99, 1)
    table.forget(table.enter(ROOT, b"a", FILE).number, 1)
    table.forget(2, 1)
    assert len(table) == 0


def test_the_mount_root_is_never_forgotten(table: InodeTable) -> None:
    table.forget(ROOT, 2**40)
    assert table.get(ROOT) is not None


def test_a_directory_outlives_the_one_it_is_in(table: InodeTable) -> None:
    parent = table.enter(ROOT, b"a", DIRECTORY_B.node())
    child = table.enter(parent.number, b"a", DIRECTORY)
    table.forget(parent.number, 1)
    assert table.get(child.number) is child
    assert child.place == parent.number
    again = table.enter(ROOT, b"a", DIRECTORY_B.node())
    assert table.enter(again.number, b"a", DIRECTORY) is not child
    for number in (again.number, child.number, again.number + 1):
        table.forget(number, 1)
    assert n_records(table) == 0


def test_files_are_found_by_their_contents(table: InodeTable) -> None:
    plain = table.enter(ROOT, b"a", FILE)
    executable = table.enter(ROOT, b"b", FileNode(FILE.digest, 3, True))
    assert list(table.find_file(FILE.digest)) == [plain, executable]
    assert not table.find_file(B3Digest.of(b"other"))


def test_forgotten_files_are_not_found(table: InodeTable) -> None:
    plain = table.enter(ROOT, b"a", FILE)
    executable = table.enter(ROOT, b"b", FileNode(FILE.digest, 3, True))
    table.forget(plain.number, 1)
    assert list(table.find_file(FILE.digest)) == [executable]
    table.forget(executable.number, 1)
    assert not table.find_file(FILE.digest)


def test_an_inode_takes_little_memory(table: InodeTable) -> None:
    nodes = [FileNode(B3Digest.of(b"%d" % i), 1) for i in range(4_000)]
    tracemalloc.start()
    try:
        for node in nodes:
            table.enter(ROOT, b"name", node)
        n_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_bytes / len(nodes) < 400
