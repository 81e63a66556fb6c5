"""What was used last, within a number of bytes and of entries."""

from __future__ import annotations

from collections import OrderedDict

from tvix_store.statistics import ServiceStats

__all__ = ["ENTRY_BYTES", "Lru"]

ENTRY_BYTES = 256
"""What an entry takes beside its contents, about."""


class Lru:
    """Contents by key. What was used least recently is forgotten to make room.

    Args:
        max_bytes: How much is held: contents, ``ENTRY_BYTES`` for each, and what is reserved.
        capacity: How many entries are held; ``None``: as many as there is room for.
    """

    def __init__(self, max_bytes: int, capacity: int | None = None) -> None:
        self.most_bytes = max_bytes // 4
        self._max_bytes = max_bytes
        self._capacity = capacity
        self._contents: OrderedDict[bytes, bytes] = OrderedDict()
        self._content_bytes = 0
        self._reserved_bytes = 0

    @property
    def held_bytes(self) -> int:
        """All that counts towards the bound."""
        return self._content_bytes + ENTRY_BYTES * len(self._contents) + self._reserved_bytes

    def use(self, key: bytes) -> bytes | None:
        """The contents, which are the most recently used ones now; ``None`` if they are not held."""
        data = self._contents.get(key)
        if data is not None:
            self._contents.move_to_end(key)
        return data

    def look(self, key: bytes) -> bytes | None:
        """The contents, without any use being made of them."""
        return self._contents.get(key)

    def put(self, key: bytes, data: bytes) -> None:
        """Hold these, in place of what was there. What is longer than ``most_bytes`` is not held."""
        self.remove(key)
        if len(data) <= self.most_bytes and self._make_room(len(data) + ENTRY_BYTES):
            self._contents[key] = data
            self._content_bytes += len(data)
            if self._capacity is not None and len(self._contents) > self._capacity:
                self._forget_oldest()

    def remove(self, key: bytes) -> None:
        """Forget one, if it is held."""
        data = self._contents.pop(key, None)
        if data is not None:
            self._content_bytes -= len(data)

    def reserve(self, n_bytes: int) -> bool:
        """Make room for what is on its way; ``False`` if there is none. Released before it is put."""
        if not self._make_room(n_bytes):
            return False
        self._reserved_bytes += n_bytes
        return True

    def release(self, n_bytes: int) -> None:
        """The counterpart of ``reserve``."""
        self._reserved_bytes -= n_bytes

    def _make_room(self, n_bytes: int) -> bool:
        if self._reserved_bytes + n_bytes > self._max_bytes:
            return False
        while self.held_bytes + n_bytes > self._max_bytes:
            self._forget_oldest()
        return True

    def _forget_oldest(self) -> None:
        _, data = self._contents.popitem(last=False)
        self._content_bytes -= len(data)

    def items(self) -> tuple[tuple[bytes, bytes], ...]:
        """All that is held now."""
        return tuple(self._contents.items())

    def stats(self) -> ServiceStats:
        """What is held."""
        details = (("held bytes", self.held_bytes), ("max bytes", self._max_bytes))
        return ServiceStats(len(self._contents), self._content_bytes, self._content_bytes, details=details)
