"""The order in which programs go through a tree, for guessing what they will read next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node
from tvix_store_fuse.directories import Directories
from tvix_store_fuse.inodes import ROOT, Inode, InodeTable
from tvix_store_fuse.lru import Lru

__all__ = ["Entries", "Stretch", "Walk"]

_HELD = 16
_MAX_DIRECTORIES = 1024
"""Entered for one stretch: where there are no files at all, it should not go on for ever."""


class Entries:
    """The nodes of directories by position, of some directories that were used lately."""

    def __init__(self) -> None:
        self._held: Lru[bytes, tuple[Sequence[Node], dict[bytes, int]]] = Lru(_HELD)

    def nodes(self, directory: Directory) -> Sequence[Node]:
        """The nodes in the order of their names."""
        return self._of(directory)[0]

    def position(self, directory: Directory, node: FileNode) -> int | None:
        """Where a file with these contents is, the first one; ``None`` if there is none."""
        return self._of(directory)[1].get(node.digest.raw)

    def _of(self, directory: Directory) -> tuple[Sequence[Node], dict[bytes, int]]:
        key = directory.digest.raw
        held = self._held.get(key)
        if held is None:
            nodes = tuple(directory.entries.values())
            positions: dict[bytes, int] = {}
            for position, node in enumerate(nodes):
                if isinstance(node, FileNode):
                    positions.setdefault(node.digest.raw, position)
            held = (nodes, positions)
            self._held.put(key, held)
        return held


@dataclass(slots=True)
class Stretch:
    """A part of a walk.

    Attributes:
        files: Small ones, in the order of the walk.
        directories: Digests of those that were entered, each with the number of files before it.
        n_bytes: Of the files together.
    """

    files: list[FileNode] = field(default_factory=list)
    directories: list[tuple[bytes, int]] = field(default_factory=list)
    n_bytes: int = 0


class Walk:
    """Goes on from an entry of a directory: through the rest of the directory, and, if told so, in the manner of
    ``tar`` and ``find``: into the directories where they stand, and out into what contains it all.

    Args:
        table: Knows which directory is in which.
        directories: Where directories are read.
        entries: Their nodes.
        start: The directory it begins in.
        position: Of the entry in it that comes first.
    """

    def __init__(
        self, table: InodeTable, directories: Directories, entries: Entries, start: Inode, position: int
    ) -> None:
        self._table = table
        self._directories = directories
        self._entries = entries
        self._base = start
        self._frames: list[tuple[Sequence[Node], int]] | None = None
        self._position = position
        self.is_at_end = False

    async def take(self, max_files: int, max_bytes: int, max_file_bytes: int, crosses: bool) -> Stretch:
        """The next files that are not empty, and no longer than ``max_file_bytes``.

        Args:
            max_files: How many.
            max_bytes: How many bytes they may have together.
            max_file_bytes: Longer ones are passed over.
            crosses: Whether it leaves the directory it is in.

        Raises:
            StoreError: A directory cannot be had.
        """
        if self._frames is None:
            self._frames = [(await self._nodes(self._base.node), self._position)]
        stretch = Stretch()
        while not self.is_at_end and len(stretch.files) < max_files and len(stretch.directories) < _MAX_DIRECTORIES:
            nodes, position = self._frames[-1]
            if position == len(nodes):
                await self._leave(crosses)
                continue
            node = nodes[position]
            if isinstance(node, FileNode) and 0 < node.size <= max_file_bytes:
                if stretch.n_bytes + node.size > max_bytes:
                    break
                stretch.files.append(node)
                stretch.n_bytes += node.size
            self._frames[-1] = nodes, position + 1
            if crosses and isinstance(node, DirectoryNode):
                stretch.directories.append((node.digest.raw, len(stretch.files)))
                self._frames.append((await self._nodes(node), 0))
        return stretch

    async def _leave(self, crosses: bool) -> None:
        assert self._frames is not None
        if len(self._frames) > 1:
            self._frames.pop()
            return
        outer = self._table.get(self._base.place)
        if not crosses or outer is None or outer.number == ROOT or not outer.was_listed:
            self.is_at_end = True
            return
        assert isinstance(outer.node, DirectoryNode)
        directory = await self._directories.get(outer.node.digest)
        after = next((i for i, name in enumerate(directory.entries, 1) if name == self._base.name), len(directory))
        self._frames = [(self._entries.nodes(directory), after)]
        self._base = outer

    async def _nodes(self, node: Node | None) -> Sequence[Node]:
        assert isinstance(node, DirectoryNode)
        return self._entries.nodes(self._directories.at_hand(node.digest) or await self._directories.get(node.digest))
