"""Finding a node below another by path, and turning what a user types into a path in the store."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.directory import DirectoryService
from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.nixbase32 import decode_fixed
from tvix_store.nodes import DirectoryNode, Node, validate_name
from tvix_store.path_info import OUTPUT_HASH_BYTES
from tvix_store.store_path import HASH_PART_LENGTH, STORE_DIR, StorePath

__all__ = ["descend", "parse_location", "split_path"]


def split_path(path: bytes) -> tuple[bytes, ...]:
    """The components of a relative path; repeated and trailing slashes make no difference.

    Raises:
        InvalidObject: A component is no valid name, ``.`` and ``..`` among them.
    """
    components = tuple(part for part in path.split(b"/") if part)
    for component in components:
        validate_name(component)
    return components


async def descend(node: Node, components: Sequence[bytes], directories: DirectoryService) -> Node | None:
    """The node that ``components`` lead to from ``node``; ``None`` if there is none, also below a file or symlink.

    Raises:
        DanglingReference: A directory on the way is absent from the store.
    """
    for component in components:
        if not isinstance(node, DirectoryNode):
            return None
        directory = await directories.get(node.digest)
        if directory is None:
            raise DanglingReference(f"directory {node.digest} does not exist")
        found = directory.get(component)
        if found is None:
            return None
        node = found
    return node


def parse_location(text: str, store_dir: str = STORE_DIR) -> tuple[bytes, str | None, tuple[bytes, ...]]:
    """What a user means by a store path.

    Args:
        text: An absolute store path, its base name or its 32-character hash part, with or without a path below it.
        store_dir: Where store paths lie.

    Returns:
        The digest of the store path (20 bytes), its name unless only the hash part was given, and the components of
        the path below it.

    Raises:
        InvalidObject: It is none of these.
    """
    relative = text.removeprefix(f"{store_dir}/")
    if relative.startswith("/"):
        raise InvalidObject(f"{text[:300]!r} is not below {store_dir}")
    base, _, rest = relative.partition("/")
    below = split_path(rest.encode("utf-8", "surrogateescape"))
    if len(base) == HASH_PART_LENGTH:
        return decode_fixed(base, OUTPUT_HASH_BYTES), None, below
    path = StorePath.from_base_name(base)
    return path.digest, path.name, below
