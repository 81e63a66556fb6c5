"""What ``run`` and ``daemon`` tell others about themselves: metrics that are asked for, and OpenTelemetry."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import click

from tvix_store.composition import Service
from tvix_store.config import FrontendConfig, Kind
from tvix_store.errors import ConfigError
from tvix_store.store_config import StoreConfig
from tvix_store.telemetry import METRICS, TRACING
from tvix_store.worker_check import frontends_with_workers

__all__ = ["otlp_options", "telemetry"]

logger = logging.getLogger("tvix_store.telemetry")

_ENDPOINTS = tuple(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "METRICS_"))
_FLUSH_S = 3.0
_MISSING = "OpenTelemetry is not installed: pip install 'tvix-store[otel]'"


def otlp_options() -> list[str]:
    """The flags that make another process do here as this one was told to."""
    flag = _flag()
    return [] if flag is None else [f"--otlp={str(flag).lower()}"]


def _flag() -> bool | None:
    """What ``--otlp`` says; ``None`` if it was not given."""
    context = click.get_current_context(silent=True)
    flag: bool | None = None if context is None else context.find_root().params.get("otlp")
    return flag


@asynccontextmanager
async def telemetry(config: StoreConfig) -> AsyncIterator[Callable[[str, Service], Service] | None]:
    """Meanwhile, metrics and traces go where they are wanted.

    Args:
        config: What is going to be built; its frontends may show metrics.

    Yields:
        What observes each service; ``None`` if nobody would see what it does.

    Raises:
        ConfigError: ``--otlp`` was given, and OpenTelemetry is not installed.
    """
    async with AsyncExitStack() as stack:
        is_exported = await _export(stack)
        if not is_exported and not _shows_metrics(config):
            yield None
            return

        from tvix_store.telemetry_observer import observed
        from tvix_store.telemetry_process import watching_process

        if frontends_with_workers(config):
            METRICS.labels["worker"] = str(os.getpid())
        await stack.enter_async_context(watching_process())
        yield observed


def _shows_metrics(config: StoreConfig) -> bool:
    frontends = config.entries.get(Kind.FRONTEND, {}).values()
    return any(entry.shows_metrics for entry in frontends if isinstance(entry, FrontendConfig))


async def _export(stack: AsyncExitStack) -> bool:
    """Set OpenTelemetry up, if it is wanted and there; whether it is."""
    flag = _flag()
    if flag is None:
        is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if is_disabled or not any(os.environ.get(name) for name in _ENDPOINTS):
            return False
    elif not flag:
        return False
    try:
        from tvix_store.cli.otlp import start_exporting
    except ModuleNotFoundError as exc:
        if flag:
            raise ConfigError(f"--otlp: {_MISSING}") from exc
        logger.warning("%s is set, but %s", next(name for name in _ENDPOINTS if os.environ.get(name)), _MISSING)
        return False
    exporting = start_exporting()
    TRACING.tracer = exporting.tracer

    async def stop() -> None:
        TRACING.tracer = None
        # A thread that nobody waits for at the end: a collector that does not answer must not keep us.
        await asyncio.to_thread(exporting.stop, _FLUSH_S)

    stack.push_async_callback(stop)
    return True
