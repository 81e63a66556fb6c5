"""What is put and looked for: a fixed pool of blobs, trees and path infos, so that steps meet each other's traces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import contents, store_path
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService

__all__ = ["BLOBS", "DIRECTORIES", "LOOSE", "LOOSE_PATH", "PATHS", "Path"]


@dataclass(frozen=True)
class Path:
    """A path info and all that it refers to.

    Args:
        path_info: The path info.
        blobs: Of the files in it.
        directories: Of it, leaves first; the last is the root.
    """

    path_info: PathInfo
    blobs: Sequence[HashedBlob]
    directories: Sequence[Directory]


_SIZES = (1, 17, 1000, 5000, 70_001, 300_007)  # the last is several pieces, and for fs several chunks
LOOSE = [HashedBlob(contents(size, seed)) for seed, size in enumerate((0, 1, 40, 3000, 70_002, 300_009, 1_100_003))]
"""Blobs that no path refers to, and that may be deleted; one is too long for a batch."""

_FILES = [HashedBlob(contents(size, 100 + seed)) for seed, size in enumerate(_SIZES)]
_EMPTY = Directory()


def _path(number: int) -> Path:
    """A tree three directories deep, that shares a file, and the middle one, with the next."""
    first, second = _FILES[number % len(_FILES)], _FILES[(number + 1) % len(_FILES)]
    deep = Directory({b"file": FileNode(second.digest, len(second.data), executable=number % 2 == 0)})
    middle = Directory([(b"deep", deep.node()), (b"empty", _EMPTY.node()), (b"link", SymlinkNode(b"deep/file"))])
    entries: dict[bytes, Node] = {b"a": middle.node(), b"b": middle.node(), b"%d" % number: deep.node()}
    root = Directory({**entries, b"file": FileNode(first.digest, len(first.data))})
    blobs, directories = [first, second], [_EMPTY, deep, middle, root]
    nar = asyncio.run(_nar(root.node(), blobs, directories))
    path_info = PathInfo(
        store_path=store_path(f"chaos-{number}"), node=root.node(), nar_size=nar[0], nar_sha256=nar[1], references=()
    )
    return Path(path_info, blobs, directories)


async def _nar(node: DirectoryNode, blobs: Sequence[HashedBlob], directories: Sequence[Directory]) -> tuple[int, bytes]:
    """Its size and hash."""
    blob_service, directory_service = MemoryBlobService(), MemoryDirectoryService("pool")
    await blob_service.put_many(blobs)
    await directory_service.put_many(directories)
    nar = await RenderingNarCalculation(blob_service, directory_service).calculate_nar(node)
    return nar.size, nar.sha256


PATHS = [_path(number) for number in range(4)]
LOOSE_PATH = PathInfo(
    store_path=store_path("chaos-loose"), node=SymlinkNode(b"target"), nar_size=1, nar_sha256=bytes(32), references=()
)
"""A path info that refers to nothing, and may be deleted."""

BLOBS: dict[B3Digest, HashedBlob] = {blob.digest: blob for blob in [*LOOSE, *_FILES]}
DIRECTORIES: dict[B3Digest, Directory] = {
    directory.digest: directory for path in PATHS for directory in path.directories
}
