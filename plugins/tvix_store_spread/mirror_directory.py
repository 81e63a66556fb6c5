"""Directories in several replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject, StoreError
from tvix_store.nodes import Directory
from tvix_store.replicated import ReplicatedService
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.capabilities import mirror_capabilities
from tvix_store_spread.directory import SeveralDirectoryService
from tvix_store_spread.mirror import Mirroring, MirrorOptions
from tvix_store_spread.repairs import lacked_by, mended_from
from tvix_store_spread.upkeep import in_all

__all__ = ["MirrorDirectoryService"]


class MirrorDirectoryService(SeveralDirectoryService, ReplicatedService):
    """The same directories in each of several services.

    Args:
        name: Of the entry.
        members: The replicas by name; not closed with this.
        options: How they are written and read.
    """

    def __init__(self, name: str, members: Mapping[str, DirectoryService], options: MirrorOptions) -> None:
        self.mirroring: Mirroring[DirectoryService, B3Digest] = Mirroring(name, members, options, self._mend)
        super().__init__(name, members, self.mirroring.asking)

    @property
    def capabilities(self) -> Capabilities:
        inner = [member.capabilities for member in self.members.values()]
        return mirror_capabilities(inner, self.mirroring.quorum.min_writes)

    async def put(self, directory: Directory) -> None:
        took = await self.mirroring.quorum.each(
            self.members, f"put of directory {directory.digest}", lambda member: member.put(directory)
        )
        self.mirroring.missed([directory.digest], took)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        if not directories:
            return
        took = await self.mirroring.quorum.each(
            self.members, f"put of {len(directories)} directories", lambda member: member.put_many(directories)
        )
        self.mirroring.missed([directory.digest for directory in directories], took)

    async def put_multiple_start(self) -> DirectoryPutter:
        failures: dict[str, StoreError] = {}
        putters = await self.mirroring.open(
            "upload of directories", lambda member: member.put_multiple_start(), failures
        )
        return _MirrorPutter(self.mirroring, putters, failures)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        async with self.mirroring.repairs.kept_off(digests):
            await super().delete(digests)

    async def stats(self) -> ServiceStats:
        return await self.mirroring.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self.mirroring.verify(progress, "directory", B3Digest.parse)

    async def resync(self, progress: VerifyProgress = no_progress) -> Mapping[str, int]:
        async def lacked(position: int, digests: Sequence[B3Digest]) -> Sequence[B3Digest]:
            return await lacked_by(digests, self._asking.members[position].get_many)

        put = await self.mirroring.resync([member.list for member in self._asking.members], lacked, progress)
        await in_all(self._asking.members, lambda member: member.sync())
        return put

    async def sync(self) -> None:
        await self.mirroring.quorum.each(self.members, "sync", lambda member: member.sync())

    async def aclose(self) -> None:
        await self.mirroring.repairs.aclose()

    async def _mend(self, position: int, digests: Sequence[B3Digest]) -> int:
        target = self._asking.members[position]
        lacking = await lacked_by(digests, target.get_many)

        async def copy(source: DirectoryService, wanted: Sequence[B3Digest]) -> Sequence[B3Digest]:
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
            return [directory.digest for directory in found]

        return await mended_from(self.mirroring.others(position), lacking, copy)


class _MirrorPutter(DirectoryPutter):
    """Uploads to several replicas; one that fails drops out, as long as enough are left."""

    def __init__(
        self,
        mirroring: Mirroring[DirectoryService, B3Digest],
        putters: dict[str, DirectoryPutter],
        failures: dict[str, StoreError],
    ) -> None:
        self._mirroring = mirroring
        self._putters = putters  # of those that are left
        self._opened = tuple(putters.values())
        self._failures = failures
        self._sent: dict[B3Digest, None] = {}
        self._root: B3Digest | None = None

    async def put_many(self, directories: Sequence[Directory]) -> None:
        done = await self._mirroring.quorum.each(
            self._putters, "upload of directories", lambda putter: putter.put_many(directories), self._failures
        )
        self._putters = {name: self._putters[name] for name in done}
        self._sent.update((directory.digest, None) for directory in directories)

    async def close(self) -> B3Digest:
        if self._root is None:
            roots = await self._mirroring.quorum.each(
                self._putters, "upload of directories", lambda putter: putter.close(), self._failures
            )
            self._root = next(iter(roots.values()))
            self._mirroring.missed(list(self._sent), roots)
        return self._root

    async def aclose(self) -> None:
        await in_all(self._opened, lambda putter: putter.aclose())
