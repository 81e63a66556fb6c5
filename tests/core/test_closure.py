from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.closure import LeavesToRoot, RootToLeaves
from tvix_store.errors import InvalidObject
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.testing.fixtures import (
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_C,
    DIRECTORY_COMPLICATED,
    DIRECTORY_D,
    DIRECTORY_D_DOCUMENTED,
    DIRECTORY_WITH_KEEP,
    DIRECTORY_WRONG_SIZE,
    EMPTY_BLOB,
)

A, B, C, D = DIRECTORY_A, DIRECTORY_B, DIRECTORY_C, DIRECTORY_D


class TestLeavesToRoot:
    """Uploads; the acceptance matrix of castore.md section 7.3."""

    @pytest.mark.parametrize(
        ("closure", "new"),
        [
            pytest.param([A], [True], id="A"),
            pytest.param([A, B], [True, True], id="A,B"),
            pytest.param([A, A, C], [True, False, True], id="A,A,C"),
            pytest.param([A, C], [True, True], id="A,C"),
            pytest.param([A, B, D], [True, True, True], id="A,B,D"),
            pytest.param([A, B, DIRECTORY_D_DOCUMENTED], [True, True, True], id="documented sizes"),
            pytest.param([A, B, D, B], [True, True, True, False], id="child again"),
        ],
    )
    def test_accepted(self, closure: list[Directory], new: list[bool]) -> None:
        validator = LeavesToRoot()
        assert [validator.add(directory) for directory in closure] == new
        assert validator.finish() in {directory.digest for directory in closure[-2:]}

    def test_root_is_the_one_without_a_parent(self) -> None:
        validator = LeavesToRoot()
        for directory in (A, B, D, B, A):
            validator.add(directory)
        assert validator.finish() == D.digest

    @pytest.mark.parametrize(
        "closure",
        [
            pytest.param([A, C, B], id="A,C,B"),
            pytest.param([A, DIRECTORY_WITH_KEEP], id="two leaves"),
        ],
    )
    def test_several_roots_are_refused_at_the_end(self, closure: list[Directory]) -> None:
        validator = LeavesToRoot()
        for directory in closure:
            validator.add(directory)
        with pytest.raises(InvalidObject, match="disconnected roots: 2 of them"):
            validator.finish()

    def test_nothing_is_refused_at_the_end(self) -> None:
        with pytest.raises(InvalidObject, match="got no directories"):
            LeavesToRoot().finish()

    @pytest.mark.parametrize("before", [[], [A], [DIRECTORY_WITH_KEEP]])
    def test_unknown_child_is_refused_at_once(self, before: list[Directory]) -> None:
        validator = LeavesToRoot()
        for directory in before:
            validator.add(directory)
        with pytest.raises(InvalidObject, match=f'unknown directory was referenced: "b" is {B.digest}'):
            validator.add(Directory({b"b": B.node()}))

    def test_wrong_size_is_refused_at_once(self) -> None:
        validator = LeavesToRoot()
        validator.add(A)
        with pytest.raises(InvalidObject, match='"foo" has wrong size, specified 42, recorded 0'):
            validator.add(DIRECTORY_WRONG_SIZE)

    def test_what_was_refused_is_as_if_it_had_not_come(self) -> None:
        validator = LeavesToRoot()
        validator.add(A)
        with pytest.raises(InvalidObject):
            validator.add(Directory({b"a": A.node(), b"b": B.node()}))
        assert validator.finish() == A.digest


