"""A store in memory that counts, waits and fails when told to, and the filesystem over it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from inspect import iscoroutine
from typing import Any, TypeVar

from plugins.grpc.loopback import memory_services
from tvix_store.digest import B3Digest
from tvix_store.nar_ingest import ingest_nar
from tvix_store.nodes import Directory, FileNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import store_path
from tvix_store_fuse.directories import Directories
from tvix_store_fuse.filesystem import Absent, Answer, Attributes, Entry, FilesystemOptions, StoreFilesystem
from tvix_store_fuse.inodes import ROOT
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService
from vectors.nar import Tree, encode

__all__ = ["CountingDirectories", "CountingPathInfos", "Store", "answer", "base_name", "opened"]

T = TypeVar("T")
Hook = Callable[[], Awaitable[None]]


async def answer(given: Answer[T]) -> T:
    """What was asked for, whether it was at hand or not."""
    return await given if iscoroutine(given) else given  # type: ignore[return-value]  # T is no coroutine here


class CountingDirectories(MemoryDirectoryService):
    """Keeps what it was asked for; ``on_get`` is called before anything is given."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[B3Digest] = []
        self.closures: list[B3Digest] = []
        self.n_closures_ended = 0
        self.on_get: Hook | None = None
        self.on_item: Hook | None = None

    async def get(self, digest: B3Digest) -> Directory | None:
        self.got.append(digest)
        if self.on_get is not None:
            await self.on_get()
        return await super().get(digest)

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        """Those of a closure, which are not counted."""
        return [await super(CountingDirectories, self).get(digest) for digest in digests]

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        self.closures.append(root)
        try:
            async for directory in super().get_recursive(root):
                if self.on_item is not None:
                    await self.on_item()
                yield directory
        finally:
            for _ in range(10):  # a reader that does not wait for the end is gone by then
                await asyncio.sleep(0)
            self.n_closures_ended += 1


class CountingPathInfos(MemoryPathInfoService):
    """Keeps what it was asked for; ``on_get`` is called before anything is given."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []
        self.n_lists = 0
        self.on_get: Hook | None = None
        self.on_list: Hook | None = None

    async def get(self, digest: bytes) -> PathInfo | None:
        self.got.append(digest)
        if self.on_get is not None:
            await self.on_get()
        return await super().get(digest)

    async def list(self) -> AsyncIterator[PathInfo]:
        self.n_lists += 1
        async for path_info in super().list():
            yield path_info
            if self.on_list is not None:
                await self.on_list()


class Store:
    """Services as a composition makes them, the filesystem over them, and what a kernel would ask of it."""

    def __init__(self, options: FilesystemOptions, max_entries: int | None) -> None:
        self.counted = CountingDirectories()
        self.path_infos = CountingPathInfos()
        self.services = memory_services(directories=self.counted, path_infos=self.path_infos)
        self.now = 1_000_000.9
        self.reads: list[tuple[int, int]] = []
        self.filesystem = StoreFilesystem(self.services, self, options, clock=lambda: self.now)
        if max_entries is not None:
            self.filesystem.directories = Directories(self.services.directories, max_entries, options.timeout_s)

    async def read(self, node: FileNode, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """Contents of files, in two pieces."""
        self.reads.append((offset, size))
        (data,) = await self.services.blobs.get_many([node.digest])
        assert data is not None
        return [data[offset : offset + 1], memoryview(data)[offset + 1 : offset + size]]

    async def put(self, name: str, tree: Tree, **metadata: Any) -> PathInfo:
        """Store a tree as a store path, whose digest is made from the name."""
        nar = encode(tree)

        async def pieces() -> AsyncIterator[bytes]:
            yield nar

        ingested = await ingest_nar(pieces(), self.services.blobs, self.services.directories)
        return await self.services.path_infos.put(
            PathInfo(
                store_path=store_path(name),
                node=ingested.node,
                nar_size=len(nar),
                nar_sha256=hashlib.sha256(nar).digest(),
                **metadata,
            )
        )

    async def lookup(self, parent: int, name: bytes) -> Entry | Absent:
        return await answer(self.filesystem.lookup(parent, name))

    async def find(self, name: str, *below: bytes) -> Attributes:
        """Look up a store path by the name it was put with, and what is below it."""
        attributes = self.filesystem.attributes(ROOT)
        for component in (base_name(name), *below):
            found = await self.lookup(attributes.inode, component)
            assert isinstance(found, Entry), component
            attributes = found.attributes
        return attributes

    async def names(self, inode: int, anew: bool = True) -> list[bytes]:
        """What is listed, holes included."""
        listing = await answer(self.filesystem.listing(inode, anew))
        return [listing.name(position) for position in range(len(listing))]

    async def content(self, inode: int, offset: int, size: int) -> bytes:
        return b"".join(await answer(self.filesystem.read(inode, offset, size)))


def base_name(name: str) -> bytes:
    """The name in the mount root of what was put with this name."""
    return store_path(name).base_name.encode()


@asynccontextmanager
async def opened(max_entries: int | None = None, **options: Any) -> AsyncIterator[Store]:
    """A store with nothing in it. Its filesystem holds directories with so many entries, or as many as it will."""
    store = Store(FilesystemOptions(**options), max_entries)
    async with store.filesystem:
        yield store
