"""What path info services have in common that are read from several others in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.errors import DanglingReference, InvalidObject, StoreError, Unsupported
from tvix_store.nar_calculation import NarCalculationService, NarDigest
from tvix_store.nodes import Node
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.asking import Asking
from tvix_store_spread.upkeep import damages_of, in_all, listed_once, total_stats

__all__ = ["SeveralPathInfoService", "nar_calculation_of"]


class SeveralPathInfoService(PathInfoService):
    """Reads from several services; a subclass says what writes do.

    Args:
        name: Of the entry.
        members: The services by name; not closed with this.
        asking: How they are asked.
    """

    relays = True

    def __init__(
        self, name: str, members: Mapping[str, PathInfoService], asking: Asking[PathInfoService, bytes]
    ) -> None:
        self.name = name
        self.members = members
        self._asking = asking

    async def get(self, digest: bytes) -> PathInfo | None:
        return await self._asking.first(digest, lambda member: member.get(digest))

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return await self._asking.first(digest, lambda member: member.get_metadata(digest))

    async def open_nar(self, digest: bytes) -> NarStream | None:
        """Of the first that has a stream or the path; a stream that fails is not gone on with."""
        left = len(self.members)

        async def ask(member: PathInfoService) -> NarStream | PathMetadata | None:
            nonlocal left
            left -= 1
            stream = await member.open_nar(digest)
            if stream is not None or not left:
                return stream
            return await member.get_metadata(digest)  # who has it already has nothing to wait for

        found = await self._asking.first(digest, ask)
        return found if isinstance(found, NarStream) else None

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        return await self._asking.many(digests, lambda member, batch: member.get_many(batch))

    def list(self) -> AsyncIterator[PathInfo]:
        members = list(self.members.values())
        if not self.capabilities.list:
            raise Unsupported(f"{self.name}: not all of its services can list")

        async def lacked_by(position: int, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
            answers = await members[position].get_many([path_info.store_path.digest for path_info in path_infos])
            return [path_info for path_info, answer in zip(path_infos, answers, strict=True) if answer is None]

        return listed_once([member.list for member in members], lacked_by)

    async def delete(self, digests: Sequence[bytes]) -> None:
        """In all of them: what is left in one would be found again."""
        if not self.capabilities.delete:
            raise Unsupported(f"{self.name}: not all of its services can delete")
        await in_all([*self.members.values()], lambda member: member.delete(digests))

    async def discard_corrupt(self, digest: bytes) -> None:
        await in_all([*self.members.values()], lambda member: member.discard_corrupt(digest))

    async def stats(self) -> ServiceStats:
        """The sum; what several have counts for each."""
        return total_stats(await in_all([*self.members.values()], lambda member: member.stats()), "services")

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return damages_of(self.members, progress)

    def nar_calculation(self) -> NarCalculationService | None:
        return nar_calculation_of(self._asking.members, skips_errors=self._asking.skips_errors)


def nar_calculation_of(members: Sequence[PathInfoService], *, skips_errors: bool) -> NarCalculationService | None:
    """The NAR calculations of those that have one, asked in their order; ``None`` if nobody has."""
    calculations = [found for member in members if (found := member.nar_calculation()) is not None]
    return _FirstOf(calculations, skips_errors) if calculations else None


class _FirstOf(NarCalculationService):
    """Asks the next when one does not have the contents; if told to, also when it fails."""

    def __init__(self, calculations: Sequence[NarCalculationService], skips_errors: bool) -> None:
        self._calculations = calculations
        self._skips_errors = skips_errors

    async def calculate_nar(self, node: Node) -> NarDigest:
        missing: StoreError | None = None
        failure: StoreError | None = None
        for calculation in self._calculations:
            try:
                return await calculation.calculate_nar(node)
            except (DanglingReference, Unsupported) as exc:
                missing = missing or exc
            except InvalidObject:
                raise
            except StoreError as exc:
                if not self._skips_errors:
                    raise
                failure = failure or exc
        error = failure or missing
        assert error is not None
        raise error
