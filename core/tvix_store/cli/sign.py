"""``tvix-store sign``: signatures for what is in a store already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import click

from tvix_store.cli.selection import select_path_infos
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.frontend import Services
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey

__all__ = ["sign", "sign_path_infos"]


@click.command(short_help="Sign store paths that are in the store.")
@click.argument("locations", nargs=-1, metavar="PATH...")
@click.option(
    "-k",
    "--key-file",
    "key_files",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="FILE",
    help="A secret key to sign with; may be given several times.",
)
@click.option("-r", "--recursive", is_flag=True, help="Sign all that each PATH refers to as well.")
@click.option("--all", "all_", is_flag=True, help="Sign everything that is in the store.")
@store_options()
def sign(
    stores: StoreOptions, locations: Sequence[str], key_files: Sequence[Path], recursive: bool, all_: bool
) -> None:
    """Add signatures to the path infos of each PATH.

    Those that are there stay, and a path that has the signature of the key is left as it is. Prints the paths that were
    signed.
    """
    if all_ == bool(locations):
        raise click.UsageError("give either store paths or --all")
    keys = [SecretKey.read(file) for file in key_files]
    added = asyncio.run(_sign(stores, locations, keys, recursive))
    click.echo(f"signatures added: {added}", err=True)


async def _sign(stores: StoreOptions, locations: Sequence[str], keys: Sequence[SecretKey], recursive: bool) -> int:
    added = 0
    async with stores.open() as services, aclosing(select_path_infos(services, locations, recursive=recursive)) as all_:
        async for batch in all_:
            added += await sign_path_infos(services, batch, keys)
    return added


async def sign_path_infos(services: Services, path_infos: Sequence[PathInfo], keys: Sequence[SecretKey]) -> int:
    """Put what ``keys`` have not signed yet once more, signed; returns how many signatures that were."""

    def signed() -> list[PathInfo]:
        result = list(path_infos)
        for key in keys:
            result = [key.signed(path_info) for path_info in result]
        return result

    changed: list[PathInfo] = []
    added = 0
    for before, after in zip(path_infos, await asyncio.to_thread(signed), strict=True):
        if new := set(after.signatures).difference(before.signatures):
            changed.append(after)
            added += len(new)
    for path_info in await services.path_infos.put_many(changed):
        print(path_info.store_path.absolute())
    return added
