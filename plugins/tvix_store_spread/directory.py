"""What directory services have in common that are read from several others in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import Unsupported
from tvix_store.nodes import Directory
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.asking import Asking
from tvix_store_spread.trees import whole_tree
from tvix_store_spread.upkeep import damages_of, in_all, listed_once, released, total_stats

__all__ = ["SeveralDirectoryService"]


class SeveralDirectoryService(DirectoryService):
    """Reads from several services; a subclass says what writes do.

    Args:
        name: Of the entry.
        members: The services by name; not closed with this.
        asking: How they are asked.
    """

    relays = True

    def __init__(
        self, name: str, members: Mapping[str, DirectoryService], asking: Asking[DirectoryService, B3Digest]
    ) -> None:
        self.name = name
        self.members = members
        self._asking = asking

    async def get(self, digest: B3Digest) -> Directory | None:
        return await self._asking.first(digest, lambda member: member.get(digest))

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        return await self._asking.many(digests, lambda member, batch: member.get_many(batch))

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        """In one call to the member that has the root; what that one lacks is asked of all, level by level."""
        asking = self._asking
        lacking: list[int] = []

        async def ask(member: DirectoryService) -> Directory | None:
            if (found := await member.get(root)) is None:
                lacking.append(asking.members.index(member))
            return found

        found = await asking.first_with_member(root, ask)
        if found is None:
            return

        def seen(digest: B3Digest) -> None:
            if lacking:
                asking.noticed(digest, lacking)  # who lacks the root may lack all of it

        begun = asking.members[found[0]].get_recursive(root)
        tree = whole_tree(self, root, begun, skips_errors=asking.skips_errors, seen=seen)
        async with released(tree) as directories:
            async for directory in directories:
                yield directory

    def list(self) -> AsyncIterator[B3Digest]:
        members = list(self.members.values())
        if not self.capabilities.list:
            raise Unsupported(f"{self.name}: not all of its services can list")

        async def lacked_by(position: int, digests: Sequence[B3Digest]) -> Sequence[B3Digest]:
            answers = await members[position].get_many(digests)
            return [digest for digest, answer in zip(digests, answers, strict=True) if answer is None]

        return listed_once([member.list for member in members], lacked_by)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        """In all of them: what is left in one would be found again."""
        if not self.capabilities.delete:
            raise Unsupported(f"{self.name}: not all of its services can delete")
        await in_all([*self.members.values()], lambda member: member.delete(digests))

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await in_all([*self.members.values()], lambda member: member.discard_corrupt(digest))

    async def stats(self) -> ServiceStats:
        """The sum; what several have counts for each."""
        return total_stats(await in_all([*self.members.values()], lambda member: member.stats()), "services")

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return damages_of(self.members, progress)

    async def sync(self) -> None:
        await in_all([*self.members.values()], lambda member: member.sync())
