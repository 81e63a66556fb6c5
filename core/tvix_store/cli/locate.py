"""From what a user types to what it means in the store."""

from __future__ import annotations

from tvix_store.errors import StoreError
from tvix_store.frontend import Services
from tvix_store.lookup import descend, parse_location
from tvix_store.nodes import Node
from tvix_store.path_info import PathInfo

__all__ = ["NotFound", "find_path_info", "locate"]


class NotFound(StoreError):
    """What the user asked for is not in the store."""

    code = "NOT_FOUND"


async def find_path_info(services: Services, location: str) -> tuple[PathInfo, tuple[bytes, ...]]:
    """The path info that ``location`` begins with, and the components of the path below it.

    Raises:
        InvalidObject: ``location`` is no store path.
        NotFound: The store does not have it.
    """
    digest, name, components = parse_location(location)
    path_info = await services.path_infos.get(digest)
    if path_info is None:
        raise NotFound(f"{location}: no such path in the store")
    if name not in (None, path_info.store_path.name):
        raise NotFound(f"{location}: no such path in the store, there is {path_info.store_path}")
    return path_info, components


async def locate(services: Services, location: str) -> Node:
    """The node at ``location``, a store path with or without a path below it.

    Raises:
        InvalidObject: ``location`` is no store path.
        NotFound: There is nothing there.
    """
    path_info, components = await find_path_info(services, location)
    node = await descend(path_info.node, components, services.directories)
    if node is None:
        raise NotFound(f"{location}: {path_info.store_path} has no such file")
    return node
