"""Path infos in several replicas."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial

from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.replicated import ReplicatedService
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.capabilities import mirror_capabilities
from tvix_store_spread.mirror import Mirroring, MirrorOptions
from tvix_store_spread.path_info import SeveralPathInfoService
from tvix_store_spread.repairs import lacked_by, mended_from
from tvix_store_spread.upkeep import released

__all__ = ["MirrorPathInfoService"]


class MirrorPathInfoService(SeveralPathInfoService, ReplicatedService):
    """The same path infos in each of several services.

    Args:
        name: Of the entry.
        members: The replicas by name; not closed with this.
        options: How they are written and read.
    """

    def __init__(self, name: str, members: Mapping[str, PathInfoService], options: MirrorOptions) -> None:
        self.mirroring: Mirroring[PathInfoService, bytes] = Mirroring(name, members, options, self._mend)
        super().__init__(name, members, self.mirroring.asking)

    @property
    def capabilities(self) -> Capabilities:
        inner = [member.capabilities for member in self.members.values()]
        return mirror_capabilities(inner, self.mirroring.quorum.min_writes)

    async def put(self, path_info: PathInfo) -> PathInfo:
        """What the first replica stored of those that did."""
        digest = path_info.store_path.digest
        async with self.mirroring.repairs.kept_off([digest]):
            took = await self.mirroring.quorum.each(
                self.members, f"put of path info {path_info.store_path}", lambda member: member.put(path_info)
            )
        self.mirroring.missed([digest], took)
        return next(iter(took.values()))

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        if not path_infos:
            return []
        digests = [path_info.store_path.digest for path_info in path_infos]
        async with self.mirroring.repairs.kept_off(digests):
            took = await self.mirroring.quorum.each(
                self.members, f"put of {len(path_infos)} path infos", lambda member: member.put_many(path_infos)
            )
        self.mirroring.missed(digests, took)
        return next(iter(took.values()))

    async def delete(self, digests: Sequence[bytes]) -> None:
        async with self.mirroring.repairs.kept_off(digests):
            await super().delete(digests)

    async def stats(self) -> ServiceStats:
        return await self.mirroring.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.mirroring.verify(progress, "path info", bytes.fromhex)

    async def resync(self, progress: VerifyProgress = no_progress) -> Mapping[str, int]:
        async def digests(member: PathInfoService) -> AsyncGenerator[bytes]:
            async with released(member.list()) as path_infos:
                async for path_info in path_infos:
                    yield path_info.store_path.digest

        async def lacked(position: int, digests: Sequence[bytes]) -> Sequence[bytes]:
            return await lacked_by(digests, self._asking.members[position].get_many)

        return await self.mirroring.resync(
            [partial(digests, member) for member in self._asking.members], lacked, progress
        )

    async def aclose(self) -> None:
        await self.mirroring.repairs.aclose()

    async def _mend(self, position: int, digests: Sequence[bytes]) -> int:
        target = self._asking.members[position]
        lacking = await lacked_by(digests, target.get_many)

        async def copy(source: PathInfoService, wanted: Sequence[bytes]) -> Sequence[bytes]:
            try:
                answers = await source.get_many(wanted)
            except CorruptObject:  # one of them, which core had the source forget
                if len(wanted) == 1:
                    return []
                half = len(wanted) // 2
                return [*await copy(source, wanted[:half]), *await copy(source, wanted[half:])]
            found = [answer for answer in answers if answer is not None]
            if found:
                await target.put_many(found)
            return [path_info.store_path.digest for path_info in found]

        return await mended_from(self.mirroring.others(position), lacking, copy)
