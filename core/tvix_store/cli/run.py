"""``tvix-store run``: serve the stores of a configuration."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from tvix_store.cli.logs import keep_out
from tvix_store.cli.stores import default_state_dir, embedded_default
from tvix_store.cli.telemetry import otlp_options, telemetry
from tvix_store.cli.workers import Starter, Worker, name_log_lines
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.errors import ConfigError, Unavailable
from tvix_store.frontend import Frontend, Services
from tvix_store.listen import ListenAddress, bind_tcp
from tvix_store.registry import Registry
from tvix_store.resource import task_group
from tvix_store.store_config import StoreConfig
from tvix_store.worker_check import check_workers, frontends_with_workers

__all__ = ["run", "serve", "serve_as_worker"]

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
@click.option("--worker", metavar="FRONTEND", hidden=True, help="Be one more process of this frontend.")
def run(config: Path | None, state_dir: Path | None, worker: str | None) -> None:
    """Serve the stores of CONFIG until interrupted.

    Without CONFIG, one store for everything is kept in the state directory and served over gRPC on localhost:8000, and
    as a Nix binary cache on http://localhost:9000.
    """
    registry = Registry.load()
    if config is None:
        asyncio.run(serve(embedded_default(registry, state_dir or default_state_dir()), registry))
        return
    store_config = StoreConfig.load(config, registry)
    keep_out(store_config.references.hide)
    if worker is None:
        asyncio.run(serve(store_config, registry, lambda name: _worker_command(name, config)))
    else:
        name_log_lines()
        asyncio.run(serve_as_worker(store_config, registry, worker, Starter.on_stdin()))


def _worker_command(frontend: str, config: Path) -> Sequence[str]:
    """What starts a worker with the global options of this process; ``-P`` keeps the working directory off its path."""
    options = click.get_current_context().find_root().params
    logs = ["--log-level", options["log_level"], "--log-format", options["log_format"]]
    flags = [*(["--debug"] if options["debug"] else []), *otlp_options()]
    return [sys.executable, "-P", "-m", "tvix_store", *logs, *flags, "run", "--worker", frontend, "--", str(config)]


async def serve(
    config: StoreConfig,
    registry: Registry,
    worker_command: Callable[[str], Sequence[str]] | None = None,
    open_services: Callable[[Composition], Awaitable[Services]] = Composition.services,
) -> None:
    """Build everything, serve all frontends, and end when one fails or ends by itself, or a signal comes.

    SIGINT, SIGTERM and a frontend's end let the others finish what is under way; a second signal ends the process at
    once.

    Args:
        config: What to build.
        registry: Where anonymous entries find their models.
        worker_command: Makes the command that starts one more process of a frontend; ``None``: there are none.
        open_services: Builds what is served; raises what is fit for whoever chose the stores.

    Raises:
        ConfigError: There is no frontend, or the configuration cannot work.
        StoreError: A frontend failed.
    """
    if not config.entries.get(Kind.FRONTEND):
        raise ConfigError(f'{config.source}: no frontend to serve; add [frontends.grpc] with type = "grpc"')
    async with telemetry(config) as observe, Composition(config, registry, observe) as composition:
        check_workers(config, registry)
        workers = {} if worker_command is None else _workers(config, worker_command)
        await open_services(composition)
        frontends = await composition.frontends()
        waiting = {*frontends, *workers}

        def is_ready(name: str) -> None:
            if name in waiting:
                waiting.remove(name)
                if not waiting:
                    logger.info("ready, serving %s", config.source)
                    _notify_systemd("READY=1")

        def listens(name: str, address: str) -> None:
            logger.info("%s listens on %s", name, address)
            is_ready(name)

        def finish() -> None:
            _notify_systemd("STOPPING=1")
            for task in tasks:
                if not task.cancelling():  # cancelled once more, it would not finish
                    task.cancel()

        def stop(signal_name: str) -> None:
            logger.info("%s: finishing what is under way; once more to end at once", signal_name)
            finish()

        def end_at_once(number: int) -> None:
            for worker in workers.values():
                worker.kill()
            for name, frontend in frontends.items():
                _abandon(name, frontend)
            os._exit(128 + number)

        async def serve_one(name: str, frontend: Frontend) -> None:
            await frontend.serve(partial(listens, name))
            task = asyncio.current_task()
            assert task is not None
            if not task.cancelling():
                logger.info("%s has ended: finishing what is under way", name)
                finish()

        tasks: list[asyncio.Task[None]] = []
        with _signals(stop, end_at_once):
            async with task_group() as group:
                tasks += [group.create_task(serve_one(name, frontend)) for name, frontend in frontends.items()]
                tasks += [
                    group.create_task(worker.keep_running(partial(is_ready, name))) for name, worker in workers.items()
                ]
        logger.info("stopped")


def _abandon(name: str, frontend: Frontend) -> None:
    """What one frontend fails to give back does not keep the others, or the process's end."""
    try:
        frontend.abandon()
    except Exception:
        logger.exception("%s may have left something behind", name)


