"""Giving up clients that do not take what they are sent."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["Stalling"]


class Stalling:
    """Ends what is within it by a TimeoutError once a client has taken nothing for some time.

    There is one timer for a response, since one for each piece would take longer than sending some pieces.

    Args:
        limit_s: For how long.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None  # when the client was last waited for and is still

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._timer = self._loop.call_later(self._limit_s, self._look)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(exc_type, exc, traceback)

    def begin(self) -> None:
        """It is the client's turn."""
        self._since = self._loop.time()

    def end(self) -> None:
        """It has taken something."""
        self._since = None

    def _look(self) -> None:
        now = self._loop.time()
        since = now if self._since is None else self._since
        if now - since >= self._limit_s:
            self._timeout.reschedule(now)
        else:
            self._timer = self._loop.call_at(since + self._limit_s, self._look)
