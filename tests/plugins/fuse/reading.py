"""A kernel with a page cache, over the real filesystem with its prefetching: for tests of what is fetched ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from plugins.fuse.kernel import EntryOut, Kernel
from plugins.fuse.stores import Store, base_name
from plugins.grpc.loopback import memory_services
from tvix_store.digest import B3Digest
from tvix_store.limits import MIB, SMALL_BLOB_BYTES
from tvix_store_fuse.contents import Contents
from tvix_store_fuse.filesystem import FilesystemOptions, StoreFilesystem
from tvix_store_fuse.inodes import ROOT
from tvix_store_fuse.prefetch import Prefetch
from tvix_store_fuse.protocol import Protocol
from tvix_store_memory.blob import MemoryBlobService
from vectors.nar import Dir, File, Tree

__all__ = ["CountingBlobs", "Machine", "running"]


class CountingBlobs(MemoryBlobService):
    """Keeps what it was asked for; ``on_get`` is called before anything is given."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Sequence[B3Digest]] = []
        self.on_get: Callable[[], Awaitable[None]] | None = None

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        self.got.append(list(digests))
        if self.on_get is not None:
            await self.on_get()
        return await super().get_many(digests, max_blob_bytes=max_blob_bytes)


class Machine:
    """A kernel that has mounted a store, and keeps what it has read.

    Attributes:
        pages: The contents of files that the kernel has, by inode.
        pushed: The inodes of those that it got without asking, in order.
        takes: Whether it takes what it gets without asking.
    """

    def __init__(self, store: Store, blobs: CountingBlobs, max_bytes: int, cache_bytes: int) -> None:
        self.store = store
        self.blobs = blobs
        self.services = memory_services(blobs=blobs, directories=store.counted, path_infos=store.path_infos)
        store.services = self.services
        self.contents = Contents(self.services.blobs, cache_bytes=cache_bytes)
        self.filesystem = StoreFilesystem(self.services, self.contents, store.filesystem.options)
        self.prefetch = Prefetch(self.filesystem, self.contents, max_bytes)
        protocol = Protocol("mnt", self.filesystem, reads=self.prefetch.reads, lists=self.prefetch.lists)
        self.kernel = Kernel(protocol)
        self.pages: dict[int, bytes] = {}
        self.pushed: list[int] = []
        self.takes = True
        self.prefetch.push_with(self.push)

    def push(self, number: int, data: bytes) -> bool:
        """Called in a thread."""
        if not self.takes or number not in self.kernel.n_lookups:
            return False
        self.pushed.append(number)
        self.pages[number] = data
        return True

    @property
    def n_reads(self) -> int:
        """How many reads there were for which the kernel did not have what was wanted."""
        return self.kernel.n_requests.get("READ", 0)

    @property
    def n_fetched(self) -> int:
        """How many blobs the store was asked for."""
        return sum(map(len, self.blobs.got))

    async def list(self, node: int) -> dict[bytes, EntryOut]:
        """What is in a directory. What had to be pushed because of that has been pushed when this returns."""
        entries = await self.kernel.entries(node)
        await self.settled()
        return {found.name: found.entry for found in entries[2:] if found.entry is not None}

    async def read(self, entry: EntryOut) -> bytes:
        """The contents of a file. What is fetched because of that has come when this returns."""
        data = self.pages.get(entry.nodeid)
        if data is None:
            data = self.pages[entry.nodeid] = await self.kernel.read(entry.nodeid, 0, MIB)
        await self.settled()
        return data

    async def settled(self) -> None:
        """Wait until nothing is being fetched or pushed."""
        prefetch = self.prefetch
        while under_way := [*prefetch._tasks, *([prefetch._pushing] if prefetch._pushing else [])]:
            await asyncio.wait(under_way)

    async def find(self, name: str, *below: bytes) -> int:
        return (await self.kernel.lookup(ROOT, base_name(name), *below)).nodeid

    async def read_through(self, node: int, tree: Tree) -> None:
        """List a directory, and read what is in it and below it, as ``tar`` does. All has to be as in ``tree``."""
        assert isinstance(tree, Dir)
        entries = await self.list(node)
        assert sorted(entries) == sorted(tree.entries)
        for name in entries:
            match below := tree.entries[name]:
                case File(data):
                    assert not data or await self.read(entries[name]) == data, name
                case Dir():
                    await self.read_through(entries[name].nodeid, below)
                case _:
                    pass


@asynccontextmanager
async def running(max_bytes: int = 8 * MIB, cache_bytes: int = 64 * MIB, **trees: Tree) -> AsyncIterator[Machine]:
    """A machine that has mounted a store with these store paths."""
    machine = Machine(Store(FilesystemOptions(), 200_000), CountingBlobs(), max_bytes, cache_bytes)
    for name, tree in trees.items():
        await machine.store.put(name, tree)
    machine.blobs.got.clear()
    async with machine.contents, machine.filesystem, machine.prefetch:
        yield machine
