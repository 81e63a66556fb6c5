"""Trees that are being sent, each in memory once, however many clients are sent it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from tvix_store.directory import DirectoryService
from tvix_store.nar_render import Tree, load_tree
from tvix_store.nodes import DirectoryNode, Node

__all__ = ["SharedTree", "Trees"]

_RECENT_ENTRIES = 16_384
"""So many files and directories, at some 0.4 KiB each, are kept when nobody is sent them any more: clients come back
for the next range."""


class SharedTree:
    """A tree that is in memory as long as somebody has this.

    Attributes:
        tree: All of it.
    """

    __slots__ = ("__weakref__", "tree")

    def __init__(self, tree: Tree) -> None:
        self.tree = tree


class Trees:
    """Loads trees.

    Args:
        directories: Where from.
    """

    def __init__(self, directories: DirectoryService) -> None:
        self._directories = directories
        self._shared: WeakValueDictionary[bytes, SharedTree] = WeakValueDictionary()
        self._loading: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._recent: OrderedDict[bytes, tuple[SharedTree, int]] = OrderedDict()
        self._n_recent = 0

    async def load(self, node: Node) -> SharedTree:
        """The tree below ``node``, loaded unless somebody has it already.

        Raises:
            DanglingReference: A directory is absent.
        """
        if not isinstance(node, DirectoryNode):
            return SharedTree(Tree(node, {}))
        key = node.digest.raw
        # Who comes while it is being loaded waits, and tries for himself if that failed.
        async with self._loading.setdefault(key, asyncio.Lock()):
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = SharedTree(await load_tree(node, self._directories))
        self._keep(key, shared)
        return shared

    def _keep(self, key: bytes, shared: SharedTree) -> None:
        if key in self._recent:
            self._recent.move_to_end(key)
            return
        n_entries = sum(map(len, shared.tree.directories.values()))
        if n_entries > _RECENT_ENTRIES:
            return
        self._recent[key] = shared, n_entries
        self._n_recent += n_entries
        while self._n_recent > _RECENT_ENTRIES:
            self._n_recent -= self._recent.popitem(last=False)[1][1]
