"""Directories, each in one of several services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import Unsupported
from tvix_store.nodes import Directory
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.capabilities import shard_capabilities
from tvix_store_spread.sharding import Sharding
from tvix_store_spread.upkeep import damages_of, in_all, total_stats

__all__ = ["ShardDirectoryService"]


class ShardDirectoryService(DirectoryService):
    """Each directory is in the service that its digest says; a tree is read level by level, and put as batches.

    Args:
        name: Of the entry.
        members: The shards by name; not closed with this.
        weights: Of the shards by name; 1 where none is given.
    """

    relays = True

    def __init__(self, name: str, members: Mapping[str, DirectoryService], weights: Mapping[str, float]) -> None:
        self.name = name
        self.members = members
        self.sharding = Sharding(members, weights)

    @property
    def capabilities(self) -> Capabilities:
        return shard_capabilities([member.capabilities for member in self.members.values()])

    async def get(self, digest: B3Digest) -> Directory | None:
        return await self.sharding.owner(digest.raw).get(digest)

    async def put(self, directory: Directory) -> None:
        await self.sharding.owner(directory.digest.raw).put(directory)

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        return await self.sharding.many(_keyed(digests), lambda member, batch: member.get_many(batch))

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self.sharding.each(
            [(directory.digest.raw, directory) for directory in directories],
            lambda member, batch: member.put_many(batch),
        )

    def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        return super().get_recursive(root)

    async def put_multiple_start(self) -> DirectoryPutter:
        return await super().put_multiple_start()

    def list(self) -> AsyncIterator[B3Digest]:
        if not self.capabilities.list:
            raise Unsupported(f"{self.name}: not all of its shards can list")
        return self.sharding.listed(lambda member: member.list(), lambda digest: digest.raw)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        if not self.capabilities.delete:
            raise Unsupported(f"{self.name}: not all of its shards can delete")
        await self.sharding.each(_keyed(digests), lambda member, batch: member.delete(batch))

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await self.sharding.owner(digest.raw).discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return total_stats(await in_all([*self.members.values()], lambda member: member.stats()), "shards")

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return damages_of(self.members, progress)

    async def sync(self) -> None:
        await in_all([*self.members.values()], lambda member: member.sync())


def _keyed(digests: Sequence[B3Digest]) -> Sequence[tuple[bytes, B3Digest]]:
    return [(digest.raw, digest) for digest in digests]
