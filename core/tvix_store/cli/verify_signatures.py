"""``tvix-store verify-signatures``: whether somebody trusted stands for what a store says of its paths."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import click

from tvix_store.cli.selection import select_path_infos
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.path_info import PathInfo
from tvix_store.signing import PublicKey, parse_public_keys
from tvix_store.trust import Untrusted, check_trusted

__all__ = ["verify_signatures"]


@click.command("verify-signatures", short_help="Say which store paths nobody trusted has signed.")
@click.argument("locations", nargs=-1, metavar="[PATH...]")
@click.option(
    "--trusted-public-keys",
    "trusted",
    multiple=True,
    required=True,
    metavar="KEYS",
    help="Public keys, NAME:BASE64 separated by white space; may be given several times.",
)
@click.option("-r", "--recursive", is_flag=True, help="Check all that each PATH refers to as well.")
@store_options()
def verify_signatures(stores: StoreOptions, locations: Sequence[str], trusted: Sequence[str], recursive: bool) -> None:
    """Check the signatures of each PATH, or of everything that is in the store.

    Prints a line for each path that has no signature by one of the keys and is not content-addressed either; the exit
    status is 1 then. That contents have the hash that is signed is what `verify` checks.
    """
    public_keys = parse_public_keys(" ".join(trusted))
    checked, untrusted = asyncio.run(_verify(stores, locations, public_keys, recursive))
    click.echo(f"{untrusted} of {checked} not trusted", err=True)
    if untrusted:
        click.get_current_context().exit(1)


async def _verify(
    stores: StoreOptions, locations: Sequence[str], public_keys: Sequence[PublicKey], recursive: bool
) -> tuple[int, int]:
    """Returns how many were checked, and how many of them are not trusted."""
    checked = untrusted = 0
    async with stores.open() as services, aclosing(select_path_infos(services, locations, recursive=recursive)) as all_:
        async for batch in all_:
            reasons = await asyncio.to_thread(_reasons, batch, public_keys)
            for reason in reasons:
                print(reason)
            checked += len(batch)
            untrusted += len(reasons)
    return checked, untrusted


def _reasons(path_infos: Sequence[PathInfo], public_keys: Sequence[PublicKey]) -> list[str]:
    """Why those that are not trusted are not."""
    reasons = []
    for path_info in path_infos:
        try:
            check_trusted(path_info, public_keys)
        except Untrusted as exc:
            reasons.append(str(exc))
    return reasons
