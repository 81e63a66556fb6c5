"""Rendering the NAR of a tree: from sqlite in this process, and through a daemon, against Nix reading the disk."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

from _harness import TVIX_STORE, arguments, compare, daemon, scratch

from tvix_store.cli.import_ import import_path
from tvix_store.composition import Composition
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig


def nix_dump(tree: str) -> float:
    """``nix-store --dump`` of the tree on disk."""
    start = time.perf_counter()
    subprocess.run(["nix-store", "--dump", tree], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def cli_dump(url: str, location: str) -> float:
    """``tvix-store nar dump`` as a process."""
    start = time.perf_counter()
    subprocess.run([TVIX_STORE, "nar", "dump", "--store", url, location], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


async def fill(url: str, tree: str) -> tuple[str, int]:
    """Import the tree; its store path and NAR size."""
    registry = Registry.load()
    async with Composition(StoreConfig.from_urls(url, url, url, registry, "benchmark"), registry) as composition:
        path_info = await import_path(await composition.services(), Path(tree), "tree", lambda **_: None)
        return path_info.store_path.absolute(), path_info.nar_size


async def in_process(url: str, location: str) -> float:
    """Render to nowhere, with the store open already."""
    from tvix_store.cli.locate import locate

    registry = Registry.load()
    async with Composition(StoreConfig.from_urls(url, url, url, registry, "benchmark"), registry) as composition:
        services = await composition.services()
        start = time.perf_counter()
        tree = await load_tree(await locate(services, location), services.directories)
        async for _ in render_nar(tree, services.blobs):
            pass
        return time.perf_counter() - start


def main() -> None:
    """Compare them."""
    options = arguments(__doc__ or "")
    with scratch() as directory:
        url = f"sqlite://{directory}/store.sqlite"
        location, n_bytes = asyncio.run(fill(url, options.tree))
        table = f'type = "sqlite"\npath = "{directory}/store.sqlite"\n'
        document = "".join(f"[{kind}services.root]\n{table}" for kind in ("blob", "directory", "pathinfo"))
        with daemon(document, directory) as daemon_url:
            print(f"{options.tree}: NAR of {n_bytes / 2**20:.0f} MiB, everything in the page cache")
            compare(
                {
                    "peer: nix-store --dump of the disk": lambda: nix_dump(options.tree),
                    "render from sqlite, in process": lambda: asyncio.run(in_process(url, location)),
                    "tvix-store nar dump from sqlite": lambda: cli_dump(url, location),
                    "tvix-store nar dump from a daemon": lambda: cli_dump(daemon_url, location),
                },
                options.runs,
                n_bytes,
            )


if __name__ == "__main__":
    main()
