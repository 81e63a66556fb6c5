"""What blob services have in common that are read from several others in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.blob import BlobReader, BlobService, ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.errors import Unsupported
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.asking import Asking
from tvix_store_spread.reader import FailoverReader
from tvix_store_spread.upkeep import damages_of, in_all, listed_once, total_stats

__all__ = ["SeveralBlobService"]


class SeveralBlobService(BlobService):
    """Reads from several services; a subclass says what writes do.

    Args:
        name: Of the entry.
        members: The services by name; not closed with this.
        asking: How they are asked.
    """

    relays = True

    def __init__(self, name: str, members: Mapping[str, BlobService], asking: Asking[BlobService, B3Digest]) -> None:
        self.name = name
        self.members = members
        self._asking = asking

    async def has(self, digest: B3Digest) -> bool:
        async def ask(member: BlobService) -> bool | None:
            return await member.has(digest) or None

        return await self._asking.first(digest, ask) is not None

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        asking = self._asking
        opened = await asking.first_with_member(digest, lambda member: member.open_read(digest))
        if opened is None or not asking.skips_errors:
            return None if opened is None else opened[1]
        others = asking.order(opened[0])[1:]
        return FailoverReader(digest, asking.members, opened, others, asking.noticed)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        """As the first gives them that has the blob; those of another may be cut elsewhere."""
        return await self._asking.first(digest, lambda member: member.chunks(digest))

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        async def ask(member: BlobService, batch: Sequence[B3Digest]) -> Sequence[bool | None]:
            return [answer or None for answer in await member.has_many(batch)]

        return [answer is not None for answer in await self._asking.many(digests, ask)]

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        return await self._asking.many(
            digests, lambda member, batch: member.get_many(batch, max_blob_bytes=max_blob_bytes)
        )

    def list(self) -> AsyncIterator[B3Digest]:
        members = list(self.members.values())
        if not self.capabilities.list:
            raise Unsupported(f"{self.name}: not all of its services can list")

        async def lacked_by(position: int, digests: Sequence[B3Digest]) -> Sequence[B3Digest]:
            answers = await members[position].has_many(digests)
            return [digest for digest, answer in zip(digests, answers, strict=True) if not answer]

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

    async def compact(self) -> int:
        """Of those that can."""
        able = [member for member in self.members.values() if member.capabilities.compact]
        if not able:
            raise Unsupported(f"{self.name}: none of its services can compact")
        return sum(await in_all(able, lambda member: member.compact()))

    async def sync(self) -> None:
        await in_all([*self.members.values()], lambda member: member.sync())
