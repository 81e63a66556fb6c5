"""What the mirrors of all kinds have in common: replicas, how reads are spread over them, and what is repaired."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from typing import Generic, Protocol, TypeVar

from tvix_store.digest import B3Digest
from tvix_store.errors import StoreError
from tvix_store.limits import BATCH_COUNT
from tvix_store.resource import AsyncResource, task_group
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress
from tvix_store_spread.asking import Asking, Noticed, unnoticed
from tvix_store_spread.quorum import Quorum
from tvix_store_spread.repairs import REPAIR_BATCH_COUNT, Repairs
from tvix_store_spread.upkeep import damages_of_each, in_all, released

__all__ = ["MirrorOptions", "Mirroring", "SpreadReads"]

K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound="_Replica")
A = TypeVar("A", bound=AsyncResource)


class SpreadReads(Enum):
    """Which replica is asked first."""

    FIRST = "first"
    ROUND_ROBIN = "round-robin"
    BY_DIGEST = "by-digest"


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """How replicas are written and read.

    Args:
        min_writes: How many have to take a put.
        spread_reads: Which is asked first.
        repair: Whether what one lacks is put there when another has it.
    """

    min_writes: int
    spread_reads: SpreadReads = SpreadReads.BY_DIGEST
    repair: bool = True


class _Replica(Protocol):
    async def stats(self) -> ServiceStats: ...

    def verify(self, progress: VerifyProgress = ...) -> AsyncIterator[Damage]: ...


class Mirroring(Generic[S, K]):
    """The machinery of one mirror.

    Args:
        name: Of the entry.
        members: The replicas by name.
        options: How they are written and read.
        mend: As for `Repairs`.
    """

    def __init__(
        self,
        name: str,
        members: Mapping[str, S],
        options: MirrorOptions,
        mend: Callable[[int, Sequence[K]], Awaitable[int]],
    ) -> None:
        self.members = members
        self._mend = mend
        self.quorum = Quorum(name, options.min_writes)
        self.repairs: Repairs[K] = Repairs(name, len(members), mend)
        noticed: Noticed[K] = self.repairs.notice if options.repair else unnoticed
        self._noticed = noticed
        start = _start(options.spread_reads, len(members))
        self.asking: Asking[S, K] = Asking([*members.values()], skips_errors=True, start=start, noticed=noticed)

    def others(self, member: int) -> Sequence[S]:
        """All but one."""
        return [service for position, service in enumerate(self.members.values()) if position != member]

    def missed(self, keys: Sequence[K], took: Mapping[str, object]) -> None:
        """A put succeeded, though not in all replicas; those that did not take it are repaired."""
        lacking = [position for position, name in enumerate(self.members) if name not in took]
        for key in keys:
            self._noticed(key, lacking)

    async def open(
        self, what: str, open_: Callable[[S], Awaitable[A]], failures: dict[str, StoreError]
    ) -> dict[str, A]:
        """Open something in each replica, as `Quorum.each` does; what was opened is closed if that fails."""
        opened: list[A] = []

        async def open_one(member: S) -> A:
            opened.append(resource := await open_(member))
            return resource

        try:
            return await self.quorum.each(self.members, what, open_one, failures)
        except BaseException:
            await in_all(opened, lambda resource: resource.aclose())
            raise

    async def verify(self, progress: VerifyProgress, kind: str, parse: Callable[[str], K]) -> AsyncGenerator[Damage]:
        """What is wrong in each; that is put there again from the others, once all are verified.

        Args:
            progress: Told of the average of the replicas.
            kind: Of the damages that are about one object.
            parse: Reads the digest in such a damage.
        """
        wrong: list[tuple[K, int]] = []

        def tell(done: int, total: int | None) -> None:
            progress(done // len(self.members), total)

        try:
            async with released(damages_of_each(self.members, tell)) as damages:
                async for position, damage in damages:
                    if damage.kind == kind and damage.digest is not None:
                        wrong.append((parse(damage.digest), position))
                    yield damage
        finally:
            for key, position in wrong:
                self._noticed(key, [position])

    async def resync(
        self,
        listings: Sequence[Callable[[], AsyncIterator[K]]],
        lacked: Callable[[int, Sequence[K]], Awaitable[Sequence[K]]],
        progress: VerifyProgress,
    ) -> dict[str, int]:
        """See `ReplicatedService.resync`.

        Args:
            listings: Of each, what it has.
            lacked: Given a position and some of a list, says which of them this replica lacks.
            progress: Told how many were looked for.
        """
        put = dict.fromkeys(self.members, 0)
        done = 0
        for source, listing in enumerate(listings):
            async with released(_batches(listing())) as batches:
                async for keys in batches:
                    for target, name in enumerate(self.members):
                        if target != source:
                            put[name] += await self._fill(target, await lacked(target, keys))
                    done += len(keys)
                    progress(done, None)
        return {name: count for name, count in put.items() if count}

    async def _fill(self, target: int, keys: Sequence[K]) -> int:
        count = 0
        for start in range(0, len(keys), REPAIR_BATCH_COUNT):
            batch = keys[start : start + REPAIR_BATCH_COUNT]
            async with self.repairs.kept_off(batch):
                count += await self._mend(target, batch)
        return count

    async def stats(self) -> ServiceStats:
        """Those of the replica that has most, as far as they can be asked, with what has gone wrong."""
        found: list[ServiceStats] = []
        failures: list[StoreError] = []

        async def ask(member: S) -> None:
            try:
                found.append(await member.stats())
            except StoreError as exc:
                failures.append(exc)

        async with task_group() as group:
            for member in self.members.values():
                group.create_task(ask(member))
        if not found:
            raise failures[0]
        most = max(found, key=lambda stats: stats.objects)
        details = (
            ("replicas", len(self.members)),
            ("failed writes", self.quorum.failed_writes.total()),
            ("repaired", self.repairs.repaired),
            ("failed repairs", self.repairs.failed + self.repairs.dropped),
        )
        return replace(most, details=(*most.details, *details))


async def _batches(keys: AsyncIterator[K]) -> AsyncGenerator[Sequence[K]]:
    async with released(keys):
        batch: list[K] = []
        async for key in keys:
            batch.append(key)
            if len(batch) == BATCH_COUNT:
                yield batch
                batch = []
        if batch:
            yield batch


def _start(spread: SpreadReads, n_members: int) -> Callable[[Hashable], int]:
    if spread is SpreadReads.FIRST:
        return lambda key: 0
    if spread is SpreadReads.ROUND_ROBIN:
        numbers = count()
        return lambda key: next(numbers) % n_members

    def by_digest(key: Hashable) -> int:
        raw = key.raw if isinstance(key, B3Digest) else key
        assert isinstance(raw, bytes)
        return int.from_bytes(raw[:8], "big") % n_members

    return by_digest
