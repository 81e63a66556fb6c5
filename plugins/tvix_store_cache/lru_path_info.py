"""Path infos in memory, as long as they are used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.statistics import ServiceStats
from tvix_store.wire import decode_path_info, encode_path_info
from tvix_store_cache.lru import Lru

__all__ = ["LruPathInfoService"]


class LruPathInfoService(PathInfoService):
    """Path infos in memory; those that were not used for the longest time are forgotten.

    Args:
        name: Of the service, for messages.
        lru: Holds their encodings by the digests of their paths; tests may damage it.
    """

    def __init__(self, name: str, lru: Lru) -> None:
        self.name = name
        self.lru = lru

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    def _decoded(self, digest: bytes, encoded: bytes) -> PathInfo:
        try:
            path_info = decode_path_info(encoded)
            if path_info.store_path.digest != digest:
                raise InvalidObject(f"it is about another path, {path_info.store_path}")
        except InvalidObject as exc:
            message = f"{self.name}: path info {digest.hex()} is corrupt: {exc}"
            raise CorruptObject(message, expected=digest.hex()) from exc
        return path_info

    async def get(self, digest: bytes) -> PathInfo | None:
        encoded = self.lru.use(digest)
        return None if encoded is None else self._decoded(digest, encoded)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        return [await self.get(digest) for digest in digests]

    async def put(self, path_info: PathInfo) -> PathInfo:
        self.lru.put(path_info.store_path.digest, encode_path_info(path_info))
        return path_info

    async def list(self) -> AsyncIterator[PathInfo]:
        for digest, encoded in self.lru.items():
            yield self._decoded(digest, encoded)

    async def delete(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            self.lru.remove(digest)

    async def stats(self) -> ServiceStats:
        return self.lru.stats()

    async def discard_corrupt(self, digest: bytes) -> None:
        encoded = self.lru.look(digest)
        if encoded is None:
            return
        try:
            self._decoded(digest, encoded)
        except CorruptObject:
            self.lru.remove(digest)
