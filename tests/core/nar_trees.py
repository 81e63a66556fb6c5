"""Trees to render, and a store to render them from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from hypothesis import strategies as st

from fakes.services import CountingBlobs, CountingDirectories
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.digest import B3Digest
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.testing.fixtures import contents
from tvix_store.testing.minimal import MinimalBlobService
from vectors.nar import Dir, File, Link, Tree

__all__ = ["Store", "many_files", "trees"]


class Store:
    """Two services, with core's checks around them."""

    def __init__(self, blobs: MinimalBlobService | None = None) -> None:
        self.counting = CountingBlobs()
        self.inner = blobs or self.counting
        self.blobs = CheckedBlobService("blobs", self.inner)
        self.directories = CheckedDirectoryService("directories", CountingDirectories())

    async def put(self, tree: Tree) -> Node:
        match tree:
            case File(data, executable):
                self.inner.blobs[B3Digest.of(data)] = data
                return FileNode(B3Digest.of(data), len(data), executable)
            case Link(target):
                return SymlinkNode(target)
            case Dir(entries):
                directory = Directory({name: await self.put(child) for name, child in entries.items()})
                await self.directories.put(directory)
                return directory.node()

    async def put_directory(self, **entries: Node) -> DirectoryNode:
        directory = Directory({name.encode(): node for name, node in entries.items()})
        await self.directories.put(directory)
        return directory.node()

    async def render(self, node: Node, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        tree = await load_tree(node, self.directories)
        async with aclosing(render_nar(tree, self.blobs, start=start, end=end)) as pieces:
            async for piece in pieces:
                yield piece

    async def nar(self, node: Node, sent: bytearray | None = None, start: int = 0, end: int | None = None) -> bytes:
        """The NAR, or a range of it; ``sent`` has what came before a failure."""
        data = bytearray() if sent is None else sent
        async for piece in self.render(node, start, end):
            data += piece
        return bytes(data)


def many_files(count: int, size: int = 8) -> Dir:
    """A tree that takes more than one window."""
    return Dir({b"%05d" % i: File(contents(size, i)) for i in range(count)})


names = st.binary(min_size=1, max_size=12).filter(lambda name: name not in (b".", b"..") and not {0, 47} & set(name))
files = st.builds(File, st.binary(max_size=300), st.booleans())
links = st.builds(Link, st.binary(min_size=1, max_size=40).filter(lambda target: 0 not in target))
trees = st.recursive(
    files | links, lambda children: st.builds(Dir, st.dictionaries(names, children, max_size=5)), max_leaves=20
)
