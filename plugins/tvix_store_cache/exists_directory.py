"""Directories of which it is remembered that they are absent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.forwarding import ForwardingDirectoryService
from tvix_store.nodes import Directory
from tvix_store_cache.answers import Answers

__all__ = ["ExistsDirectoryService"]


class ExistsDirectoryService(ForwardingDirectoryService):
    """Remembers which directories ``inner`` lacks.

    Args:
        inner: The service; not closed with this.
        answers: What it said.
    """

    relays = True

    def __init__(self, inner: DirectoryService, answers: Answers) -> None:
        super().__init__(inner)
        self.answers = answers

    async def get(self, digest: B3Digest) -> Directory | None:
        if digest.raw in self.answers.absent:
            return None
        with self.answers.asking() as asking:
            found = await self.inner.get(digest)
            asking.learn([digest.raw], [found is not None])
        return found

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        asked = [digest for digest in digests if digest.raw not in self.answers.absent]
        if not asked:
            return [None] * len(digests)
        with self.answers.asking() as asking:
            found = await self.inner.get_many(asked)
            asking.learn([digest.raw for digest in asked], [hit is not None for hit in found])
        directories = dict(zip(asked, found, strict=True))
        return [directories.get(digest) for digest in digests]

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        if root.raw in self.answers.absent:
            return
        tree = self.inner.get_recursive(root)
        with self.answers.asking() as asking:
            first = await anext(tree, None)
            asking.learn([root.raw], [first is not None])
        if first is not None:
            yield first
            async for directory in tree:
                yield directory

    async def put(self, directory: Directory) -> None:
        with self.answers.putting([directory.digest.raw]):
            await self.inner.put(directory)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        with self.answers.putting(directory.digest.raw for directory in directories):
            await self.inner.put_many(directories)

    async def put_multiple_start(self) -> DirectoryPutter:
        return _ExistsPutter(await self.inner.put_multiple_start(), self.answers)


class _ExistsPutter(DirectoryPutter):
    def __init__(self, inner: DirectoryPutter, answers: Answers) -> None:
        self._inner = inner
        self._answers = answers

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self._inner.put_many(directories)

    async def close(self) -> B3Digest:
        try:
            return await self._inner.close()
        finally:
            self._answers.put_something()

    async def aclose(self) -> None:
        await self._inner.aclose()
