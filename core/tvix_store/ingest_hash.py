"""The hash of a NAR, taken in a thread of its own beside everything else.

SHA-256 is sequential and the slowest thing about an import that has nothing to write, so this thread does nothing
else, and others see to it that it always has something to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from tvix_store.nar_calculation import NarDigest

__all__ = ["NarHasher"]

_Then = Callable[[], object]


class NarHasher:
    """Hashes what it is given, in order, while ``run`` runs in a thread.

    Whoever gives it something bounds how much that is at one time.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Sequence[bytes | memoryview], _Then | None] | None] = SimpleQueue()

    def update(self, parts: Sequence[bytes | memoryview], then: _Then | None = None) -> None:
        """Have ``parts`` hashed; ``then`` is called afterwards, in the thread of ``run``."""
        self._queue.put((parts, then))

    def end(self) -> None:
        """The NAR is complete, or nobody wants to know any more: ``run`` returns."""
        self._queue.put(None)

    def run(self) -> NarDigest:
        """Hash until ``end`` is called."""
        sha256 = hashlib.sha256()
        size = 0
        while (work := self._queue.get()) is not None:
            parts, then = work
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            sha256.update(data)
            size += len(data)
            if then is not None:
                then()
            del work, parts, data, then  # while this thread waits, nothing is kept in memory on its account
        return NarDigest(size, sha256.digest())
