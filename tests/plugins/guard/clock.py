"""Time that passes when somebody sleeps."""

from __future__ import annotations

import asyncio

__all__ = ["Clock"]


class Clock:
    """A clock to call, whose ``sleep`` takes no time.

    Attributes:
        now: What it shows, in seconds.
        pauses: What was slept.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, and the others run once."""
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
