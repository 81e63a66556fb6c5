"""What a directory lists, by position, so that a listing can be taken up anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from tvix_store.digest import B3Digest
from tvix_store.nodes import Directory, Node
from tvix_store.path_info import PathInfo
from tvix_store_fuse.lru import Lru

__all__ = ["DirectoryListing", "Listing", "Listings", "RootListing"]


class Listing(ABC):
    """The entries of a directory, at positions from 0. What is at a position never moves to another."""

    __slots__ = ()

    @abstractmethod
    def __len__(self) -> int:
        """How many positions there are."""

    @abstractmethod
    def name(self, position: int) -> bytes:
        """The name at a position; empty if what was there has gone, which is to be passed over."""

    @abstractmethod
    def node(self, position: int) -> Node:
        """The node at a position that has a name.

        Raises:
            LookupError: It has none.
        """


class DirectoryListing(Listing):
    """The entries of a directory, in its order."""

    __slots__ = ("_names", "_nodes")

    def __init__(self, directory: Directory) -> None:
        self._names = tuple(directory.entries)
        self._nodes = tuple(directory.entries.values())

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> bytes:
        return self._names[position]

    def node(self, position: int) -> Node:
        return self._nodes[position]


class Listings:
    """The listings used last: one of a large directory is asked for hundreds of times until it is through.

    Args:
        capacity: How many are held.
    """

    def __init__(self, capacity: int = 4) -> None:
        self._held: Lru[bytes, DirectoryListing] = Lru(capacity)

    def at_hand(self, digest: B3Digest) -> DirectoryListing | None:
        """The listing, if it is held."""
        return self._held.get(digest.raw)

    def make(self, digest: B3Digest, directory: Directory) -> DirectoryListing:
        """The listing of a directory, which is held now."""
        listing = DirectoryListing(directory)
        self._held.put(digest.raw, listing)
        return listing


class RootListing(Listing):
    """The store paths. One that is new comes last; one that goes leaves a hole, which it fills if it comes back."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._path_infos: list[PathInfo | None] = []
        self._positions: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> bytes:
        return self._names[position] if self._path_infos[position] is not None else b""

    def node(self, position: int) -> Node:
        path_info = self._path_infos[position]
        if path_info is None:
            raise LookupError(f"what was at position {position} has gone")
        return path_info.node

    def path_info(self, name: bytes) -> PathInfo | None:
        """What was listed under this name; ``None`` if nothing was, or it has gone."""
        position = self._positions.get(name)
        return None if position is None else self._path_infos[position]

    def replace(self, name: bytes, path_info: PathInfo | None) -> None:
        """This is known of it now; ``None`` if it has gone. Nothing happens if it was never listed."""
        position = self._positions.get(name)
        if position is not None:
            self._path_infos[position] = path_info

    def update(self, path_infos: Iterable[PathInfo]) -> None:
        """These are all that there are now."""
        self._path_infos = [None] * len(self._names)
        for path_info in path_infos:
            name = path_info.store_path.base_name.encode()
            position = self._positions.setdefault(name, len(self._names))
            if position == len(self._names):
                self._names.append(name)
                self._path_infos.append(path_info)
            else:
                self._path_infos[position] = path_info
