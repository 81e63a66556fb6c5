"""``tvix-store daemon``: serve over gRPC, with the flags of the Rust program."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import click

from tvix_store.cli.run import serve
from tvix_store.cli.stores import (
    DEFAULT_ADDRESS,
    StoreOptions,
    default_state_dir,
    embedded_default,
    store_options,
)
from tvix_store.config import Kind
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

__all__ = ["daemon"]


logger = logging.getLogger("tvix_store.daemon")


def _without_effect(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """A flag of the Rust program for something that grpcio settles by itself."""
    if value:
        logger.warning("%s has no effect here", parameter.opts[0])


def _keepalive_s(text: str) -> float:
    """Seconds of ``MS[:COUNT[:INTERVAL_MS]]``; how often and how long to insist is not ours to say.

    Raises:
        click.BadParameter: It does not begin with a number above 0.
    """
    milliseconds = text.partition(":")[0]
    if not milliseconds.isdecimal() or not int(milliseconds):
        raise click.BadParameter(f"{text!r} does not begin with a number of milliseconds", param_hint="--tcp-keepalive")
    return int(milliseconds) / 1000


@click.command(short_help="Serve stores over gRPC, configured by flags.")
@click.option("-l", "--listen-address", "listen", default=DEFAULT_ADDRESS, show_default=True, metavar="ADDRESS")
@click.option("--unix-listen-unlink", is_flag=True, help="Remove an existing socket file first.")
@click.option("--unix-listen-chmod", type=click.Choice(["owner", "group", "everybody"]), help="Who may connect.")
@click.option("--unix-listen-uid", type=int, help="Owner of the socket file.")
@click.option("--unix-listen-gid", type=int, help="Group of the socket file.")
@click.option("--tcp-reuse-port", is_flag=True, help="Let several processes listen on one port.")
@click.option("--tcp-keepalive", metavar="MS", help="Ping idle connections after this many milliseconds.")
@click.option("--tcp-only-v6", is_flag=True, callback=_without_effect, expose_value=False, hidden=True)
@click.option("--tcp-listen-backlog", type=int, callback=_without_effect, expose_value=False, hidden=True)
@click.option("--recv-buffer-size", type=int, callback=_without_effect, expose_value=False, hidden=True)
@click.option("--send-buffer-size", type=int, callback=_without_effect, expose_value=False, hidden=True)
@click.option("--sd-accept-ignore-environment", is_flag=True, callback=_without_effect, expose_value=False, hidden=True)
@click.option("--allow-remote-writes", is_flag=True, help="Take uploads on addresses that are not local, too.")
@store_options(default="the store that `run` keeps")
def daemon(stores: StoreOptions, tcp_keepalive: str | None, **listen: Any) -> None:
    """Serve the blob, directory and path info service over gRPC until interrupted.

    ADDRESS is an IP literal or localhost with a port, /path or ./path of a Unix socket, or @name of an abstract
    one. Whoever can reach an address that is not local may read; only with --allow-remote-writes may they write.
    """
    registry = Registry.load()
    fallback = embedded_default(registry, default_state_dir())
    config = stores.store_config(registry, fallback)
    given = {key: value for key, value in listen.items() if value is not None}
    if tcp_keepalive is not None:
        given["keepalive_s"] = _keepalive_s(tcp_keepalive)
    document = {Kind.FRONTEND.value: {"daemon": {"type": "grpc", **given}}}
    frontends = StoreConfig.parse(document, registry, "command line")
    entries = {**config.entries, Kind.FRONTEND: frontends.entries[Kind.FRONTEND]}
    asyncio.run(serve(replace(config, entries=entries), registry))
