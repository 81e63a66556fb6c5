"""What combinators begin with: a service that passes every call on to another one.

A subclass overrides what it is about. Closing is not passed on, since others may refer to the same service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress

__all__ = ["ForwardingPathInfoService"]


class ForwardingPathInfoService(PathInfoService):
    """A path info service that is another one, but for what a subclass does otherwise.

    Args:
        inner: The other one; not closed with this.
    """

    def __init__(self, inner: PathInfoService) -> None:
        self.inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def get(self, digest: bytes) -> PathInfo | None:
        return await self.inner.get(digest)

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self.inner.put(path_info)

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return await self.inner.get_metadata(digest)

    async def open_nar(self, digest: bytes) -> NarStream | None:
        return await self.inner.open_nar(digest)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        return await self.inner.get_many(digests)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        return await self.inner.put_many(path_infos)

    def list(self) -> AsyncIterator[PathInfo]:
        return self.inner.list()

    async def delete(self, digests: Sequence[bytes]) -> None:
        await self.inner.delete(digests)

    async def discard_corrupt(self, digest: bytes) -> None:
        await self.inner.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self.inner.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.inner.verify(progress)

    def nar_calculation(self) -> NarCalculationService | None:
        return self.inner.nar_calculation()
