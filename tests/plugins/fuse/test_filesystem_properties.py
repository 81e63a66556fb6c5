"""Whatever a kernel asks in whatever order, the filesystem shows the trees that went in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from plugins.fuse.stores import answer, base_name, opened
from tvix_store.testing.fixtures import store_path
from tvix_store_fuse.filesystem import FOREVER, Absent, Attributes, Entry
from tvix_store_fuse.inodes import ROOT
from vectors.nar import Dir, File, Link, Tree

T = TypeVar("T")

NAMES = [b"a", b"b", b"c", b"\xff"]
PATHS = ["p", "q", "r"]
PATH_S = 30.0

leaves = st.builds(File, st.sampled_from([b"", b"x", b"xy"]), st.booleans()) | st.builds(
    Link, st.sampled_from([b"x", b"xy"])
)
trees = st.recursive(
    leaves,
    lambda children: st.builds(Dir, st.dictionaries(st.sampled_from(NAMES), children, max_size=4)),
    max_leaves=12,
)


@dataclass(slots=True)
class Known:
    """What the model knows of an inode: ``place`` is where it was seen last, a parent's number and a name."""

    tree: Tree
    place: tuple[int, bytes]
    n_lookups: int = 1


def n_stated(tree: Tree) -> int:
    """The size that a node states."""
    match tree:
        case File(data):
            return len(data)
        case Link(target):
            return len(target)
        case Dir(entries):
            return 2 * len(entries) + sum(n_stated(child) for child in entries.values() if isinstance(child, Dir))


def mode_of(tree: Tree) -> int:
    match tree:
        case File(_, executable):
            return 0o100555 if executable else 0o100444
        case Link():
            return 0o120777
        case Dir():
            return 0o40555


class FilesystemMachine(RuleBasedStateMachine):
    """A kernel that looks up, lists and forgets, over caches that are much too small."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.paths: dict[str, Tree] = {}
        self.known: dict[int, Known] = {}
        self.given: set[int] = {ROOT}
        self.last_found: dict[tuple[int, bytes], int] = {}

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @initialize(paths=st.dictionaries(st.sampled_from(PATHS), trees), max_entries=st.sampled_from([0, 8, 1000]))
    def fill(self, paths: dict[str, Tree], max_entries: int) -> None:
        self.store = self.run(
            self.stack.enter_async_context(opened(max_entries, list_root=True, negative_s=1.0, path_s=PATH_S))
        )
        for name, tree in paths.items():
            self.put(name, tree)

    @rule(name=st.sampled_from(PATHS), tree=trees)
    def put(self, name: str, tree: Tree) -> None:
        """A new store path, or another in place of one."""
        self.run(self.store.put(name, tree))
        self.paths[name] = tree

    @precondition(lambda self: self.paths)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.paths)))
        self.run(self.store.services.path_infos.delete([store_path(name).digest]))
        del self.paths[name]

    def directories(self) -> list[int]:
        return [ROOT, *(number for number, known in self.known.items() if isinstance(known.tree, Dir))]

    def children(self, number: int) -> dict[bytes, Tree]:
        if number == ROOT:
            return {base_name(name): tree for name, tree in self.paths.items()}
        tree = self.known[number].tree
        assert isinstance(tree, Dir)
        return dict(tree.entries)

    def expected_number(self, parent: int, name: bytes, tree: Tree) -> int | None:
        """The inode that there is already; of a directory, if it is the last directory that was found there."""
        if isinstance(tree, Dir):
            last = self.last_found.get((parent, name))
            return last if last in self.known and self.known[last].tree == tree else None
        return next((number for number, known in self.known.items() if known.tree == tree), None)

    def entered(self, parent: int, name: bytes, tree: Tree, entry: Entry | Absent) -> None:
        """Compare what was found with the model, and note that it was looked up."""
        assert isinstance(entry, Entry)
        assert entry.valid_s == (PATH_S if parent == ROOT else FOREVER)
        number = entry.attributes.inode
        assert entry.attributes == Attributes(number, mode_of(tree), n_stated(tree))
        expected = self.expected_number(parent, name, tree)
        if expected is None:
            assert number not in self.given
            self.given.add(number)
            self.known[number] = Known(tree, (parent, name))
        else:
            assert number == expected
            self.known[number].n_lookups += 1
            self.known[number].place = (parent, name)
        if isinstance(tree, Dir):
            self.last_found[parent, name] = number

    @rule(data=st.data())
    def lookup(self, data: st.DataObject) -> None:
        parent = data.draw(st.sampled_from(self.directories()))
        names = [base_name(name) for name in PATHS] if parent == ROOT else NAMES
        name = data.draw(st.sampled_from(names))
        found = self.run(self.store.lookup(parent, name))
        tree = self.children(parent).get(name)
        if tree is None:
            assert found == Absent(1.0 if parent == ROOT else FOREVER)
        else:
            self.entered(parent, name, tree, found)

    @rule(data=st.data(), is_plus=st.booleans())
    def list(self, data: st.DataObject, is_plus: bool) -> None:
        parent = data.draw(st.sampled_from(self.directories()))
        listing = self.run(answer(self.store.filesystem.listing(parent, anew=True)))
        names = {listing.name(i): i for i in range(len(listing)) if listing.name(i)}
        children = self.children(parent)
        assert sorted(names) == sorted(children)
        if parent != ROOT:
            assert list(names) == sorted(names)
        if is_plus:
            for name, position in names.items():
                entry = self.store.filesystem.enter(parent, name, listing.node(position))
                self.entered(parent, name, children[name], entry)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def look_up_dots(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.known)))
        known = self.known[number]
        place = known.place[0]
        same = self.run(self.store.lookup(number, b"."))
        assert isinstance(same, Entry)
        assert same.attributes.inode == number
        known.n_lookups += 1
        if place == ROOT or place in self.known:
            above = self.run(self.store.lookup(number, b".."))
            assert isinstance(above, Entry)
            assert above.attributes.inode == place
            if place != ROOT:
                self.known[place].n_lookups += 1

    @precondition(lambda self: any(isinstance(known.tree, File) for known in self.known.values()))
    @rule(data=st.data(), offset=st.integers(0, 3), size=st.integers(0, 3))
    def read(self, data: st.DataObject, offset: int, size: int) -> None:
        files = {number: known.tree for number, known in self.known.items() if isinstance(known.tree, File)}
        number = data.draw(st.sampled_from(sorted(files)))
        assert self.run(self.store.content(number, offset, size)) == files[number].data[offset : offset + size]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.known)))
        n_lookups = data.draw(st.integers(1, self.known[number].n_lookups))
        self.store.filesystem.forget(number, n_lookups)
        self.known[number].n_lookups -= n_lookups
        if not self.known[number].n_lookups:
            del self.known[number]

    @invariant()
    def the_inodes_are_those_that_are_known(self) -> None:
        if self.given == {ROOT} and not hasattr(self, "store"):
            return
        assert len(self.store.filesystem.inodes) == len(self.known)
        for number, known in self.known.items():
            assert self.store.filesystem.attributes(number).mode == mode_of(known.tree)
            inode = self.store.filesystem.inodes.get(number)
            assert inode is not None
            assert inode.n_lookups == known.n_lookups

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                for number, known in self.known.items():
                    self.store.filesystem.forget(number, known.n_lookups)
                held = vars(self.store.filesystem.inodes).values()
                assert sum(len(records) for records in held if isinstance(records, dict)) == 1  # the mount root
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()


def test_the_filesystem_shows_what_went_in() -> None:
    run_state_machine_as_test(
        FilesystemMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )
