"""What was used lately, as much of it as there is room for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Lru"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    """Values by key. When they weigh too much, those not used for longest go; the last one put always stays.

    Args:
        max_weight: Of all together.
    """

    def __init__(self, max_weight: int) -> None:
        self.max_weight = max_weight
        self.weight = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, which counts as used; ``None`` if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep a value, in the place of another if there is one."""
        self.drop(key)
        self._entries[key] = (value, weight)
        self.weight += weight
        while self.weight > self.max_weight and len(self._entries) > 1:
            self.weight -= self._entries.popitem(last=False)[1][1]

    def drop(self, key: K) -> None:
        """Forget a value, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.weight -= entry[1]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.weight = 0
