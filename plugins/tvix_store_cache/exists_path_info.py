"""Path infos of which it is remembered that they are absent."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.forwarding import ForwardingPathInfoService
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store_cache.answers import Answers

__all__ = ["ExistsPathInfoService"]


class ExistsPathInfoService(ForwardingPathInfoService):
    """Remembers which path infos ``inner`` lacks.

    Args:
        inner: The service; not closed with this.
        answers: What it said.
    """

    relays = True

    def __init__(self, inner: PathInfoService, answers: Answers) -> None:
        super().__init__(inner)
        self.answers = answers

    async def get(self, digest: bytes) -> PathInfo | None:
        if digest in self.answers.absent:
            return None
        with self.answers.asking() as asking:
            found = await self.inner.get(digest)
            asking.learn([digest], [found is not None])
        return found

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        if digest in self.answers.absent:
            return None
        with self.answers.asking() as asking:
            found = await self.inner.get_metadata(digest)
            asking.learn([digest], [found is not None])
        return found

    async def open_nar(self, digest: bytes) -> NarStream | None:
        return None if digest in self.answers.absent else await self.inner.open_nar(digest)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        asked = [digest for digest in digests if digest not in self.answers.absent]
        if not asked:
            return [None] * len(digests)
        with self.answers.asking() as asking:
            found = await self.inner.get_many(asked)
            asking.learn(asked, [hit is not None for hit in found])
        path_infos = dict(zip(asked, found, strict=True))
        return [path_infos.get(digest) for digest in digests]

    async def put(self, path_info: PathInfo) -> PathInfo:
        with self.answers.putting([path_info.store_path.digest]):
            return await self.inner.put(path_info)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        with self.answers.putting(path_info.store_path.digest for path_info in path_infos):
            return await self.inner.put_many(path_infos)
