"""What versions of the same package share in a pack store, on wheels from the package index that pip is set up for.

Each is unpacked and imported into one store, one after the other; printed is what each adds to the store, beside its
own size and what zstd -3 makes of its files one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path

import zstandard
from _harness import regular_files, scratch

from tvix_store.cli.import_ import import_path
from tvix_store.composition import Composition
from tvix_store.frontend import Services
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

PACKAGES = [
    "numpy==2.1.0",
    "numpy==2.1.1",
    "numpy==2.1.3",
    "pandas==2.2.2",
    "pandas==2.2.3",
    "django==5.1",
    "django==5.1.1",
]


def unpacked(requirement: str, directory: Path) -> Path:
    """The tree of a wheel."""
    wheels, tree = directory / "wheels" / requirement, directory / requirement
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*download, "--only-binary", ":all:", "--dest", str(wheels), requirement], check=True)
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)
    return tree


def sizes(tree: Path) -> tuple[int, int]:
    """Bytes of all files, and of each under zstd -3 by itself."""
    compressor = zstandard.ZstdCompressor(level=3)
    contents = [Path(path).read_bytes() for path in regular_files(str(tree))]
    return sum(map(len, contents)), sum(len(compressor.compress(data)) for data in contents)


def _advance(*, files: int, n_bytes: int) -> None:
    pass


async def stored_bytes(services: Services) -> int:
    """What the frames of all packs take."""
    return int(dict((await services.blobs.stats()).details)["pack bytes"])


async def grow(requirements: list[str], directory: Path) -> None:
    """Import one after the other, and print what each adds."""
    registry = Registry.load()
    url = f"fs://{directory}/store"
    config = StoreConfig.from_urls(url, "memory://", "memory://", registry, "benchmark")
    print(f"{'':24} {'files':>9} {'zstd -3':>9} {'added':>9} {'of zstd':>8}   MiB")
    async with Composition(config, registry) as composition:
        services = await composition.services()
        before = total = 0
        for requirement in requirements:
            tree = await asyncio.to_thread(unpacked, requirement, directory)
            raw, compressed = await asyncio.to_thread(sizes, tree)
            await import_path(services, tree, "package", _advance)
            after = await stored_bytes(services)
            added, before, total = after - before, after, total + raw
            figures = " ".join(f"{n_bytes / 2**20:9.2f}" for n_bytes in (raw, compressed, added))
            print(f"{requirement:24} {figures} {added / compressed:8.3f}")
        print(f"together: {total / 2**20:.1f} MiB of files in {before / 2**20:.1f} MiB, {total / before:.1f} to 1")


def main() -> None:
    """Download, import and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", default=PACKAGES, help="requirements such as numpy==2.1.0")
    options = parser.parse_args()
    with scratch() as directory:
        asyncio.run(grow(options.packages, directory))


if __name__ == "__main__":
    main()
