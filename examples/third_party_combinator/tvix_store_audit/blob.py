"""A blob service whose puts and deletions are written down."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.forwarding import ForwardingBlobService

from tvix_store_audit.log import Audit

__all__ = ["AuditBlobService"]


class AuditBlobService(ForwardingBlobService):
    """Hands every call on, and writes down those that change something.

    Args:
        inner: The service; not closed with this.
        audit: Where they are written down.
    """

    relays = True  # what is read comes from `inner` as it is

    def __init__(self, inner: BlobService, audit: Audit) -> None:
        super().__init__(inner)
        self._audit = audit

    async def open_write(self) -> BlobWriter:
        return _Writer(await self.inner.open_write(), self._audit)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        if blobs:
            digests = [blob.digest for blob in blobs]
            await self._audit.around(Kind.BLOB, "put", digests, lambda: self.inner.put_many(blobs))

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        if digests:
            await self._audit.around(Kind.BLOB, "delete", digests, lambda: self.inner.delete(digests))
        else:
            await self.inner.delete(digests)  # which may say that it never does that

    async def discard_corrupt(self, digest: B3Digest) -> None:
        operation = self.inner.discard_corrupt
        await self._audit.around(Kind.BLOB, "discard_corrupt", [digest], lambda: operation(digest))


class _Writer(BlobWriter):
    def __init__(self, inner: BlobWriter, audit: Audit) -> None:
        self._inner = inner
        self._audit = audit
        self._digest: B3Digest | None = None

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> B3Digest:
        if self._digest is None:
            self._digest = await self._audit.around(Kind.BLOB, "put", [], self._inner.close)
        return self._digest

    async def aclose(self) -> None:
        await self._inner.aclose()
