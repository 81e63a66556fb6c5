"""``tvix-store run``: serve the stores of a configuration."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tvix_store.cli.stores import default_state_dir, embedded_default
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.errors import ConfigError
from tvix_store.frontend import Frontend
from tvix_store.registry import Registry
from tvix_store.resource import task_group
from tvix_store.store_config import StoreConfig

__all__ = ["run", "serve"]

logger = logging.getLogger("tvix_store.run")


@click.command(short_help="Serve the stores of a configuration.")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TVIX_STORE_STATE_DIR",
    show_envvar=True,
    help="Where the embedded default keeps its store.  [default: $XDG_STATE_HOME/tvix-store]",
)
def run(config: Path | None, state_dir: Path | None) -> None:
    """Serve the stores of CONFIG until interrupted.

    Without CONFIG, one store for everything is kept in the state directory and served over gRPC on localhost:8000, and
    as a Nix binary cache on http://localhost:9000.
    """
    registry = Registry.load()
    if config is not None:
        store_config = StoreConfig.load(config, registry)
    else:
        store_config = embedded_default(registry, state_dir or default_state_dir())
    asyncio.run(serve(store_config, registry))


async def serve(config: StoreConfig, registry: Registry) -> None:
    """Build everything, serve all frontends, and end when one fails or a signal comes.

    SIGINT and SIGTERM let the frontends finish what is under way; a second signal ends the process at once.

    Raises:
        ConfigError: There is no frontend, or the configuration cannot work.
        StoreError: A frontend failed.
    """
    if not config.entries.get(Kind.FRONTEND):
        raise ConfigError(f'{config.source}: no frontend to serve; add [frontends.grpc] with type = "grpc"')
    async with Composition(config, registry) as composition:
        await composition.services()
        frontends = await composition.frontends()
        waiting = set(frontends)

        async def serve_one(name: str, frontend: Frontend) -> None:
            def ready(address: str) -> None:
                logger.info("%s listens on %s", name, address)
                waiting.discard(name)
                if not waiting:
                    logger.info("ready, serving %s", config.source)
                    _notify_systemd("READY=1")

            await frontend.serve(ready)

        async with task_group() as group:
            tasks = [group.create_task(serve_one(name, frontend)) for name, frontend in frontends.items()]
            with _signals_cancel(tasks):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        logger.info("stopped")


@contextmanager
def _signals_cancel(tasks: list[asyncio.Task[None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(signal_: signal.Signals) -> None:
        logger.info("%s: finishing what is under way; once more to end at once", signal_.name)
        _notify_systemd("STOPPING=1")
        for number in signals:
            loop.add_signal_handler(number, os._exit, 128 + number)
        for task in tasks:
            task.cancel()

    for signal_ in signals:
        loop.add_signal_handler(signal_, stop, signal_)
    try:
        yield
    finally:
        for signal_ in signals:
            loop.remove_signal_handler(signal_)


def _notify_systemd(state: str) -> None:
    """Tell a service manager that asked for it, see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, _ignoring_errors():
            notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            notify.sendall(state.encode())


@contextmanager
def _ignoring_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        logger.warning("cannot notify the service manager: %s", exc)
