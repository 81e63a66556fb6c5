"""Lookups that several callers share, one by one or in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.flights import Flight, Flights
from tvix_store.resource import AsyncResource

__all__ = ["SharedCalls"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Asked(Generic[K, V]):
    """A call under way, and what it is about."""

    keys: Sequence[K]
    flight: Flight[Mapping[K, V]]


class SharedCalls(AsyncResource, Generic[K, V]):
    """Asks for what nobody is asking for, and waits for what somebody is.

    Each call goes on as long as one of those who wait for it does. What it raises is raised for all who wait; but what
    is wrong with one object does not concern those who asked for others of its batch: they ask again.

    Args:
        text: How errors name a key.
    """

    def __init__(self, text: Callable[[K], str]) -> None:
        self._text = text
        self._flights: Flights[object, Mapping[K, V]] = Flights()
        self._asked: dict[K, _Asked[K, V]] = {}

    async def one(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer for ``key``.

        Args:
            key: What is asked for.
            ask: Makes the call, if there is none that has ``key`` in it.
        """

        async def many(keys: Sequence[K]) -> Sequence[V]:
            return [await ask()]

        return (await self.many([key], many))[0]

    async def many(self, keys: Sequence[K], ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> Sequence[V]:
        """The answers for ``keys``, in their order.

        Args:
            keys: What is asked for.
            ask: Makes one call for those of them that nobody is asking for, each once.
        """
        if not keys:
            return await ask(keys)
        found: dict[K, V] = {}
        rest = list(dict.fromkeys(keys))
        may_share = True
        while rest:
            found.update(await self._look_up(rest, ask, may_share))
            rest = [key for key in rest if key not in found] if len(found) < len(keys) else []
            may_share = False  # the second time, with nobody whose errors could be others'
        return [found[key] for key in keys]

    async def _look_up(
        self, keys: Sequence[K], ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]], may_share: bool
    ) -> Mapping[K, V]:
        """Answers for these; without those that were in a call which failed for what else was in it."""
        unasked: list[K] = []
        calls: dict[int, tuple[_Asked[K, V], list[K]]] = {}
        for key in keys:
            asked = self._find(key) if may_share else None
            if asked is None:
                unasked.append(key)
            else:
                calls.setdefault(id(asked), (asked, []))[1].append(key)
        if unasked:
            own = self._start(unasked, ask)
            calls[id(own)] = own, unasked
        for asked, _ in calls.values():
            asked.flight.hold()
        found: dict[K, V] = {}
        try:
            for asked, wanted in calls.values():
                try:
                    answers = await asked.flight.result()
                except (CorruptObject, InvalidObject) as exc:
                    if asked.keys is wanted or set(asked.keys) <= set(keys) or self._names(exc, keys):
                        raise
                else:
                    found.update(answers if asked.keys is wanted else {key: answers[key] for key in wanted})
        finally:
            for asked, _ in calls.values():
                asked.flight.release()
        return found

    def _names(self, exc: CorruptObject | InvalidObject, keys: Sequence[K]) -> bool:
        return isinstance(exc, CorruptObject) and any(self._text(key) == exc.expected for key in keys)

    def _find(self, key: K) -> _Asked[K, V] | None:
        asked = self._asked.get(key) if self._asked else None
        return None if asked is None or asked.flight.is_abandoned else asked

    def _start(self, keys: Sequence[K], ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> _Asked[K, V]:
        async def call() -> Mapping[K, V]:
            return dict(zip(keys, await ask(keys), strict=True))

        asked: _Asked[K, V] = _Asked(keys, self._flights.start(object(), call))
        for key in keys:
            self._asked[key] = asked

        def landed(task: asyncio.Task[Mapping[K, V]]) -> None:
            for key in keys:
                if self._asked.get(key) is asked:
                    del self._asked[key]

        asked.flight.task.add_done_callback(landed)
        return asked

    def forget(self) -> None:
        """Let nobody else share what is under way: it may not know of what was stored or removed just now."""
        self._asked.clear()

    async def aclose(self) -> None:
        """End what is under way; those who wait for it get Unavailable."""
        await self._flights.aclose()
