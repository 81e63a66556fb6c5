"""Path infos, each in one of several services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.errors import Unsupported
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.capabilities import shard_capabilities
from tvix_store_spread.path_info import nar_calculation_of
from tvix_store_spread.sharding import Sharding
from tvix_store_spread.upkeep import damages_of, in_all, total_stats

__all__ = ["ShardPathInfoService"]


class ShardPathInfoService(PathInfoService):
    """Each path info is in the service that the digest of its store path says.

    Args:
        name: Of the entry.
        members: The shards by name; not closed with this.
        weights: Of the shards by name; 1 where none is given.
    """

    relays = True

    def __init__(self, name: str, members: Mapping[str, PathInfoService], weights: Mapping[str, float]) -> None:
        self.name = name
        self.members = members
        self.sharding = Sharding(members, weights)

    @property
    def capabilities(self) -> Capabilities:
        return shard_capabilities([member.capabilities for member in self.members.values()])

    async def get(self, digest: bytes) -> PathInfo | None:
        return await self.sharding.owner(digest).get(digest)

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self.sharding.owner(path_info.store_path.digest).put(path_info)

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return await self.sharding.owner(digest).get_metadata(digest)

    async def open_nar(self, digest: bytes) -> NarStream | None:
        return await self.sharding.owner(digest).open_nar(digest)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        keyed = [(digest, digest) for digest in digests]
        return await self.sharding.many(keyed, lambda member, batch: member.get_many(batch))

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        keyed = [(path_info.store_path.digest, path_info) for path_info in path_infos]
        return await self.sharding.many(keyed, lambda member, batch: member.put_many(batch))

    def list(self) -> AsyncIterator[PathInfo]:
        if not self.capabilities.list:
            raise Unsupported(f"{self.name}: not all of its shards can list")
        return self.sharding.listed(lambda member: member.list(), lambda path_info: path_info.store_path.digest)

    async def delete(self, digests: Sequence[bytes]) -> None:
        if not self.capabilities.delete:
            raise Unsupported(f"{self.name}: not all of its shards can delete")
        keyed = [(digest, digest) for digest in digests]
        await self.sharding.each(keyed, lambda member, batch: member.delete(batch))

    async def discard_corrupt(self, digest: bytes) -> None:
        await self.sharding.owner(digest).discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return total_stats(await in_all([*self.members.values()], lambda member: member.stats()), "shards")

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return damages_of(self.members, progress)

    def nar_calculation(self) -> NarCalculationService | None:
        """Of the shards that have one, in the order of the configuration: the contents are not sharded by path."""
        return nar_calculation_of([*self.members.values()], skips_errors=False)
