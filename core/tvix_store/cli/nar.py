"""``tvix-store nar``: store paths as Nix archives."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import click

from tvix_store.cli.locate import locate
from tvix_store.cli.output import write_stdout
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nar_calculation import NarDigest
from tvix_store.nar_render import load_tree, render_nar

__all__ = ["nar"]


@click.group(short_help="Store paths as Nix archives.")
def nar() -> None:
    """Store paths as Nix archives (NARs)."""


@nar.command(short_help="Write the NAR of a store path to stdout.")
@click.argument("location")
@store_options()
def dump(stores: StoreOptions, location: str) -> None:
    """Write what is at LOCATION to stdout as `nix-store --dump` does."""
    asyncio.run(_dump(stores, location))


async def _dump(stores: StoreOptions, location: str) -> None:
    async with stores.open() as services:
        tree = await load_tree(await locate(services, location), services.directories)
        async with aclosing(render_nar(tree, services.blobs)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(write_stdout, piece)


@nar.command("hash", short_help="Print size and SHA-256 of the NAR of a store path.")
@click.argument("location")
@click.option("--format", "format_", type=click.Choice(["nix", "sri", "base16"]), default="nix", show_default=True)
@click.option("--size", is_flag=True, help="Print the size in bytes as well.")
@store_options()
def hash_(stores: StoreOptions, location: str, format_: str, size: bool) -> None:
    """Print the SHA-256 of the NAR of what is at LOCATION, calculated from the contents by the store."""
    digest = asyncio.run(_hash(stores, location))
    nix_hash = NixHash(HashAlgorithm.SHA256, digest.sha256)
    text = {"nix": nix_hash.nix, "sri": nix_hash.sri, "base16": nix_hash.hex}[format_]()
    print(f"{text} {digest.size}" if size else text)


async def _hash(stores: StoreOptions, location: str) -> NarDigest:
    async with stores.open() as services:
        return await services.nar_calculation.calculate_nar(await locate(services, location))
