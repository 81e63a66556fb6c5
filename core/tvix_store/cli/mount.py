"""``tvix-store mount``: show a store as a filesystem, with the flags of the Rust program."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import click

from tvix_store.cli.run import serve
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.config import Kind
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

__all__ = ["mount"]


@click.command(short_help="Show a store as a read-only filesystem.")
@click.argument("mount_point", metavar="PATH")
@click.option(
    "--allow-other", is_flag=True, envvar="ALLOW_OTHER", show_envvar=True, help="Let other users use the mount, too."
)
@click.option("-l", "--list-root", is_flag=True, help="Show the store paths in PATH; else each is found by its name.")
@click.option(
    "--show-xattr/--no-show-xattr",
    default=True,
    show_default=True,
    help="Show digests, and what is known of a store path, as extended attributes.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    envvar="THREADS",
    show_envvar=True,
    metavar="N",
    expose_value=False,
    help="Has no effect: one thread answers, and waits for nobody.",
)
@store_options()
def mount(stores: StoreOptions, mount_point: str, allow_other: bool, list_root: bool, show_xattr: bool) -> None:
    """Show the store as a read-only filesystem at PATH, an existing directory, until interrupted or unmounted.

    What is never opened is never fetched.
    """
    registry = Registry.load()
    config = stores.store_config(registry)
    settings = {
        "type": "fuse",
        "mount_point": mount_point,
        "allow_other": allow_other,
        "list_root": list_root,
        "show_xattr": show_xattr,
    }
    frontends = StoreConfig.parse({Kind.FRONTEND.value: {"mount": settings}}, registry, "command line")
    entries = {**config.entries, Kind.FRONTEND: frontends.entries[Kind.FRONTEND]}
    asyncio.run(serve(replace(config, entries=entries), registry, open_services=stores.services))
