"""Calls on the store that must not keep a reader waiting for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import TypeVar

from tvix_store.errors import Unavailable

__all__ = ["each_in_time", "in_time"]

T = TypeVar("T")


async def in_time(call: Awaitable[T], timeout_s: float, what: str) -> T:
    """What ``call`` gives, if it does so within ``timeout_s``.

    Raises:
        Unavailable: It does not, and was cancelled; the message names ``what`` was asked for.
    """
    timeout = asyncio.timeout(timeout_s)
    try:
        async with timeout:
            return await call
    except TimeoutError as exc:
        if not timeout.expired():
            raise  # the call's own
        raise Unavailable(f"{what}: no answer within {timeout_s:g} s") from exc


async def each_in_time(items: AsyncIterator[T], timeout_s: float, what: str) -> AsyncGenerator[T]:
    """The items, as long as each comes within ``timeout_s``; ``items`` is closed with this.

    Raises:
        Unavailable: One does not.
    """

    async def following() -> tuple[T, ...]:
        try:
            return (await anext(items),)
        except StopAsyncIteration:
            return ()

    try:
        while found := await in_time(following(), timeout_s, what):
            yield found[0]
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
