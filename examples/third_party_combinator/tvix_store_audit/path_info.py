"""A path info service whose puts and deletions are written down."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.config import Kind
from tvix_store.forwarding import ForwardingPathInfoService
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.path_info import PathInfo, PathInfoService

from tvix_store_audit.log import Audit

__all__ = ["AuditPathInfoService"]


class AuditPathInfoService(ForwardingPathInfoService):
    """Hands every call on, and writes down those that change something.

    Args:
        inner: The service; not closed with this.
        audit: Where they are written down.
    """

    relays = True

    def __init__(self, inner: PathInfoService, audit: Audit) -> None:
        super().__init__(inner)
        self._audit = audit

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self._audit.around(
            Kind.PATH_INFO, "put", [path_info.store_path], lambda: self.inner.put(path_info)
        )

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        if not path_infos:
            return []
        paths = [path_info.store_path for path_info in path_infos]
        return await self._audit.around(Kind.PATH_INFO, "put", paths, lambda: self.inner.put_many(path_infos))

    async def delete(self, digests: Sequence[bytes]) -> None:
        if digests:
            hash_parts = [nixbase32(digest) for digest in digests]
            await self._audit.around(Kind.PATH_INFO, "delete", hash_parts, lambda: self.inner.delete(digests))
        else:
            await self.inner.delete(digests)

    async def discard_corrupt(self, digest: bytes) -> None:
        operation = self.inner.discard_corrupt
        await self._audit.around(Kind.PATH_INFO, "discard_corrupt", [nixbase32(digest)], lambda: operation(digest))
