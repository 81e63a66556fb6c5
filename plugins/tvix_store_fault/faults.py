"""What goes wrong, how often, and when: thrown by dice that begin with a seed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from tvix_store.around import Access, Around, Call
from tvix_store.errors import OutOfSpace, Unavailable
from tvix_store.resource import AsyncResource

__all__ = ["FaultRates", "Faults", "Lifetime"]

T = TypeVar("T")

_MAX_ITEMS_BEFORE_FAILURE = 4


@dataclass(frozen=True, slots=True)
class FaultRates:
    """How often calls go wrong: from 0, never, to 1, always.

    Args:
        error_rate: The call is not made and raises Unavailable.
        error_after_rate: The call is made, and its answer lost: it raises Unavailable.
        out_of_space_rate: A call that writes is not made and raises OutOfSpace.
        hang_rate: The call is not made, and waits until it is cancelled.
        short_read_rate: A reader gives fewer bytes than it might; half of those times it fails at the next read.
        truncate_rate: A blob ends early, without an error.
        corrupt_rate: A bit of a blob is flipped.
        latency_s: Each call begins so many seconds late.
        max_latency_s: If more, the seconds are thrown between the two.
    """

    error_rate: float = 0.0
    error_after_rate: float = 0.0
    out_of_space_rate: float = 0.0
    hang_rate: float = 0.0
    short_read_rate: float = 0.0
    truncate_rate: float = 0.0
    corrupt_rate: float = 0.0
    latency_s: float = 0.0
    max_latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Course:
    """What a call that has begun is to come to."""

    crashes: int
    loses_answer: bool
    n_items: int


class Faults(Around):
    """Makes the calls to one service go wrong. Tests get at it through the service, and turn it while it runs.

    The same sequence of calls, with the same rates, goes wrong in the same way.

    Args:
        name: Of the service, for messages.
        seed: What the dice begin with.
        rates: How often; may be replaced at any time.
        methods: The only calls that go wrong, such as ``get_many`` or ``reader.read``; empty: all of them.

    Attributes:
        calls: How often each method was called.
        hanging: Set when a call begins to hang; whoever waits for that clears it.
    """

    def __init__(
        self, name: str, seed: int = 0, rates: FaultRates = FaultRates(), methods: Collection[str] = ()
    ) -> None:
        self.name = name
        self.seed = seed
        self.rates = rates
        self.methods = frozenset(methods)
        self.is_crashed = False
        self.calls: Counter[str] = Counter()
        self.hanging = asyncio.Event()
        self._crashes = 0
        self._dice = Random(seed)

    def crash(self) -> None:
        """From now on every call raises Unavailable; those under way do so at their end."""
        self.is_crashed = True
        self._crashes += 1

    def heal(self) -> None:
        """Take calls again. What was opened before the crash stays broken, as that of a process that ended would."""
        self.is_crashed = False

    def lifetime(self) -> Lifetime:
        """That of something opened now: it ends with the next crash."""
        return Lifetime(self, self._crashes)

    def has_crashed_since(self, crashes: int) -> bool:
        """Whether there was a crash after the one with this number."""
        return self.is_crashed or crashes != self._crashes

    def failure(self, what: str) -> Unavailable:
        """The error of a call that goes wrong."""
        return Unavailable(f"{self.name}: {what} fails on purpose")

    def falls(self, rate: float, method: str) -> bool:
        """Throw the dice for a call of ``method``."""
        return self.concerns(method) and self._dice.random() < rate

    def concerns(self, method: str) -> bool:
        """Whether calls of ``method`` may go wrong."""
        return not self.methods or method in self.methods

    def below(self, bound: int) -> int:
        """A number from 0 up to ``bound``, which it does not reach."""
        return self._dice.randrange(bound)

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        course = await self._begin(call)
        result = await operation()
        if course.loses_answer or self.has_crashed_since(course.crashes):
            if isinstance(result, AsyncResource):
                await result.aclose()
            raise self.failure(f"{call.method}, after it was done,")
        return result

    async def iterate(self, call: Call, items: Callable[[], AsyncIterator[T]]) -> AsyncGenerator[T]:
        course = await self._begin(call)
        n_left = course.n_items
        iterator = items()
        try:
            async for item in iterator:
                if (course.loses_answer and not n_left) or self.has_crashed_since(course.crashes):
                    break
                n_left -= 1
                yield item
            if course.loses_answer or self.has_crashed_since(course.crashes):
                raise self.failure(f"{call.method}, when it had begun,")
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()

    async def _begin(self, call: Call) -> _Course:
        """What happens before the call is made, if it is."""
        self.calls[call.method] += 1
        if self.is_crashed:
            raise Unavailable(f"{self.name}: has crashed on purpose")
        if not self.concerns(call.method):
            return _Course(self._crashes, False, 0)
        rates, crashes = self.rates, self._crashes
        delayed, hangs, is_full, fails, loses = (self._dice.random() for _ in range(5))  # always as many
        n_items = self.below(_MAX_ITEMS_BEFORE_FAILURE)
        latency_s = rates.latency_s + delayed * max(0.0, rates.max_latency_s - rates.latency_s)
        if latency_s:
            await asyncio.sleep(latency_s)
        if hangs < rates.hang_rate:
            self.hanging.set()
            await asyncio.get_running_loop().create_future()
        if call.access is Access.WRITE and is_full < rates.out_of_space_rate:
            raise OutOfSpace(f"{self.name}: {call.method} finds no space, on purpose")
        if fails < rates.error_rate or self.has_crashed_since(crashes):
            raise self.failure(call.method)
        return _Course(crashes, loses < rates.error_after_rate, n_items)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long something that was opened is of use."""

    faults: Faults
    crashes: int

    def require(self) -> None:
        """Raise Unavailable if it has ended."""
        if self.faults.has_crashed_since(self.crashes):
            raise Unavailable(f"{self.faults.name}: has crashed on purpose since this was opened")
