"""``tvix-store compact``: the space of deleted blobs back to the file system."""

from __future__ import annotations

import asyncio

import click

from tvix_store.blob import BlobService
from tvix_store.cli.stores import StoreOptions, store_options

__all__ = ["compact"]


@click.command(short_help="Give the space of deleted blobs back to the file system.")
@store_options(default="the store that `run` keeps", has_state_dir=True)
def compact(stores: StoreOptions) -> None:
    """Compact every blob store of the composition that can be, and print how many bytes were freed in each.

    The stores are opened beside a daemon that may have them open.
    """
    if not asyncio.run(_compact(stores)):
        click.echo("none of the stores can be compacted", err=True)


async def _compact(stores: StoreOptions) -> int:
    """Returns how many stores were compacted."""
    compacted = 0
    async with stores.open_composition() as composition:
        for entry in await composition.entries():
            service = entry.service
            if entry.is_made_of_others or not isinstance(service, BlobService) or not service.capabilities.compact:
                continue
            print(f"{entry.entry_id}: {await service.compact()} bytes freed", flush=True)
            compacted += 1
    return compacted
