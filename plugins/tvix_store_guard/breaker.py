"""What keeps failing is left alone for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tvix_store.around import Around, Call
from tvix_store.errors import CorruptObject, OutOfSpace, Unavailable
from tvix_store_guard.opened import goes_on

__all__ = ["Breaker"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Breaker(Around):
    """After so many failures in a row, calls fail at once for a while; then one is let through to find out.

    A failure is Unavailable, but for OutOfSpace, which the service says of itself. An answer, CorruptObject and
    OutOfSpace show that the service is there. All other errors, and calls that were cancelled, show nothing.

    Args:
        name: Of the entry, for messages.
        failures: How many in a row.
        open_s: How long calls fail at once; each time that the one let through fails, for twice as long.
        max_open_s: The longest of these times.
        clock: The time in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        open_s: float = 10.0,
        max_open_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limit = failures
        self._first_open_s = open_s
        self._max_open_s = max_open_s
        self._clock = clock
        self._failures = 0
        self._open_s = open_s
        self._next_try: float | None = None  # while calls fail at once
        self._is_trying = False
        self._period = 0  # from one opening or closing to the next; what was begun in another one does not count

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        if self._next_try is None:
            return await self._counted(operation)
        if goes_on(call):
            return await operation()
        left_s = self._next_try - self._clock()
        if left_s > 0:
            raise self._not_asked(f"next try in {left_s:.3g} s")
        if self._is_trying:
            raise self._not_asked("a call that tries it is under way")
        self._is_trying = True
        try:
            return await self._counted(operation)
        finally:
            self._is_trying = False

    def _not_asked(self, when: str) -> Unavailable:
        return Unavailable(f"{self._name}: not asked, it failed {self._failures} times; {when}")

    async def _counted(self, operation: Callable[[], Awaitable[T]]) -> T:
        period = self._period
        try:
            result = await operation()
        except (CorruptObject, OutOfSpace):
            self._answered(period)
            raise
        except Unavailable as exc:
            self._failed(period, exc)
            raise
        self._answered(period)
        return result

    def _answered(self, period: int) -> None:
        if period != self._period:
            return
        self._failures = 0
        if self._next_try is not None:
            logger.info("%s: asked again", self._name)
            self._next_try = None
            self._open_s = self._first_open_s
            self._period += 1

    def _failed(self, period: int, exc: Unavailable) -> None:
        if period != self._period:
            return
        self._failures += 1
        if self._next_try is None and self._failures < self._limit:
            return
        logger.warning("%s: not asked for %g s, it failed %d times: %s", self._name, self._open_s, self._failures, exc)
        self._next_try = self._clock() + self._open_s
        self._open_s = min(2 * self._open_s, self._max_open_s)
        self._period += 1
