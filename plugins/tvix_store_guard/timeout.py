"""Calls that take too long are given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from tvix_store.around import Access, Around, Call
from tvix_store.errors import Unavailable

__all__ = ["Timeout"]

T = TypeVar("T")


class Timeout(Around):
    """Cancels calls that take too long, and says so. What answers bit by bit has the time for each bit.

    Args:
        name: Of the entry, for messages.
        read_s: How long a call that reads may take.
        write_s: How long a call that writes may take; ``None``: any time.
        upkeep_s: How long all else may take; ``None``: any time.
        timeout: Cancels what is in it after so many seconds; ``asyncio.timeout``.
    """

    def __init__(
        self,
        name: str,
        *,
        read_s: float,
        write_s: float | None = None,
        upkeep_s: float | None = None,
        timeout: Callable[[float], asyncio.Timeout] = asyncio.timeout,
    ) -> None:
        self._name = name
        self._seconds = {Access.READ: read_s, Access.WRITE: write_s, Access.UPKEEP: upkeep_s}
        self._timeout = timeout

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        seconds = self._seconds[call.access]
        if seconds is None:
            return await operation()
        timeout = self._timeout(seconds)
        try:
            async with timeout:
                return await operation()
        except TimeoutError as exc:
            if not timeout.expired():
                raise  # the operation's own
            raise Unavailable(f"{self._name}: {call.method} took longer than {seconds:g} s") from exc

    async def iterate(self, call: Call, items: Callable[[], AsyncIterator[T]]) -> AsyncGenerator[T]:
        iterator = items()

        async def following() -> list[T]:
            try:
                return [await anext(iterator)]
            except StopAsyncIteration:
                return []

        try:
            while found := await self.call(call, following):
                yield found[0]
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
