"""Whether contents in the store have the content address that a path info states for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from tvix_store.blob import BlobService
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.directory import DirectoryService
from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import MIB
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.store_path import HashModulo

__all__ = ["check_content_address"]

_IN_THREAD_BYTES = 1 * MIB
"""How much goes to a thread to be hashed at once."""


async def check_content_address(path_info: PathInfo, blobs: BlobService, directories: DirectoryService) -> None:
    """Check that the contents of ``path_info`` have the content address it states.

    Nothing is read if the address is the SHA-256 of the NAR, which ``path_info`` has. Whether the store path follows
    from the content address is another question, see ``trust``.

    Args:
        path_info: Its ``nar_sha256`` is that of the contents. Without ``ca`` there is nothing to check.
        blobs: Where the contents are.
        directories: Where the directories are.

    Raises:
        InvalidObject: They have another one; or they are hashed as one file, and are no file or an executable one.
        DanglingReference: Contents are missing.
    """
    ca = path_info.ca
    if ca is None:
        return
    actual = ContentAddress(ca.method, NixHash(ca.hash.algorithm, await _digest(path_info, ca, blobs, directories)))
    if actual != ca:
        raise _wrong(path_info, ca, f"they have {actual}")


async def _digest(path_info: PathInfo, ca: ContentAddress, blobs: BlobService, directories: DirectoryService) -> bytes:
    """The hash of the contents, by method and algorithm of ``ca``."""
    algorithm = ca.hash.algorithm
    if ca.method is not ContentAddressMethod.NAR:
        if not isinstance(path_info.node, FileNode) or path_info.node.executable:
            raise _wrong(path_info, ca, f"it is for a file that is not executable, they are {_kind(path_info.node)}")
        hasher: _Hasher = algorithm.hasher()
        pieces = _contents(path_info.node, blobs)
    elif algorithm is HashAlgorithm.SHA256 and path_info.store_path not in path_info.references:
        return path_info.nar_sha256
    else:
        # Only contents addressed by SHA-256 can refer to themselves, see ``store_path_for_ca``.
        is_sha256 = algorithm is HashAlgorithm.SHA256
        hasher = HashModulo(path_info.store_path.hash_part) if is_sha256 else algorithm.hasher()
        pieces = render_nar(await load_tree(path_info.node, directories), blobs)
    portion: list[bytes] = []
    n_bytes = 0
    async with aclosing(pieces):
        async for piece in pieces:
            portion.append(piece)
            n_bytes += len(piece)
            if n_bytes >= _IN_THREAD_BYTES:
                await asyncio.to_thread(hasher.update, b"".join(portion))
                portion.clear()
                n_bytes = 0
    hasher.update(b"".join(portion))
    return hasher.digest()


async def _contents(node: FileNode, blobs: BlobService) -> AsyncGenerator[bytes]:
    reader = await blobs.open_read(node.digest)
    if reader is None:
        raise DanglingReference(f"blob {node.digest} does not exist")
    async with reader:
        while piece := await reader.read():
            yield piece


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


def _kind(node: Node) -> str:
    match node:
        case DirectoryNode():
            return "a directory"
        case SymlinkNode():
            return "a symlink"
        case FileNode():
            return "an executable one"


def _wrong(path_info: PathInfo, ca: ContentAddress, reason: str) -> InvalidObject:
    return InvalidObject(
        f"path info {path_info.store_path}: its contents do not have the content address {ca}: {reason}"
    )
