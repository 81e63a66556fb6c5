"""Which NARs have been fetched already, by their hashes: equal ones are not fetched again for another path."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator

from tvix_store.completeness import missing_contents
from tvix_store.frontend import Services
from tvix_store.nodes import Node
from tvix_store.path_info import PathInfo, PathMetadata

__all__ = ["StoredNars"]

_MAX_COUNT = 65_536


class StoredNars:
    """Roots of NARs by size and SHA-256, those that were last asked for.

    Args:
        services: Where their contents are.
        max_count: How many to remember.
    """

    def __init__(self, services: Services, max_count: int = _MAX_COUNT) -> None:
        self._services = services
        self._max_count = max_count
        self._roots: OrderedDict[tuple[int, bytes], Node] = OrderedDict()

    def remember(self, path_info: PathInfo) -> None:
        """The contents of this are stored."""
        key = (path_info.nar_size, path_info.nar_sha256)
        self._roots[key] = path_info.node
        self._roots.move_to_end(key)
        if len(self._roots) > self._max_count:
            self._roots.popitem(last=False)

    async def find(self, metadata: PathMetadata) -> PathInfo | None:
        """The path info, if a NAR like its own has been stored and nothing of that is missing now."""
        key = (metadata.nar_size, metadata.nar_sha256)
        node = self._roots.get(key)
        if node is None:
            return None
        self._roots.move_to_end(key)
        path_info = PathInfo.of(metadata, node)
        missing = missing_contents(self._services, _one(path_info))
        try:
            is_whole = await anext(missing, None) is None
        finally:
            if isinstance(missing, AsyncGenerator):
                await missing.aclose()
        if not is_whole:
            self._roots.pop(key, None)
            return None
        return path_info


async def _one(path_info: PathInfo) -> AsyncIterator[PathInfo]:
    yield path_info
