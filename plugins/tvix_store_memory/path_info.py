"""Path infos in a dict, as their encodings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.statistics import ServiceStats
from tvix_store.wire import decode_path_info, encode_path_info

__all__ = ["MemoryPathInfoService"]


class MemoryPathInfoService(PathInfoService):
    """Path infos in memory.

    ``encodings`` holds them by the digests of their paths; tests may damage it.

    Args:
        name: Of the service, for messages.
    """

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.encodings: dict[bytes, bytes] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    def _decoded(self, digest: bytes, encoded: bytes) -> PathInfo:
        try:
            path_info = decode_path_info(encoded)
            if path_info.store_path.digest != digest:
                raise InvalidObject(f"it is about another path, {path_info.store_path}")
        except InvalidObject as exc:
            raise CorruptObject(
                f"{self._name}: path info {digest.hex()} is corrupt: {exc}", expected=digest.hex()
            ) from exc
        return path_info

    async def get(self, digest: bytes) -> PathInfo | None:
        encoded = self.encodings.get(digest)
        return None if encoded is None else self._decoded(digest, encoded)

    async def put(self, path_info: PathInfo) -> PathInfo:
        self.encodings[path_info.store_path.digest] = encode_path_info(path_info)
        return path_info

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        return [await self.get(digest) for digest in digests]

    async def list(self) -> AsyncIterator[PathInfo]:
        for digest, encoded in tuple(self.encodings.items()):
            yield self._decoded(digest, encoded)

    async def delete(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            self.encodings.pop(digest, None)

    async def stats(self) -> ServiceStats:
        n_bytes = sum(map(len, self.encodings.values()))
        return ServiceStats(len(self.encodings), n_bytes, n_bytes)

    async def discard_corrupt(self, digest: bytes) -> None:
        encoded = self.encodings.get(digest)
        if encoded is None:
            return
        try:
            self._decoded(digest, encoded)
        except CorruptObject:
            del self.encodings[digest]
