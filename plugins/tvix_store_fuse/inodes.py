"""What the kernel knows by number: which numbers there are, what they stand for, and when they are forgotten.

Regular files with equal contents share an inode, so that the kernel caches the contents once; directories never do,
because Linux takes the second place of a directory for its new name.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.digest import B3Digest
from tvix_store.nodes import DirectoryNode, FileNode, Node
from tvix_store.path_info import PathInfo

__all__ = ["ROOT", "Inode", "InodeTable"]

ROOT = 1
"""The number of the mount root."""


class Inode:
    """Something that the kernel knows by its number.

    Args:
        number: Never given to anything else.
        node: What it is; ``None`` for the mount root.
        place: The number of the directory it is in. What several directories share was seen last in this one. The
            mount root is in itself.
        name: What it is called there; kept up to date for directories alone.
    """

    __slots__ = ("n_lookups", "name", "node", "number", "path_info", "place", "was_listed")

    def __init__(self, number: int, node: Node | None, place: int, name: bytes = b"") -> None:
        self.number = number
        self.node = node
        self.place = place
        self.name = name
        self.n_lookups = 0
        """How often the kernel was told of it, less what it has forgotten."""
        self.was_listed = False
        """Whether it is a directory and its entries were listed."""
        self.path_info: PathInfo | None = None
        """Of the store path whose root this is; ``None`` if it is none, where it was seen last."""


class InodeTable:
    """All inodes that the kernel knows, by number and by what they are.

    Numbers are given out from 2 upwards and never twice. There is always the mount root.
    """

    def __init__(self) -> None:
        self._root = Inode(ROOT, None, ROOT)
        self._by_number: dict[int, Inode] = {ROOT: self._root}
        # By digest alone, for `find_file`: what differs in size or mode is rare, and found by looking at each.
        self._files: dict[bytes, tuple[Inode, ...]] = {}
        self._symlinks: dict[bytes, Inode] = {}
        self._directories: dict[tuple[int, bytes], Inode] = {}
        self._next_number = ROOT + 1

    def __len__(self) -> int:
        """How many there are beside the mount root."""
        return len(self._by_number) - 1

    def get(self, number: int) -> Inode | None:
        """The inode with this number; ``None`` if the kernel was never told of it, or has forgotten it."""
        return self._by_number.get(number)

    def find_file(self, digest: B3Digest) -> Sequence[Inode]:
        """The inodes of regular files with these contents: none, one, or one for each mode (and stated size)."""
        return self._files.get(digest.raw, ())

    def enter(self, parent: int, name: bytes, node: Node, path_info: PathInfo | None = None) -> Inode:
        """The inode of a directory's entry, which the kernel is told of now: one more lookup is counted.

        Args:
            parent: The number of the directory.
            name: The name in it.
            node: What is there. Where another directory was before, this is another inode.
            path_info: Of the store path, if the entry is one.
        """
        if isinstance(node, FileNode):
            inode = self._enter_file(parent, node)
        elif isinstance(node, DirectoryNode):
            inode = self._enter_directory(parent, name, node)
        else:
            found = self._symlinks.get(node.target)
            inode = found if found is not None else self._make(parent, node)
            self._symlinks[node.target] = inode
        inode.place = parent
        inode.path_info = path_info
        inode.n_lookups += 1
        return inode

    def _enter_file(self, parent: int, node: FileNode) -> Inode:
        alike = self._files.get(node.digest.raw, ())
        for inode in alike:
            if inode.node == node:
                return inode
        inode = self._make(parent, node)
        self._files[node.digest.raw] = (*alike, inode)
        return inode

    def _enter_directory(self, parent: int, name: bytes, node: DirectoryNode) -> Inode:
        inode = self._directories.get((parent, name))
        if inode is None or inode.node != node:
            inode = self._make(parent, node, name)
            self._directories[parent, name] = inode
        return inode

    def _make(self, place: int, node: Node, name: bytes = b"") -> Inode:
        inode = self._by_number[self._next_number] = Inode(self._next_number, node, place, name)
        self._next_number += 1
        return inode

    def forget(self, number: int, n_lookups: int) -> None:
        """The kernel has forgotten so many lookups; what it has forgotten wholly is dropped, but the mount root.

        Directories and what is in them may be forgotten in any order: nothing else ever gets the number of a
        directory, so what is still in a forgotten one is found by its own number alone. Unknown numbers are passed
        over.
        """
        inode = self._by_number.get(number)
        if inode is None:
            return
        inode.n_lookups = max(0, inode.n_lookups - n_lookups)
        if not inode.n_lookups and number != ROOT:
            del self._by_number[number]
            self._drop(inode)

    def _drop(self, inode: Inode) -> None:
        node = inode.node
        if isinstance(node, FileNode):
            others = tuple(other for other in self._files[node.digest.raw] if other is not inode)
            if others:
                self._files[node.digest.raw] = others
            else:
                del self._files[node.digest.raw]
        elif isinstance(node, DirectoryNode):
            # Another directory may have taken its place, and gone.
            if self._directories.get((inode.place, inode.name)) is inode:
                del self._directories[inode.place, inode.name]
        elif node is not None:
            del self._symlinks[node.target]
