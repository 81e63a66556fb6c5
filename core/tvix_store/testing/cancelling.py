"""Stopping a coroutine in the middle, for tests of what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

__all__ = ["cancel_at_once", "cancel_when"]


async def cancel_when(event: asyncio.Event, coroutine: Coroutine[Any, Any, object]) -> None:
    """Run ``coroutine`` until it has set ``event``, then cancel it and wait for its end.

    What it raises, other than the cancellation, is raised here.
    """
    task = asyncio.ensure_future(coroutine)
    waiter = asyncio.ensure_future(event.wait())
    await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def cancel_at_once(coroutine: Coroutine[Any, Any, object], *, steps: int = 1) -> None:
    """Let ``coroutine`` run for ``steps`` turns of the event loop, then cancel it and wait for its end."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
