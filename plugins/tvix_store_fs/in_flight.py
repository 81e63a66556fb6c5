"""What is being stored just now, so that the same thing is not stored twice at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager

__all__ = ["InFlight"]


class InFlight:
    """The digests that callers in this process are about to store; for one event loop."""

    def __init__(self) -> None:
        self._done: dict[bytes, asyncio.Event] = {}

    @contextmanager
    def claim(self, digests: Collection[bytes]) -> Iterator[Collection[bytes]]:
        """Within it, those of ``digests`` that it gives are the caller's to store; the others somebody is at already.

        Whoever claims them must not wait for others before they are stored, so that nobody waits in a circle.
        """
        mine = dict.fromkeys(digest for digest in digests if digest not in self._done)  # in their order
        done = asyncio.Event()
        self._done.update(dict.fromkeys(mine, done))
        try:
            yield mine
        finally:
            for digest in mine:
                del self._done[digest]
            done.set()

    async def settled(self, digests: Collection[bytes]) -> None:
        """Wait until nobody is at any of them; whether they are stored then has to be looked up."""
        for event in {event for digest in digests if (event := self._done.get(digest)) is not None}:
            await event.wait()
