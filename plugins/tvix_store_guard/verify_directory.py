"""Directories that are read back when they are put, and replaced when they are found to be corrupt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject, StoreError
from tvix_store.forwarding import ForwardingDirectoryService
from tvix_store.limits import BATCH_COUNT
from tvix_store.nodes import Directory
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_guard.healing import Findings, Healing, put_and_read_back
from tvix_store_guard.quarantine import Quarantine

__all__ = ["VerifyDirectoryService"]


class VerifyDirectoryService(ForwardingDirectoryService):
    """A directory service that is not taken at its word. Its answers have been checked by core.

    Args:
        name: Of the entry.
        inner: The service; not closed with this.
        refetch: Where sound copies of what is corrupt come from; not closed with this.
        on_put: Whether what was put is read back.
        on_get: Whether what is corrupt is written down, and replaced, when it is read.
        quarantine: Where it is written down what is corrupt.
    """

    relays = True

    def __init__(
        self,
        name: str,
        inner: DirectoryService,
        *,
        refetch: DirectoryService | None = None,
        on_put: bool = True,
        on_get: bool = True,
        quarantine: Quarantine | None = None,
    ) -> None:
        super().__init__(inner)
        self.findings = Findings(name, "directory", quarantine)
        self._refetch = refetch
        self._on_put = on_put
        self._on_get = on_get
        fetch = None if refetch is None else refetch.get_many
        self._healing: Healing[B3Digest, Directory] = Healing(self.findings, str, fetch, inner.put_many)

    async def get(self, digest: B3Digest) -> Directory | None:
        try:
            return await self.inner.get(digest)
        except CorruptObject as exc:
            if not self._on_get:
                raise
            return (await self._healing.replaced([digest], exc))[digest]

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        if not self._on_get:
            return await self.inner.get_many(digests)
        return await self._healing.get_many(digests, self.inner.get_many)

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        given: set[B3Digest] = set()
        try:
            async for directory in self.inner.get_recursive(root):
                given.add(directory.digest)
                yield directory
            return
        except CorruptObject as exc:  # one that is missing is among these, too
            if not self._on_get:
                raise
            await self.findings.note(exc.expected, str(exc))
            if self._refetch is None:
                raise
            failure = exc
        async for directory in self._rest(self._refetch, root, given, failure):
            yield directory

    async def _rest(
        self, refetch: DirectoryService, root: B3Digest, given: set[B3Digest], failure: CorruptObject
    ) -> AsyncIterator[Directory]:
        """The tree as ``refetch`` has it, without what was given; it is put back as it comes."""
        batch: list[Directory] = []
        is_there = False
        try:
            async for directory in refetch.get_recursive(root):
                is_there = True
                if directory.digest in given:
                    continue
                batch.append(directory)
                if len(batch) == BATCH_COUNT:
                    await self.inner.put_many(batch)
                    for put in batch:
                        yield put
                    batch = []
            if batch:
                await self.inner.put_many(batch)
        except StoreError as exc:
            raise failure from exc
        if not is_there:
            raise failure
        for directory in batch:
            yield directory

    async def put(self, directory: Directory) -> None:
        async def put() -> Mapping[B3Digest, Directory]:
            await self.inner.put(directory)
            return {directory.digest: directory}

        async def read(digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
            return [await self.inner.get(digest) for digest in digests]

        if self._on_put:
            await put_and_read_back(self.findings, str, put, read, lambda _, given, found: given == found)
        else:
            await self.inner.put(directory)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        async def put() -> Mapping[B3Digest, Directory]:
            await self.inner.put_many(directories)
            return {directory.digest: directory for directory in directories}

        if self._on_put and directories:
            read = self.inner.get_many
            await put_and_read_back(self.findings, str, put, read, lambda _, given, found: given == found)
        else:
            await self.inner.put_many(directories)

    async def put_multiple_start(self) -> DirectoryPutter:
        putter = await self.inner.put_multiple_start()
        return _ReadBackPutter(self, putter) if self._on_put else putter

    async def read_back(self, digests: Sequence[B3Digest]) -> None:
        """See that directories which were put are there, and replace those that are not.

        Raises:
            CorruptObject: There is no sound copy of one of them.
        """
        found = await self._healing.get_many(digests, self.inner.get_many)
        missing = [digest for digest, directory in zip(digests, found, strict=True) if directory is None]
        for digest in missing:
            await self._healing.replaced([digest], self.findings.differs(str(digest)))

    async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        async for damage in self.inner.verify(progress):
            await self.findings.note(damage.digest, str(damage))
            yield damage


class _ReadBackPutter(DirectoryPutter):
    """An upload whose directories are all read before ``close`` returns. Holds their digests."""

    def __init__(self, service: VerifyDirectoryService, inner: DirectoryPutter) -> None:
        self._service = service
        self._inner = inner
        self._digests: dict[B3Digest, None] = {}

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self._inner.put_many(directories)
        self._digests.update((directory.digest, None) for directory in directories)

    async def close(self) -> B3Digest:
        root = await self._inner.close()
        digests = list(self._digests)
        for start in range(0, len(digests), BATCH_COUNT):
            await self._service.read_back(digests[start : start + BATCH_COUNT])
        self._digests.clear()
        return root

    async def aclose(self) -> None:
        self._digests.clear()
        await self._inner.aclose()
