"""Path infos that are signed on their way into another service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tvix_store.forwarding import ForwardingPathInfoService
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.signing import SecretKey

__all__ = ["SigningPathInfoService"]


class SigningPathInfoService(ForwardingPathInfoService):
    """Adds signatures to what is put; all else is the other service's.

    Args:
        inner: Where path infos are kept; not closed with this one, because others may refer to it.
        keys: Each adds its signature.
    """

    def __init__(self, inner: PathInfoService, keys: Sequence[SecretKey]) -> None:
        super().__init__(inner)
        self._keys = tuple(keys)

    def _signed(self, path_info: PathInfo) -> PathInfo:
        for key in self._keys:
            path_info = key.signed(path_info)
        return path_info

    def _signed_many(self, path_infos: Sequence[PathInfo]) -> list[PathInfo]:
        return [self._signed(path_info) for path_info in path_infos]

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self.inner.put(self._signed(path_info))

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        # A batch takes some 50 ms a key, which is too long for the event loop.
        return await self.inner.put_many(await asyncio.to_thread(self._signed_many, path_infos))
