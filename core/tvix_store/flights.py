"""Calls that several callers share: one is under way for each key, and it ends early when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from tvix_store.errors import Unavailable
from tvix_store.resource import AsyncResource, cancel_all

__all__ = ["Flight", "Flights"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flight(Generic[T]):
    """A call under way. It goes on as long as somebody holds it, or has ended.

    Args:
        call: The call; it starts at the next opportunity.
    """

    def __init__(self, call: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.create_task(call)
        self._holders = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether it is being cancelled, or was: it will not yield anything."""
        return self.task.cancelled() or self.task.cancelling() > 0

    def hold(self) -> None:
        """Keep it going until ``release``."""
        self._holders += 1

    def release(self) -> None:
        """The counterpart of ``hold``; the last one cancels what has not ended."""
        self._holders -= 1
        if not self._holders:
            self.task.cancel()

    async def result(self) -> T:
        """Wait for what the call yields or raises. To cancel this leaves the call to others that wait for it.

        Raises:
            Unavailable: Whoever made the call was closed.
        """
        self.hold()
        try:
            await asyncio.wait([self.task])
        finally:
            self.release()
        if self.task.cancelled():
            raise Unavailable("it was closed while it was waited for")
        return self.task.result()


class Flights(AsyncResource, Generic[K, T]):
    """The calls under way, by key."""

    def __init__(self) -> None:
        self._by_key: dict[K, Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()
        self._closed = False

    def find(self, key: K) -> Flight[T] | None:
        """The call under way for ``key``, if there is one."""
        flight = self._by_key.get(key)
        return None if flight is None or flight.is_abandoned else flight

    def start(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> Flight[T]:
        """Make a call, which ``find`` finds until it has ended. Whoever starts it has to hold it, or wait for it."""
        if self._closed:
            raise RuntimeError("it is closed")
        flight = self._by_key[key] = Flight(call())
        self._tasks.add(flight.task)

        def landed(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if self._by_key.get(key) is flight:
                del self._by_key[key]
            if not task.cancelled():
                task.exception()  # nobody may be left to look at it

        flight.task.add_done_callback(landed)
        return flight

    async def join(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the call under way for ``key``, which is made if there is none."""
        return await (self.find(key) or self.start(key, call)).result()

    async def aclose(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        self._closed = True
        await cancel_all(self._tasks)
