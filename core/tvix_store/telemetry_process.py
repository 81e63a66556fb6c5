"""What a process is like while it serves: its version, and how late its event loop is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from tvix_store.telemetry import METRICS, Metrics

__all__ = ["watching_process"]

_INTERVAL_S = 0.25
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@asynccontextmanager
async def watching_process(metrics: Metrics = METRICS, interval_s: float = _INTERVAL_S) -> AsyncIterator[None]:
    """Meanwhile, measure again and again how late the event loop wakes us up.

    What it is busy with, or a thread that keeps the interpreter's lock, makes every request as late as this.
    """
    metrics.number("tvix_store_build_info", "Always 1; the version is a label.", ["version"])(
        version("tvix-store")
    ).value = 1
    lag = metrics.histogram(
        "tvix_store_event_loop_lag_seconds", "How late the event loop was, looked at now and then."
    )()
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        while True:
            due = loop.time() + interval_s
            await asyncio.sleep(interval_s)
            lag.observe(max(0.0, loop.time() - due))

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
