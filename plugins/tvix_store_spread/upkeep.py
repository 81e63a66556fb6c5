"""What is done with all that several services hold: listed without duplicates, verified, counted, told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

from tvix_store.errors import StoreError
from tvix_store.limits import BATCH_COUNT
from tvix_store.resource import task_group
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress

__all__ = ["damages_of", "damages_of_each", "in_all", "listed_once", "released", "total_stats"]

M = TypeVar("M")
R = TypeVar("R")
T = TypeVar("T")


@asynccontextmanager
async def released(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """``items``, which are closed at once when nobody wants more of them."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def in_all(members: Sequence[M], call: Callable[[M], Awaitable[R]]) -> Sequence[R]:
    """Make a call to each, at the same time, and see all of them to their ends.

    Raises:
        StoreError: That of the first member, in their order, that failed.
    """

    async def outcome(member: M) -> R | StoreError:
        try:
            return await call(member)
        except StoreError as exc:
            return exc

    async with task_group() as group:
        tasks = [group.create_task(outcome(member)) for member in members]
    results: list[R] = []
    for task in tasks:
        if isinstance(result := task.result(), StoreError):
            raise result
        results.append(result)
    return results


async def listed_once(
    listings: Sequence[Callable[[], AsyncIterator[T]]],
    lacked_by: Callable[[int, Sequence[T]], Awaitable[Sequence[T]]],
) -> AsyncGenerator[T]:
    """What several services list, each once. Nothing is held but a batch: the ones before are asked for it instead.

    From the last to the first: what is left out here is listed by one before, which had it already when its list began.
    So what is put, or repaired, meanwhile is listed twice at worst, and nothing is missed.

    Args:
        listings: ``list`` of each.
        lacked_by: Given a position and some of a batch, says which of them this member does not have.
    """
    for position in reversed(range(len(listings))):
        async with released(listings[position]()) as items:
            if position == 0:
                async for item in items:
                    yield item
                continue
            batch: list[T] = []
            async for item in items:
                batch.append(item)
                if len(batch) == BATCH_COUNT:
                    for new in await _not_before(position, batch, lacked_by):
                        yield new
                    batch = []
            for new in await _not_before(position, batch, lacked_by):
                yield new


async def _not_before(
    position: int, batch: Sequence[T], lacked_by: Callable[[int, Sequence[T]], Awaitable[Sequence[T]]]
) -> Sequence[T]:
    for before in range(position):
        if batch:
            batch = await lacked_by(before, batch)
    return batch


class _Verifiable(Protocol):
    def verify(self, progress: VerifyProgress = ...) -> AsyncIterator[Damage]: ...


async def damages_of_each(
    members: Mapping[str, _Verifiable], progress: VerifyProgress
) -> AsyncGenerator[tuple[int, Damage]]:
    """What is wrong with each member, with its position; the location begins with its name.

    A member that fails does not keep the others from being verified.

    Raises:
        StoreError: The first failure, after everything else.
    """
    failure: StoreError | None = None
    before = last = 0

    def tell(done: int, total: int | None) -> None:
        nonlocal last
        last = done
        progress(before + done, None)

    for position, (name, member) in enumerate(members.items()):
        before, last = before + last, 0
        try:
            async with released(member.verify(tell)) as damages:
                async for damage in damages:
                    location = name if damage.location is None else f"{name}, {damage.location}"
                    yield position, replace(damage, location=location)
        except StoreError as exc:
            failure = failure or exc
    if failure is not None:
        raise failure


async def damages_of(members: Mapping[str, _Verifiable], progress: VerifyProgress) -> AsyncGenerator[Damage]:
    """The same without the positions."""
    async with released(damages_of_each(members, progress)) as damages:
        async for _, damage in damages:
            yield damage


def total_stats(stats: Sequence[ServiceStats], name: str) -> ServiceStats:
    """The sum of several, with what is not known of one not known of all.

    Args:
        stats: Of each.
        name: What they are, for the details.
    """

    def total(values: Sequence[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return ServiceStats(
        sum(each.objects for each in stats),
        total([each.logical_bytes for each in stats]),
        total([each.unique_bytes for each in stats]),
        total([each.stored_bytes for each in stats]),
        ((name, len(stats)),),
    )