def _workers(config: StoreConfig, command: Callable[[str], Sequence[str]]) -> Mapping[str, Worker]:
    """The processes that serve besides this one, by a name for each.

    Raises:
        Unavailable: Somebody else has a port that they are to share.
    """
    workers: dict[str, Worker] = {}
    for name, entry in frontends_with_workers(config).items():
        if not entry.tcp_reuse_port:
            _refuse_taken(entry.address)
        workers |= {f"{name} worker {number}": Worker(name, command(name)) for number in range(2, entry.workers + 1)}
    return workers


def _refuse_taken(address: ListenAddress) -> None:
    """Fail if somebody listens there, whom we would share the port with otherwise: another run of ours, most likely."""
    try:
        for bound in bind_tcp(address):
            bound.close()
    except OSError as exc:
        raise Unavailable(f"cannot listen on {address.text}: {(exc.strerror or str(exc)).lower()}") from exc


async def serve_as_worker(config: StoreConfig, registry: Registry, name: str, starter: Starter) -> None:
    """Serve one frontend until the process that started this one says so or goes, or a signal comes.

    Signals are no more urgent when they come again, since a service manager may send them to all processes at once:
    only SIGKILL does not let what is under way finish.

    Raises:
        ConfigError: There is no such frontend, or the configuration cannot work.
        StoreError: The frontend failed.
    """
    frontends = config.entries.get(Kind.FRONTEND, {})
    if name not in frontends:
        raise ConfigError(f"{config.source}: there is no frontend {name!r} any more")
    entries = {**config.entries, Kind.FRONTEND: {name: frontends[name]}}

    def ready(address: str) -> None:
        logger.info("%s listens on %s", name, address)
        starter.tell_ready()

    async def serve_one() -> None:
        mine = replace(config, entries=entries)
        async with telemetry(mine) as observe, Composition(mine, registry, observe) as composition:
            await composition.services()
            await (await composition.frontends())[name].serve(ready)

    async with task_group() as group:
        serving = group.create_task(serve_one())
        reasons: list[str] = []

        def stop(reason: str) -> None:
            reasons.append(reason)
            if len(reasons) == 1:  # cancelled once more, it would not finish
                logger.info("%s: finishing what is under way", reason)
                serving.cancel()

        with _signals(stop, lambda number: None), starter.watched(lambda: stop("no longer wanted")):
            await asyncio.wait([serving])
    logger.info("stopped")


@contextmanager
def _signals(first: Callable[[str], None], again: Callable[[int], None]) -> Iterator[None]:
    """Call ``first`` with the name of the first SIGINT or SIGTERM, ``again`` with the number of each further one."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    is_again = False

    def received(signal_: signal.Signals) -> None:
        nonlocal is_again
        if is_again:
            again(signal_)
        else:
            is_again = True
            first(signal_.name)

    for signal_ in signals:
        loop.add_signal_handler(signal_, received, signal_)
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
