"""Checks that a stream of directories is one whole tree, in the two orders that streams come in.

A closure is a set of directories that form a graph with a single root. Uploads send it leaves first, so
that a directory only refers to what came before; downloads send it root first, so that only what was asked
for comes. Source: the order validators of tvix and snix, as described for their gRPC services.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject
from tvix_store.nodes import Directory, DirectoryNode, quote

__all__ = ["LeavesToRoot", "RootToLeaves"]


@dataclass(frozen=True, slots=True)
class _Edge:
    parent: B3Digest
    name: bytes
    size: int


def _check_size(edge: _Edge, digest: B3Digest, sizes: tuple[int, int]) -> None:
    """A reference carries the size of its directory, as the reference computes it or as it documents it."""
    if edge.size not in sizes:
        raise InvalidObject(
            f"directory {edge.parent}: {quote(edge.name)} has wrong size, "
            f"specified {edge.size}, recorded {sizes[0]} for {digest}"
        )


def _sizes(directory: Directory) -> tuple[int, int]:
    return directory.size, directory.documented_size


class LeavesToRoot:
    """Validates an upload: every directory refers only to directories that came before it.

    Sending a directory again is harmless. What a store already holds does not count.
    """

    def __init__(self) -> None:
        self._sizes: dict[B3Digest, tuple[int, int]] = {}
        self._without_parent: dict[B3Digest, None] = {}

    def add(self, directory: Directory) -> bool:
        """Take the next directory; ``False`` if it came before.

        Raises:
            InvalidObject: It refers to a directory not seen yet, or states a wrong size for one.
        """
        digest = directory.digest
        if digest in self._sizes:
            return False
        children: list[B3Digest] = []
        for name, node in directory.directories():
            sizes = self._sizes.get(node.digest)
            if sizes is None:
                raise InvalidObject(
                    f"directory {digest}: unknown directory was referenced: {quote(name)} is {node.digest}, "
                    "which was not sent before"
                )
            _check_size(_Edge(digest, name, node.size), node.digest, sizes)
            children.append(node.digest)
        for child in children:
            self._without_parent.pop(child, None)
        self._without_parent[digest] = None
        self._sizes[digest] = _sizes(directory)
        return True

    def finish(self) -> B3Digest:
        """The root of the closure.

        Raises:
            InvalidObject: Nothing was sent, or there is more than one root.
        """
        if not self._without_parent:
            raise InvalidObject("got no directories")
        if len(self._without_parent) > 1:
            roots = ", ".join(str(digest) for digest in list(self._without_parent)[:3])
            raise InvalidObject(f"graph has disconnected roots: {len(self._without_parent)} of them, such as {roots}")
        return next(iter(self._without_parent))


class RootToLeaves:
    """Validates a download: the root first, then only what an earlier directory referred to.

    Args:
        root: The directory that was asked for.
    """

    def __init__(self, root: B3Digest) -> None:
        self._root = root
        self._expected: dict[B3Digest, list[_Edge]] = {root: []}
        self._sizes: dict[B3Digest, tuple[int, int]] = {}

    def add(self, directory: Directory) -> bool:
        """Take the next directory; ``False`` if it came before.

        Raises:
            InvalidObject: Nothing refers to it, or a reference to it or from it states a wrong size.
        """
        digest = directory.digest
        if digest in self._sizes:
            return False
        edges = self._expected.pop(digest, None)
        if edges is None:
            raise InvalidObject(f"directory {digest}: unexpected digest, nothing before it refers to it")
        sizes = _sizes(directory)
        for edge in edges:
            _check_size(edge, digest, sizes)
        for name, node in directory.directories():
            self._refer(_Edge(digest, name, node.size), node)
        self._sizes[digest] = sizes
        return True

    def _refer(self, edge: _Edge, node: DirectoryNode) -> None:
        sizes = self._sizes.get(node.digest)
        if sizes is None:
            self._expected.setdefault(node.digest, []).append(edge)
        else:
            _check_size(edge, node.digest, sizes)

    @property
    def missing(self) -> tuple[B3Digest, ...]:
        """What was referred to and has not come yet; the root alone before anything came."""
        return tuple(self._expected)

    def finish(self) -> None:
        """Check that everything came.

        Raises:
            InvalidObject: A directory is missing.
        """
        if self._expected:
            raise InvalidObject(
                f"directory {self._root}: graph is incomplete, {len(self._expected)} directories are missing, "
                f"such as {next(iter(self._expected))}"
            )
