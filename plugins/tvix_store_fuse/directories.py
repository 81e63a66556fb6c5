"""Directories that were read lately, so that going about in a tree need not ask the store for each again."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import aclosing

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import DanglingReference
from tvix_store.flights import Flights
from tvix_store.nodes import Directory
from tvix_store.resource import AsyncResource
from tvix_store_fuse.in_time import each_in_time, in_time
from tvix_store_fuse.lru import Lru

__all__ = ["Directories"]

_MAX_REMEMBERED_CLOSURES = 4096


class Directories(AsyncResource):
    """A cache of directories. What was used least recently goes first; nothing goes out of date.

    Args:
        service: Where they are read from. It is not closed with this.
        max_entries: How many entries all that are held have together, and one for each directory. What was used last
            is held however large it is.
        timeout_s: How long a call on the service may take, and each directory of a closure.
    """

    def __init__(self, service: DirectoryService, max_entries: int = 200_000, timeout_s: float = 60.0) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self._held: Lru[bytes, Directory] = Lru(max_entries)
        self._gets: Flights[bytes, Directory] = Flights()
        self._closures: Flights[bytes, None] = Flights()
        self._read_closures: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """How many directories are held."""
        return len(self._held)

    @property
    def n_entries(self) -> int:
        """What counts towards ``max_entries``."""
        return self._held.weight

    def at_hand(self, digest: B3Digest) -> Directory | None:
        """The directory, if it is held; it is the one used last then."""
        return self._held.get(digest.raw)

    async def get(self, digest: B3Digest) -> Directory:
        """The directory, from the service if it is not held; who asks at the same time shares the call.

        Raises:
            DanglingReference: It is absent. That is not remembered, nor is any other failure.
        """
        directory = self.at_hand(digest)
        if directory is None:
            directory = await self._gets.join(digest.raw, lambda: self._fetch(digest))
        return directory

    async def _fetch(self, digest: B3Digest) -> Directory:
        directory = await in_time(self._service.get(digest), self._timeout_s, f"directory {digest}")
        if directory is None:
            raise DanglingReference(f"directory {digest} does not exist")
        self._hold(digest, directory)
        return directory

    def closure_was_read(self, digest: B3Digest) -> bool:
        """Whether a ``get_closure`` for this one has ended lately, with whatever result.

        What is not at hand then was beyond its limits, or has gone: to read it once more need not bring it.
        """
        return digest.raw in self._read_closures

    async def get_closure(self, digest: B3Digest, max_directories: int = 4096) -> None:
        """Read a directory and those below it; who asks at the same time shares the call.

        Stops after ``max_directories``, or where more would push out what it has just brought. Nothing is brought if
        the directory is absent.

        Raises:
            DanglingReference: A directory below is absent. Those that came before it are held.
        """
        await self._closures.join(digest.raw, lambda: self._fetch_closure(digest, max_directories))

    async def _fetch_closure(self, digest: B3Digest, max_directories: int) -> None:
        try:
            await self._read_closure(digest, max_directories)
        finally:
            self._read_closures[digest.raw] = None
            if len(self._read_closures) > _MAX_REMEMBERED_CLOSURES:
                self._read_closures.popitem(last=False)

    async def _read_closure(self, digest: B3Digest, max_directories: int) -> None:
        n_entries = n_directories = 0
        items = each_in_time(self._service.get_recursive(digest), self._timeout_s, f"directories below {digest}")
        async with aclosing(items):
            async for directory in items:
                self._hold(directory.digest, directory)
                n_directories += 1
                n_entries += len(directory) + 1
                if n_directories >= max_directories or n_entries >= self._held.max_weight // 2:
                    return

    def _hold(self, digest: B3Digest, directory: Directory) -> None:
        self._held.put(digest.raw, directory, len(directory) + 1)

    async def aclose(self) -> None:
        """Cancel what is under way. Nothing is held any more."""
        try:
            await self._gets.aclose()
        finally:
            await self._closures.aclose()
            self._held.clear()
