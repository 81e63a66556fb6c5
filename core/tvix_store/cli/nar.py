"""``tvix-store nar``: store paths as Nix archives."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import click

from tvix_store.cli.input import read_pieces
from tvix_store.cli.locate import locate
from tvix_store.cli.output import write_stdout
from tvix_store.cli.progress import FilesProgress
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.compression import DETECT_BYTES, decompressed, detect, with_head
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import InvalidObject
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.ingest import Advance, Ingested
from tvix_store.nar_calculation import NarDigest
from tvix_store.nar_ingest import ingest_nar
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.nodes import SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.store_path import store_path_for_ca, validate_name

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


@nar.command("import", short_help="Store what is in a NAR.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True), default="-")
@click.option("--name", help="Store it as a store path with this name, and print that.")
@store_options()
def import_(stores: StoreOptions, file: Path, name: str | None) -> None:
    """Store the contents of the NAR in FILE, or on stdin.

    It may be compressed with xz, bzip2, gzip, zstd or brotli. With --name, the path printed is the one that
    `nix-store --add` gives the contents. Without, nothing refers to them yet, and what is printed is the digest of
    the file or directory, or an arrow and the target of a symlink.
    """
    if name is not None:
        validate_name(name)
    asyncio.run(_import(stores, file, name))


async def _import(stores: StoreOptions, file: Path, name: str | None) -> None:
    async with stores.open() as services:
        with FilesProgress() as progress:
            progress.start(f"importing {file}")
            ingested = await _ingest(services, file, progress.advance)
        if name is not None:
            path_info = await services.path_infos.put(_source_path(ingested, name))
            print(path_info.store_path.absolute())
        elif isinstance(ingested.node, SymlinkNode):
            print(f"-> {os.fsdecode(ingested.node.target)}")
        else:
            print(ingested.node.digest)


async def _ingest(services: Services, file: Path, advance: Advance) -> Ingested:
    async with aclosing(read_pieces(file)) as pieces:
        head, whole = await with_head(pieces, DETECT_BYTES)
        compression = detect(head)
        if compression is None:
            raise InvalidObject(f"{'stdin' if str(file) == '-' else file}: neither a NAR nor a compressed one")
        async with aclosing(whole), aclosing(decompressed(whole, compression)) as nar_pieces:
            return await ingest_nar(nar_pieces, services.blobs, services.directories, advance)


def _source_path(ingested: Ingested, name: str) -> PathInfo:
    """As ``tvix-store import`` makes it: content-addressed by its NAR's SHA-256, without references."""
    ca = ContentAddress(ContentAddressMethod.NAR, NixHash(HashAlgorithm.SHA256, ingested.nar.sha256))
    return PathInfo(
        store_path=store_path_for_ca(name, ca),
        node=ingested.node,
        nar_size=ingested.nar.size,
        nar_sha256=ingested.nar.sha256,
        ca=ca,
    )
