"""Calls that failed for now are made again, after a pause."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tvix_store.around import Around, Call
from tvix_store.errors import OutOfSpace, Unavailable

__all__ = ["Retry"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Retry(Around):
    """Makes calls again that ended in Unavailable, if that is as good as making them once.

    Pauses are of any length up to a bound that doubles each time ("full jitter"), so that those who failed together do
    not come back together.

    Args:
        name: Of the entry, for messages.
        attempts: How often a call is made at most.
        backoff_s: The longest pause before the second attempt.
        max_backoff_s: The longest pause of all.
        max_elapsed_s: No attempt is begun later than this after the beginning of the first.
        clock: The time in seconds.
        sleep: Waits for so many seconds.
        uniform: A number between two others.
    """

    def __init__(
        self,
        name: str,
        *,
        attempts: int = 4,
        backoff_s: float = 0.1,
        max_backoff_s: float = 5.0,
        max_elapsed_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._name = name
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._max_backoff_s = max_backoff_s
        self._max_elapsed_s = max_elapsed_s
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        if not call.is_repeatable:
            return await operation()
        deadline = self._clock() + self._max_elapsed_s
        bound_s = min(self._backoff_s, self._max_backoff_s)
        attempt = 1
        while True:
            try:
                return await operation()
            except OutOfSpace:  # does not pass by itself
                raise
            except Unavailable as exc:
                pause_s = self._uniform(0, bound_s)
                if attempt == self._attempts or self._clock() + pause_s > deadline:
                    if attempt > 1:
                        logger.warning("%s: %s failed %d times: %s", self._name, call.method, attempt, exc)
                    raise
                logger.debug("%s: %s is tried again in %.3f s: %s", self._name, call.method, pause_s, exc)
            await self._sleep(pause_s)
            bound_s = min(2 * bound_s, self._max_backoff_s)
            attempt += 1
