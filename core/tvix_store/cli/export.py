"""``tvix-store export``: store paths as a binary cache in a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from tvix_store.binary_cache import BinaryCache
from tvix_store.cli.locate import find_path_info
from tvix_store.cli.progress import ItemsProgress
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.compression import SUFFIXES
from tvix_store.path_closure import path_closure
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey

__all__ = ["export"]


@click.command(short_help="Write store paths as a binary cache in a folder.")
@click.argument("locations", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="The folder; made if it is not there.",
)
@click.option("--compression", type=click.Choice(list(SUFFIXES)), default="zstd", show_default=True)
@click.option(
    "-k",
    "--key-file",
    "key_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A secret key to sign with; may be given several times.",
)
@click.option("--write-nar-listing", "write_listings", is_flag=True, help="Say what is in each path in a .ls file.")
@store_options()
def export(
    stores: StoreOptions,
    locations: Sequence[str],
    folder: Path,
    compression: str,
    key_files: Sequence[Path],
    write_listings: bool,
) -> None:
    """Write each PATH, and all that it refers to, into a folder that Nix takes as file://DIR.

    Any web server can serve the folder. Paths whose narinfo is there are passed over. Prints the paths that were
    written; each is complete then.
    """
    cache = BinaryCache(
        folder,
        compression=compression,
        keys=[SecretKey.read(file) for file in key_files],
        write_listings=write_listings,
    )
    asyncio.run(_export(stores, locations, cache))


async def _export(stores: StoreOptions, locations: Sequence[str], cache: BinaryCache) -> None:
    async with stores.open() as services:
        roots = [(await find_path_info(services, location))[0] for location in locations]
        closure = await path_closure(services.path_infos, roots)
        with ItemsProgress("exporting", len(closure)) as progress:

            def done(path_info: PathInfo, written: bool) -> None:
                progress.advance()
                if written:
                    with progress.paused():
                        print(path_info.store_path.absolute())

            await cache.add(services, closure, done)
