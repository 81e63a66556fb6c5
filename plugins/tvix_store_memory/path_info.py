"""Path infos in a dict, as their encodings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.path_info import PathInfo, PathInfoService
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
            return decode_path_info(encoded)
        except InvalidObject as exc:
            raise CorruptObject(
                f"{self._name}: path info {digest.hex()} is corrupt: {exc}", expected=digest.hex()
            ) from exc

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

    async def discard_corrupt(self, digest: bytes) -> None:
        encoded = self.encodings.get(digest)
        if encoded is None:
            return
        try:
            if self._decoded(digest, encoded).store_path.digest == digest:
                return
        except CorruptObject:
            pass
        del self.encodings[digest]