class TestRootToLeaves:
    """Downloads."""

    @pytest.mark.parametrize(
        ("root", "stream"),
        [
            pytest.param(C, [C, A], id="C,A"),
            pytest.param(D, [D, B, A], id="D,B,A"),
            pytest.param(D, [D, A, B], id="D,A,B"),
            pytest.param(A, [A], id="A"),
            pytest.param(DIRECTORY_D_DOCUMENTED, [DIRECTORY_D_DOCUMENTED, B, A], id="documented sizes"),
        ],
    )
    def test_accepted(self, root: Directory, stream: list[Directory]) -> None:
        validator = RootToLeaves(root.digest)
        assert all(validator.add(directory) for directory in stream)
        validator.finish()
        assert validator.missing == ()

    @pytest.mark.parametrize(
        ("root", "stream"),
        [
            pytest.param(C, [C, B], id="C,B"),
            pytest.param(B, [A], id="A for B"),
            pytest.param(D, [B, D], id="child before the root"),
            pytest.param(A, [A, B], id="more after the end"),
        ],
    )
    def test_unexpected_directory_is_refused(self, root: Directory, stream: list[Directory]) -> None:
        validator = RootToLeaves(root.digest)
        for directory in stream[:-1]:
            if directory.digest == root.digest:
                validator.add(directory)
        with pytest.raises(InvalidObject, match="unexpected digest, nothing before it refers to it"):
            validator.add(stream[-1] if stream[0].digest == root.digest else stream[0])

    def test_wrong_size_is_refused_when_the_child_comes(self) -> None:
        validator = RootToLeaves(DIRECTORY_WRONG_SIZE.digest)
        validator.add(DIRECTORY_WRONG_SIZE)
        with pytest.raises(InvalidObject, match="has wrong size, specified 42, recorded 0"):
            validator.add(A)

    def test_wrong_size_is_refused_when_the_child_came_before(self) -> None:
        liar = Directory({b"a": DirectoryNode(A.digest, 7)})
        root = Directory({b"a": A.node(), b"liar": liar.node()})
        validator = RootToLeaves(root.digest)
        validator.add(root)
        validator.add(A)
        with pytest.raises(InvalidObject, match="has wrong size, specified 7, recorded 0"):
            validator.add(liar)

    def test_directory_that_comes_again_is_told_apart(self) -> None:
        validator = RootToLeaves(C.digest)
        assert [validator.add(directory) for directory in (C, A, A, C)] == [True, True, False, False]

    def test_missing_directory_is_found_at_the_end(self) -> None:
        validator = RootToLeaves(DIRECTORY_COMPLICATED.digest)
        assert validator.missing == (DIRECTORY_COMPLICATED.digest,)
        validator.add(DIRECTORY_COMPLICATED)
        assert validator.missing == (DIRECTORY_WITH_KEEP.digest,)
        with pytest.raises(InvalidObject, match="graph is incomplete, 1 directories are missing"):
            validator.finish()


@st.composite
def trees(draw: st.DrawFn) -> list[Directory]:
    """A whole closure, leaves first, with shared parts; the last one is the root."""
    made: list[Directory] = [Directory(), Directory({b"f": FileNode(EMPTY_BLOB.digest, 0)})]
    for number in range(draw(st.integers(0, 8))):
        children = draw(st.lists(st.sampled_from(made), min_size=1, max_size=4))
        entries: dict[bytes, Node] = {b"%d" % index: child.node() for index, child in enumerate(children)}
        made.append(Directory(entries | {b"n": SymlinkNode(b"%d" % number)}))
    root = Directory({b"%d" % index: directory.node() for index, directory in enumerate(made)})
    return [*made, root]


@given(closure=trees(), seed=st.randoms(use_true_random=False))
def test_every_tree_passes_both_ways(closure: list[Directory], seed: random.Random) -> None:
    up = LeavesToRoot()
    for directory in closure:
        up.add(directory)
    assert up.finish() == closure[-1].digest
    down, waiting = RootToLeaves(closure[-1].digest), [closure[-1]]
    known = {directory.digest: directory for directory in closure}
    while waiting:
        directory = waiting.pop(seed.randrange(len(waiting)))
        if down.add(directory):
            waiting += [known[node.digest] for _, node in directory.directories()]
    down.finish()


@given(closure=trees(), data=st.data())
def test_tree_without_one_of_its_directories_fails_both_ways(closure: list[Directory], data: st.DataObject) -> None:
    left_out = data.draw(st.integers(0, len(closure) - 2))
    up, down = LeavesToRoot(), RootToLeaves(closure[-1].digest)
    rest = closure[:left_out] + closure[left_out + 1 :]
    with pytest.raises(InvalidObject, match="unknown directory"):  # noqa: PT012
        for directory in rest:
            up.add(directory)
    with pytest.raises(InvalidObject, match=r"unexpected digest|graph is incomplete"):  # noqa: PT012
        for directory in reversed(rest):
            down.add(directory)
        down.finish()
