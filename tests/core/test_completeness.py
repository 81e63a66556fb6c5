"""Whether what path infos refer to is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

import pytest

from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.completeness import Missing, missing_contents
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.frontend import Services
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.nodes import Directory, FileNode, Node, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import PATH_INFO, store_path
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(b"one")
OTHER = HashedBlob(b"another")
LEAF = Directory([(b"file", FileNode(BLOB.digest, 3)), (b"link", SymlinkNode(b"file"))])
ROOT = Directory([(b"a", LEAF.node()), (b"b", LEAF.node()), (b"c", FileNode(OTHER.digest, 7))])


class Blobs(MemoryBlobService):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[B3Digest] = []

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        self.asked += digests
        return await super().has_many(digests)


class Directories(MemoryDirectoryService):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[B3Digest] = []

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        self.asked += digests
        return await super().get_many(digests)


class Store:
    """A store with all that ``ROOT`` refers to."""

    def __init__(self) -> None:
        self.blobs, self.directories = Blobs(), Directories()
        blobs = CheckedBlobService("blobs", self.blobs)
        directories = CheckedDirectoryService("directories", self.directories)
        calculation = RenderingNarCalculation(blobs, directories)
        self.services = Services(blobs, directories, MemoryPathInfoService(), calculation)
        self.blobs.contents = {blob.digest.raw: blob.data for blob in (BLOB, OTHER)}
        self.directories.encodings = {tree.digest.raw: tree.encode() for tree in (LEAF, ROOT)}

    async def missing(self, *nodes: Node) -> list[tuple[str, B3Digest]]:
        return [(missing.kind, missing.digest) async for missing in self.walk(*nodes)]

    def walk(self, *nodes: Node) -> AsyncIterator[Missing]:
        path_infos = (replace(PATH_INFO, store_path=store_path(f"p{i}"), node=node) for i, node in enumerate(nodes))
        return missing_contents(self.services, each(path_infos))


async def each(path_infos: Iterable[PathInfo]) -> AsyncIterator[PathInfo]:
    for path_info in path_infos:
        yield path_info


async def test_nothing_is_missing_of_what_is_whole() -> None:
    assert await Store().missing(ROOT.node(), FileNode(OTHER.digest, 7), SymlinkNode(b"x")) == []


async def test_each_is_asked_for_once() -> None:
    store = Store()
    nodes: list[Node] = [ROOT.node(), LEAF.node(), FileNode(BLOB.digest, 3)]
    await store.missing(*nodes * 300)
    assert sorted(store.directories.asked) == sorted([ROOT.digest, LEAF.digest])
    assert sorted(store.blobs.asked) == sorted([BLOB.digest, OTHER.digest])


async def test_a_missing_blob_is_told_of_with_a_path_info_that_refers_to_it() -> None:
    store = Store()
    store.blobs.contents.clear()
    found = [missing async for missing in store.walk(LEAF.node(), ROOT.node())]
    assert [(missing.digest, missing.path_info.store_path.name) for missing in found] == [
        (BLOB.digest, "p0"),
        (OTHER.digest, "p1"),
    ]
    damage = found[0].damage()
    assert (damage.kind, damage.digest) == ("path info", store_path("p0").digest.hex())
    assert damage.reason.endswith(f"refers to blob {BLOB.digest}, which does not exist")


async def test_a_missing_directory_is_told_of_and_the_rest_looked_into() -> None:
    store = Store()
    del store.directories.encodings[LEAF.digest.raw]
    del store.blobs.contents[OTHER.digest.raw]
    assert await store.missing(ROOT.node()) == [("blob", OTHER.digest), ("directory", LEAF.digest)]


async def test_a_corrupt_directory_is_as_good_as_missing() -> None:
    store = Store()
    store.directories.encodings[LEAF.digest.raw] = b"\xff"
    assert await store.missing(LEAF.node(), ROOT.node()) == [("directory", LEAF.digest)]


async def test_what_is_put_meanwhile_is_looked_into() -> None:
    store = Store()
    store.directories.encodings.clear()
    store.blobs.contents.clear()
    found: list[B3Digest] = []
    async for missing in store.walk(ROOT.node()):
        found.append(missing.digest)
        await store.directories.put_many([tree for tree in (ROOT, LEAF) if tree.digest == missing.digest])
    assert sorted(found) == sorted([ROOT.digest, LEAF.digest, BLOB.digest, OTHER.digest])
