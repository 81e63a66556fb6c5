"""Directories kept near once they were found far."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.closure import RootToLeaves
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, StoreError, Unsupported
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT
from tvix_store.nodes import Directory
from tvix_store.resource import task_group
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_cache.directory_putter import SidesPutter
from tvix_store_cache.remembered import Remembered
from tvix_store_cache.sides import REMEMBERED_COUNT, CachePolicy, NearFailures, WriteTo, capabilities_of, is_lost

__all__ = ["CacheDirectoryService"]

_PLAIN = CachePolicy()


class CacheDirectoryService(DirectoryService):
    """Reads through ``near``; what it lacks is taken from ``far`` and kept in ``near``.

    An error of either is no miss, but for what is corrupt near: that is taken from ``far`` again, and only if it is not
    there is it the error. ``near`` may have directories without what is below them.

    Args:
        name: Of the entry.
        near: Asked first; not closed with this.
        far: Asked for what ``near`` does not have; not closed with this.
        policy: What else there is to settle.
    """

    relays = True

    def __init__(self, name: str, near: DirectoryService, far: DirectoryService, policy: CachePolicy = _PLAIN) -> None:
        self.name = name
        self.near = near
        self.far = far
        self.policy = policy
        self.failures = NearFailures(name, policy.skip_near_errors)
        self._absent = Remembered(policy.negative_ttl_s, REMEMBERED_COUNT)

    @property
    def _whole(self) -> DirectoryService:
        """The side that has all that was put."""
        return self.near if self.policy.write_to is WriteTo.NEAR else self.far

    @property
    def capabilities(self) -> Capabilities:
        return capabilities_of(self.near.capabilities, self.far.capabilities, self.policy.write_to)

    async def get(self, digest: B3Digest) -> Directory | None:
        damage: StoreError | None = None
        try:
            if (found := await self.near.get(digest)) is not None:
                return found
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            damage = exc
        found = None
        if digest.raw not in self._absent:
            with self._absent.look() as look:
                found = await self.far.get(digest)
                if found is None:
                    look.remember([digest.raw])
        if found is not None:
            await self._fill([found])
        elif isinstance(damage, CorruptObject):
            raise damage
        return found

    async def _fill(self, directories: Sequence[Directory]) -> None:
        if not self.policy.fills or not directories:
            return
        try:
            await self.near.put_many(directories)
        except StoreError as exc:
            if not self.failures.may_pass(exc):
                raise

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        """From ``near``; the rest from ``far`` as one batch, which is put in ``near`` as one."""
        damage: CorruptObject | None = None
        found: list[Directory | None]
        try:
            found = list(await self.near.get_many(digests))
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            found = [None] * len(digests)
            damage = exc if isinstance(exc, CorruptObject) else None
        missing = _missing(digests, found)
        unknown = [digest for digest in missing if digest.raw not in self._absent]
        taken = await self._take(unknown) if unknown else {}
        if damage is not None and (rest := [digest for digest in missing if digest not in taken]):
            near = dict(zip(rest, await self.near.get_many(rest), strict=True))
            if is_lost(damage, set(map(str, digests)), [str(digest) for digest, hit in near.items() if hit is None]):
                raise damage
            taken |= {digest: hit for digest, hit in near.items() if hit is not None}
        return [taken.get(digest) if hit is None else hit for digest, hit in zip(digests, found, strict=True)]

    async def _take(self, digests: Sequence[B3Digest]) -> dict[B3Digest, Directory]:
        """What far has of these; near has it, too, when this returns."""
        with self._absent.look() as look:
            found = await self.far.get_many(digests)
            look.remember(digest.raw for digest, hit in zip(digests, found, strict=True) if hit is None)
        taken = {digest: hit for digest, hit in zip(digests, found, strict=True) if hit is not None}
        await self._fill(list(taken.values()))
        return taken

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        """The tree as ``near`` has it, if it has the root, else as ``far`` has it, which fills ``near`` on the way.

        What is lacking below is taken from both, level by level.
        """
        order = RootToLeaves(root)
        damage: StoreError | None = None
        try:
            async for directory in self.near.get_recursive(root):
                if self._is_new(order, directory):
                    yield directory
        except _WrongTree:
            raise
        except StoreError as exc:
            if not self.failures.goes_far(exc):
                raise
            damage = exc
        if order.missing == (root,):
            async for directory in self._far_recursive(root, order):
                yield directory
            if order.missing == (root,):
                if isinstance(damage, CorruptObject):
                    raise damage
                return
        while level := order.missing[:BATCH_COUNT]:
            for digest, found in zip(level, await self.get_many(level), strict=True):
                if found is None:
                    raise DanglingReference(f"{self.name}: directory {digest} does not exist, below {root}")
                if self._is_new(order, found):
                    yield found

    def _is_new(self, order: RootToLeaves, directory: Directory) -> bool:
        try:
            return order.add(directory)
        except InvalidObject as exc:
            raise _WrongTree(f"{self.name}: {exc}") from exc

    async def _far_recursive(self, root: B3Digest, order: RootToLeaves) -> AsyncIterator[Directory]:
        """What ``far`` has of a tree, put near in batches after it was given. It may lack something below the root."""
        if root.raw in self._absent:
            return
        tree = self.far.get_recursive(root)
        with self._absent.look() as look:
            first = await anext(tree, None)
            if first is None:
                look.remember([root.raw])
                return
        batch: list[Directory] = []
        n_bytes = 0
        try:
            async for directory in _chained(first, tree):
                if not self._is_new(order, directory):
                    continue
                yield directory
                batch.append(directory)
                n_bytes += len(directory.encode())
                if len(batch) == BATCH_COUNT or n_bytes > BATCH_BYTES:
                    await self._fill(batch)
                    batch, n_bytes = [], 0
        except DanglingReference:
            pass
        await self._fill(batch)

    async def put(self, directory: Directory) -> None:
        await self.put_many([directory])

    async def put_many(self, directories: Sequence[Directory]) -> None:
        """To ``far`` first, so that ``near`` never has what ``far`` refused."""
        try:
            if self.policy.write_to is not WriteTo.NEAR:
                await self.far.put_many(directories)
            if self.policy.write_to is not WriteTo.FAR:
                await self.near.put_many(directories)
        finally:
            self._absent.forget(directory.digest.raw for directory in directories)

    async def put_multiple_start(self) -> DirectoryPutter:
        match self.policy.write_to:
            case WriteTo.NEAR:
                sides = [self.near]
            case WriteTo.FAR:
                sides = [self.far]
            case WriteTo.BOTH:
                sides = [self.far, self.near]
        return await SidesPutter.start(self.name, sides, self._absent)

    def list(self) -> AsyncIterator[B3Digest]:
        return self._whole.list()

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        if self.policy.write_to is not WriteTo.NEAR:
            raise Unsupported(f"{self.name}: directories that are far would come back; delete them near or far")
        await self.near.delete(digests)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await self.near.discard_corrupt(digest)
        await self.far.discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return await self._whole.stats()

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return self._whole.verify(progress)

    async def sync(self) -> None:
        async with task_group() as group:
            if self.policy.write_to is not WriteTo.NEAR:
                group.create_task(self.far.sync())
            if self.policy.write_to is not WriteTo.FAR:
                group.create_task(self.near.sync())


class _WrongTree(CorruptObject):
    """Directories that are sound, but no tree."""


async def _chained(first: Directory, rest: AsyncIterator[Directory]) -> AsyncIterator[Directory]:
    yield first
    async for directory in rest:
        yield directory


def _missing(digests: Sequence[B3Digest], found: Sequence[Directory | None]) -> list[B3Digest]:
    return list(dict.fromkeys(digest for digest, hit in zip(digests, found, strict=True) if hit is None))
