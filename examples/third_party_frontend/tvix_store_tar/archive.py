"""A tree of the store as a tar archive: its members, its size before anything is read, and its bytes."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

from tvix_store.blob import BlobService
from tvix_store.errors import DanglingReference, InvalidObject, LimitExceeded
from tvix_store.limits import BATCH_COUNT, MIB, SMALL_BLOB_BYTES
from tvix_store.nar_render import Tree
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode

__all__ = ["archive_size", "render_archive"]

_BATCH_BYTES = 4 * MIB
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True, slots=True)
class _Member:
    """A header, and the file whose contents follow it."""

    header: bytes
    file: FileNode | None

    @property
    def content_bytes(self) -> int:
        return 0 if self.file is None else self.file.size


def archive_size(tree: Tree, name: bytes, max_entries: int) -> int:
    """How many bytes the archive has.

    Args:
        tree: What is in it.
        name: What its root is called.
        max_entries: How many members it may have. A small store can hold a tree that never ends for all purposes.

    Raises:
        LimitExceeded: There are more.
    """
    size = len(_END)
    for n_members, member in enumerate(_members(tree, name), 1):
        if n_members > max_entries:
            raise LimitExceeded(f"more than {max_entries} files, directories and symlinks")
        size += len(member.header) + member.content_bytes + len(_padding(member.content_bytes))
    return size


async def render_archive(tree: Tree, name: bytes, blobs: BlobService) -> AsyncGenerator[bytes]:
    """The bytes of the archive, in pieces. Whoever may stop before the end closes it.

    Raises:
        DanglingReference: A blob is absent.
        InvalidObject: A blob is longer or shorter than its node says.
    """
    members = _members(tree, name)
    while batch := await asyncio.to_thread(_batch, members):
        small = [member.file for member in batch if _is_small(member.file)]
        contents = iter(await blobs.get_many([file.digest for file in small if file is not None]))
        for member in batch:
            yield member.header
            if member.file is None:
                continue
            if _is_small(member.file):
                data = next(contents)
                if data is None:
                    raise _absent(member.file)
                if len(data) != member.file.size:
                    raise _wrong_size(member.file)
                yield data
            else:
                async for piece in _stream(member.file, blobs):
                    yield piece
            if padding := _padding(member.file.size):
                yield padding
    yield _END


async def _stream(file: FileNode, blobs: BlobService) -> AsyncGenerator[bytes]:
    reader = await blobs.open_read(file.digest)
    if reader is None:
        raise _absent(file)
    left = file.size
    async with reader:
        while piece := await reader.read():
            left -= len(piece)
            if left < 0:
                raise _wrong_size(file)
            yield piece
    if left:
        raise _wrong_size(file)


def _is_small(file: FileNode | None) -> bool:
    return file is not None and file.size <= SMALL_BLOB_BYTES


def _batch(members: Iterator[_Member]) -> Sequence[_Member]:
    """The next members, up to as much as is fetched at once."""
    batch: list[_Member] = []
    n_bytes = 0
    while n_bytes < _BATCH_BYTES and len(batch) < BATCH_COUNT and (member := next(members, None)) is not None:
        batch.append(member)
        n_bytes += member.content_bytes if _is_small(member.file) else 0
    return batch


def _members(tree: Tree, name: bytes) -> Iterator[_Member]:
    """The root, then what is below it, in the order of names."""
    pending: list[Iterator[tuple[bytes, Node]]] = [iter([(name, tree.root)])]
    while pending:
        for path, node in pending[-1]:
            yield _Member(_header(path, node), node if isinstance(node, FileNode) else None)
            if isinstance(node, DirectoryNode):
                pending.append(_below(path, tree.directories[node.digest]))
                break
        else:
            pending.pop()


def _below(path: bytes, directory: Directory) -> Iterator[tuple[bytes, Node]]:
    for name, node in directory.items():
        yield path + b"/" + name, node


def _header(path: bytes, node: Node) -> bytes:
    """The header of a member: of nobody, as old as everything in a Nix store, and not to be written to."""
    member = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
    member.mtime = 1
    match node:
        case DirectoryNode():
            member.type, member.mode = tarfile.DIRTYPE, 0o555
        case SymlinkNode(target):
            member.type, member.mode = tarfile.SYMTYPE, 0o777
            member.linkname = target.decode("utf-8", "surrogateescape")
        case FileNode():
            member.size, member.mode = node.size, 0o555 if node.executable else 0o444
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")  # any bytes, any length


def _padding(content_bytes: int) -> bytes:
    return bytes(-content_bytes % _BLOCK)


def _absent(file: FileNode) -> DanglingReference:
    return DanglingReference(f"blob {file.digest} does not exist")


def _wrong_size(file: FileNode) -> InvalidObject:
    return InvalidObject(f"blob {file.digest} does not have the {file.size} bytes that its node says")
