"""Trees that several clients want at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from plugins.http.reading import memory_services, put_tree
from tvix_store.digest import B3Digest
from tvix_store.errors import DanglingReference
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store_http.trees import Trees
from tvix_store_memory.directory import MemoryDirectoryService
from vectors.nar import Dir, File

pytestmark = pytest.mark.anyio

TREE = Dir({b"a": Dir({b"x": File(b"x")}), b"b": File(b"b")})


class Counting(MemoryDirectoryService):
    """Counts trees that are fetched, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0
        self.failures = 0

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        self.fetched += 1
        if self.failures:
            self.failures -= 1
            raise DanglingReference("gone")
        async for directory in super().get_recursive(root):
            yield directory


async def test_a_tree_is_loaded_once_for_all_that_want_it() -> None:
    directories = Counting()
    services = memory_services(directories=directories)
    node = (await put_tree(services, "x", TREE)).node
    trees = Trees(services.directories)
    loaded = await asyncio.gather(*(trees.load(node) for _ in range(20)))
    assert all(shared is loaded[0] for shared in loaded)
    assert directories.fetched == 1


async def test_who_waits_tries_again_after_a_failure() -> None:
    directories = Counting()
    services = memory_services(directories=directories)
    node = (await put_tree(services, "x", TREE)).node
    directories.failures = 1
    trees = Trees(services.directories)
    first, second = await asyncio.gather(trees.load(node), trees.load(node), return_exceptions=True)
    assert isinstance(first, DanglingReference)
    assert not isinstance(second, BaseException)
    assert len(second.tree.directories) == 2


async def test_large_trees_do_not_stay() -> None:
    directories = Counting()
    services = memory_services(directories=directories)
    link = SymlinkNode(b"x")
    large = Directory({b"%d" % i: link for i in range(20_000)})
    await services.directories.put(large)
    trees = Trees(services.directories)
    held = await trees.load(large.node())
    assert await trees.load(large.node()) is held
    del held
    gc.collect()
    await trees.load(large.node())
    assert directories.fetched == 2


async def test_small_trees_stay_until_there_are_many() -> None:
    directories = Counting()
    services = memory_services(directories=directories)
    nodes = []
    for number in range(20):
        directory = Directory({b"%d-%d" % (number, i): SymlinkNode(b"x") for i in range(1000)})
        await services.directories.put(directory)
        nodes.append(directory.node())
    trees = Trees(services.directories)
    for node in nodes:
        await trees.load(node)
    await trees.load(nodes[-1])
    assert directories.fetched == 20
    await trees.load(nodes[0])
    assert directories.fetched == 21
