"""A bound on how much all streams of a frontend hold in memory together."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

__all__ = ["ByteBudget", "Share"]


class ByteBudget:
    """So many bytes may be held by streams that read ahead of what they send.

    Each stream opens a share, reserves before it fetches, and gives back what it has sent. A reservation waits, in
    the order of asking, until there is room for it. Only for a share that holds nothing is there always room, since a
    stream that waits for others could wait for ever: for clients that do not read. So what is held altogether is at
    most ``n_bytes``, and for each stream one reservation.

    Belongs to one event loop.

    Args:
        n_bytes: How much may be held.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.held_bytes = 0
        self._waiting: deque[tuple[Share, int, asyncio.Future[None]]] = deque()

    def share(self) -> Share:
        """What one stream holds; to be closed at its end, as ``with`` does."""
        return Share(self)

    def _hand_out(self) -> None:
        """Let those go on for which there is room."""
        kept: deque[tuple[Share, int, asyncio.Future[None]]] = deque()
        is_room_left = True
        while self._waiting:
            share, n_bytes, granted = self._waiting.popleft()
            if granted.done():  # cancelled
                continue
            # Who comes later does not overtake, or somebody who needs much would wait until nobody else is there.
            is_room_left = is_room_left and self.held_bytes + n_bytes <= self.n_bytes
            if is_room_left or not share.held_bytes:
                share._take(n_bytes)
                granted.set_result(None)
            else:
                kept.append((share, n_bytes, granted))
        self._waiting = kept


class Share:
    """What one stream holds of a budget.

    Attributes:
        held_bytes: How much that is.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held_bytes = 0

    async def reserve(self, n_bytes: int) -> None:
        """Wait until ``n_bytes`` more may be held, and hold them.

        A call that is cancelled holds nothing.
        """
        budget = self._budget
        if not self.held_bytes or (not budget._waiting and budget.held_bytes + n_bytes <= budget.n_bytes):
            self._take(n_bytes)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        budget._waiting.append((self, n_bytes, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():  # both at once
                self.give_back(n_bytes)
            budget._hand_out()
            raise

    def give_back(self, n_bytes: int) -> None:
        """Hold so much less."""
        self._take(-n_bytes)
        if self._budget._waiting:
            self._budget._hand_out()

    def _take(self, n_bytes: int) -> None:
        self.held_bytes += n_bytes
        self._budget.held_bytes += n_bytes

    def close(self) -> None:
        """Give back everything. Nothing is waiting for this share any more."""
        self.give_back(self.held_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
