"""``tvix-store cat``: the contents of a file in the store."""

from __future__ import annotations

import asyncio

import click

from tvix_store.cli.locate import locate
from tvix_store.cli.output import write_stdout
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.nodes import FileNode

__all__ = ["cat"]


@click.command(short_help="Print the contents of a file in the store.")
@click.argument("location")
@store_options()
def cat(stores: StoreOptions, location: str) -> None:
    """Print the file at LOCATION: a store path and the path of a file below it."""
    asyncio.run(_cat(stores, location))


async def _cat(stores: StoreOptions, location: str) -> None:
    async with stores.open() as services:
        node = await locate(services, location)
        if not isinstance(node, FileNode):
            raise InvalidObject(f"{location}: not a regular file")
        reader = await services.blobs.open_read(node.digest)
        if reader is None:
            raise DanglingReference(f"{location}: blob {node.digest} does not exist")
        async with reader:
            while piece := await reader.read():
                await asyncio.to_thread(write_stdout, piece)
