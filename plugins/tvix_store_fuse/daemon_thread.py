"""Calls that may never come back, as looking at a filesystem which does not answer: nothing waits for their threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

__all__ = ["in_daemon_thread"]

T = TypeVar("T")
P = ParamSpec("P")


async def in_daemon_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, in a thread that keeps neither the loop nor the process from ending.

    A cancelled call goes on, so it must be harmless.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, exc: BaseException | None) -> None:
        if outcome.done():
            return  # nobody waits any more
        if exc is not None:
            outcome.set_exception(exc)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # one of the two is given

    def call() -> None:
        result, failure = None, None
        try:
            result = function(*args, **kwargs)
        except BaseException as exc:
            failure = exc
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=call, name=getattr(function, "__name__", "call"), daemon=True).start()
    return await outcome
