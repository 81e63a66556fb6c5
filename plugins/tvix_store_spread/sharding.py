"""Batches cut into one for each shard, and their answers put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

from tvix_store.resource import task_group
from tvix_store_spread.rendezvous import Rendezvous
from tvix_store_spread.upkeep import released

__all__ = ["Sharding"]

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


class Sharding(Generic[S]):
    """Services, each of which has the objects that belong to it.

    Args:
        members: By name.
        weights: By name.
    """

    def __init__(self, members: Mapping[str, S], weights: Mapping[str, float]) -> None:
        self.members = members
        self._rendezvous = Rendezvous({name: weights.get(name, 1.0) for name in members})

    def owner(self, digest: bytes) -> S:
        """Where an object is, if it is anywhere."""
        return self.members[self._rendezvous.owner(digest)]

    async def many(
        self, items: Sequence[tuple[bytes, T]], call: Callable[[S, Sequence[T]], Awaitable[Sequence[R]]]
    ) -> list[R]:
        """A batch for each shard concerned, all at the same time.

        Args:
            items: Each with its digest.
            call: Answers for each item of a batch.

        Returns:
            The answers in the order of ``items``.
        """
        places: dict[str, list[int]] = self._rendezvous.parts(
            (digest, place) for place, (digest, _) in enumerate(items)
        )
        answers: dict[int, R] = {}

        async def batch(name: str, batch_places: Sequence[int]) -> None:
            found = await call(self.members[name], [items[place][1] for place in batch_places])
            answers.update(zip(batch_places, found, strict=True))

        await self._run(batch, places)
        return [answers[place] for place in range(len(items))]

    async def each(self, items: Sequence[tuple[bytes, T]], call: Callable[[S, Sequence[T]], Awaitable[None]]) -> None:
        """The same for calls without answers."""

        async def batch(name: str, part: Sequence[T]) -> None:
            await call(self.members[name], part)

        await self._run(batch, self._rendezvous.parts(items))

    async def _run(
        self, batch: Callable[[str, Sequence[T]], Coroutine[Any, Any, None]], parts: Mapping[str, Sequence[T]]
    ) -> None:
        if len(parts) == 1:
            ((name, part),) = parts.items()
            await batch(name, part)
            return
        async with task_group() as group:
            for name, part in parts.items():
                group.create_task(batch(name, part))

    async def listed(self, listing: Callable[[S], AsyncIterator[T]], digest: Callable[[T], bytes]) -> AsyncGenerator[T]:
        """What each shard lists, but for what does not belong there: that is left of other weights, and not found."""
        for name, member in self.members.items():
            async with released(listing(member)) as items:
                async for item in items:
                    if self._rendezvous.owner(digest(item)) == name:
                        yield item
