"""Extended attributes: digests, and what is known of store paths."""

from __future__ import annotations

from collections.abc import Iterator

from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.nodes import DirectoryNode, FileNode, Node
from tvix_store.path_info import PathMetadata

__all__ = ["xattrs_of"]


def xattrs_of(node: Node, metadata: PathMetadata | None) -> dict[bytes, bytes]:
    """Names and values of the extended attributes, in the order they are listed in.

    The digest has the name and the text that tvix gives it, and those that snix does. The other names are our own.

    Args:
        node: Symlinks have no digest.
        metadata: Of the store path, if the node is the root of one.
    """
    values: dict[bytes, str] = {}
    if isinstance(node, FileNode | DirectoryNode):
        kind = b"blob" if isinstance(node, FileNode) else b"directory"
        values[b"user.tvix.castore.%b.digest" % kind] = node.digest.tvix_text
        values[b"user.snix.castore.%b.digest" % kind] = str(node.digest)
    if metadata is not None:
        values.update(_of_store_path(metadata))
    return {name: value.encode() for name, value in values.items()}


def _of_store_path(metadata: PathMetadata) -> Iterator[tuple[bytes, str]]:
    """What is empty or not known has no attribute."""
    yield b"user.tvix.store.nar_sha256", f"sha256:{nixbase32(metadata.nar_sha256)}"
    yield b"user.tvix.store.nar_size", str(metadata.nar_size)
    if metadata.references:
        yield b"user.tvix.store.references", " ".join(path.base_name for path in metadata.references)
    if metadata.deriver is not None:
        yield b"user.tvix.store.deriver", f"{metadata.deriver.base_name}.drv"
    if metadata.signatures:
        yield b"user.tvix.store.signatures", " ".join(map(str, metadata.signatures))
    if metadata.ca is not None:
        yield b"user.tvix.store.ca", str(metadata.ca)
