"""So many calls at once, and so many a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tvix_store.around import Around, Call
from tvix_store.errors import Unavailable
from tvix_store_guard.opened import goes_on

__all__ = ["Limit", "TokenBucket"]

T = TypeVar("T")


class TokenBucket:
    """How often something may be done: ``burst`` times at once, and ``rate`` times a second in the long run.

    Args:
        rate: Tokens a second.
        burst: Tokens that are kept; all are there at first.
        clock: The time in seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled = clock()

    @property
    def is_empty(self) -> bool:
        """Whether who takes a token has to wait for it."""
        self._fill()
        return self._tokens < 1

    def take(self) -> float:
        """Take a token; it is there after so many seconds, in the order of taking."""
        self._fill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def give_back(self) -> None:
        """Undo one ``take``."""
        self._tokens += 1

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now


class Limit(Around):
    """Calls wait, in their order, until there is room for them. Those that go on with what is open do not.

    Args:
        name: Of the entry, for messages.
        concurrency: How many calls at once; ``None``: any number.
        rate: How many a second; ``None``: any number.
        burst: How many of these may come at once after a quiet time.
        queue: How many may wait; further ones are refused.
        clock: The time in seconds.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        rate: float | None = None,
        burst: int = 1,
        queue: int = 1024,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._slots = None if concurrency is None else asyncio.Semaphore(concurrency)
        self._bucket = None if rate is None else TokenBucket(rate, burst, clock)
        self._queue = queue
        self._sleep = sleep
        self._waiting = 0

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        if goes_on(call):
            return await operation()
        async with self._turn(call):
            return await operation()

    @asynccontextmanager
    async def _turn(self, call: Call) -> AsyncIterator[None]:
        if self._waiting >= self._queue and self._has_to_wait():
            raise Unavailable(f"{self._name}: busy, {call.method} is not asked: {self._waiting} calls are waiting")
        self._waiting += 1
        try:
            if self._bucket is not None:
                await self._token(self._bucket)
            if self._slots is not None:
                await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            if self._slots is not None:
                self._slots.release()

    def _has_to_wait(self) -> bool:
        return (self._slots is not None and self._slots.locked()) or (
            self._bucket is not None and self._bucket.is_empty
        )

    async def _token(self, bucket: TokenBucket) -> None:
        if not (pause_s := bucket.take()):
            return
        try:
            await self._sleep(pause_s)
        except asyncio.CancelledError:
            bucket.give_back()
            raise
