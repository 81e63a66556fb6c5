"""Keys that are remembered for some time: those that were absent, or present, when somebody asked."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Look", "Remembered"]


class Look:
    """A question that is being asked. What is forgotten meanwhile is not remembered from its answer."""

    def __init__(self, memory: Remembered) -> None:
        self._memory = memory
        self.forgotten: set[bytes] = set()
        self.is_void = False

    def remember(self, keys: Iterable[bytes]) -> None:
        """What the answer was about, for the time of the memory from now on."""
        if not self.is_void:
            self._memory.add(key for key in keys if key not in self.forgotten)


class Remembered:
    """A bounded set of keys, each of which is forgotten after some time, the oldest first when there are too many.

    Args:
        ttl_s: How long, in seconds; 0: nothing is remembered.
        capacity: How many keys at most.
        clock: Seconds that only ever grow.
    """

    def __init__(self, ttl_s: float, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()  # the oldest first, since all have the same time
        self._looks: set[Look] = set()

    def __contains__(self, key: bytes) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if self._clock() >= until:
            del self._until[key]
            return False
        return True

    def __len__(self) -> int:
        return len(self._until)

    @contextmanager
    def look(self) -> Iterator[Look]:
        """Begin before the question is asked; only so can its answer be remembered."""
        look = Look(self)
        self._looks.add(look)
        try:
            yield look
        finally:
            self._looks.discard(look)

    def add(self, keys: Iterable[bytes]) -> None:
        """For `Look` alone."""
        if not self._ttl_s:
            return
        until = self._clock() + self._ttl_s
        for key in keys:
            self._until[key] = until
            self._until.move_to_end(key)
        while len(self._until) > self._capacity:
            self._until.popitem(last=False)

    def forget(self, keys: Iterable[bytes]) -> None:
        """These may be otherwise now."""
        for key in keys:
            self._until.pop(key, None)
            for look in self._looks:
                look.forgotten.add(key)

    def clear(self) -> None:
        """Any may be otherwise now."""
        self._until.clear()
        for look in self._looks:
            look.is_void = True
