"""A directory service whose puts and deletions are written down."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.config import Kind
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.forwarding import ForwardingDirectoryService
from tvix_store.nodes import Directory

from tvix_store_audit.log import Audit

__all__ = ["AuditDirectoryService"]


class AuditDirectoryService(ForwardingDirectoryService):
    """Hands every call on, and writes down those that change something.

    Args:
        inner: The service; not closed with this.
        audit: Where they are written down.
    """

    relays = True

    def __init__(self, inner: DirectoryService, audit: Audit) -> None:
        super().__init__(inner)
        self._audit = audit

    async def put(self, directory: Directory) -> None:
        await self._audit.around(Kind.DIRECTORY, "put", [directory.digest], lambda: self.inner.put(directory))

    async def put_many(self, directories: Sequence[Directory]) -> None:
        if directories:
            digests = [directory.digest for directory in directories]
            await self._audit.around(Kind.DIRECTORY, "put", digests, lambda: self.inner.put_many(directories))

    async def put_multiple_start(self) -> DirectoryPutter:
        return _Putter(await self.inner.put_multiple_start(), self._audit)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        if digests:
            await self._audit.around(Kind.DIRECTORY, "delete", digests, lambda: self.inner.delete(digests))
        else:
            await self.inner.delete(digests)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        operation = self.inner.discard_corrupt
        await self._audit.around(Kind.DIRECTORY, "discard_corrupt", [digest], lambda: operation(digest))


class _Putter(DirectoryPutter):
    """An upload; the line names the root, which stands for all that is below it."""

    def __init__(self, inner: DirectoryPutter, audit: Audit) -> None:
        self._inner = inner
        self._audit = audit
        self._root: B3Digest | None = None

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self._inner.put_many(directories)

    async def close(self) -> B3Digest:
        if self._root is None:
            self._root = await self._audit.around(Kind.DIRECTORY, "put_closure", [], self._inner.close)
        return self._root

    async def aclose(self) -> None:
        await self._inner.aclose()
