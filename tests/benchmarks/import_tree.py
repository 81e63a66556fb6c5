"""Import of a tree: into sqlite in this process, and through a daemon, against the bare loop.

The floor reads every file, hashes it with BLAKE3 and inserts digest and contents into one SQLite table, in batches
of 8 MiB or 1,024 files, one durable transaction each.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from pathlib import Path

from _harness import TVIX_STORE, arguments, compare, daemon, regular_files, scratch
from blake3 import blake3

from tvix_store.composition import Composition
from tvix_store.ingest import ingest_path
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig


def floor(paths: list[str]) -> float:
    """Read, hash and insert."""
    with scratch() as directory:
        database = sqlite3.connect(directory / "floor.sqlite", isolation_level=None)
        database.execute("PRAGMA page_size = 8192")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE blob (id INTEGER PRIMARY KEY, digest BLOB UNIQUE, data BLOB)")
        batch: list[tuple[bytes, bytes]] = []
        n_bytes = 0

        def flush() -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR IGNORE INTO blob (digest, data) VALUES (?, ?)", batch)
            database.execute("COMMIT")
            batch.clear()

        start = time.perf_counter()
        for path in paths:
            with open(path, "rb") as file:
                data = file.read()
            batch.append((blake3(data).digest(), data))
            n_bytes += len(data)
            if n_bytes >= BATCH_BYTES or len(batch) == BATCH_COUNT:
                flush()
                n_bytes = 0
        flush()
        taken = time.perf_counter() - start
        database.close()
    return taken


def in_process(tree: str, *, twice: bool = False) -> float:
    """Import into a new sqlite store; with ``twice``, the seconds of a second import of the same tree."""

    async def run(path: Path) -> float:
        registry = Registry.load()
        url = f"sqlite://{path}/store.sqlite"
        config = StoreConfig.from_urls(url, url, url, registry, "benchmark")
        async with Composition(config, registry) as composition:
            services = await composition.services()
            for _ in range(1 + twice):
                start = time.perf_counter()
                await ingest_path(tree, services.blobs, services.directories)
                taken = time.perf_counter() - start
        return taken

    with scratch() as directory:
        return asyncio.run(run(directory))


def through_daemon(tree: str) -> float:
    """``tvix-store import`` as a process, into a new store that a daemon serves."""
    with scratch() as directory:
        table = f'type = "sqlite"\npath = "{directory}/store.sqlite"\n'
        document = "".join(f"[{kind}services.root]\n{table}" for kind in ("blob", "directory", "pathinfo"))
        with daemon(document, directory) as url:
            start = time.perf_counter()
            subprocess.run([TVIX_STORE, "import", "--store", url, tree], check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start


def main() -> None:
    """Compare them."""
    options = arguments(__doc__ or "")
    paths = regular_files(options.tree)
    n_bytes = sum(Path(path).stat().st_size for path in paths)
    print(f"{options.tree}: {len(paths)} files, {n_bytes / 2**20:.0f} MiB")
    compare(
        {
            "floor: read, BLAKE3, insert": lambda: floor(paths),
            "import into sqlite, in process": lambda: in_process(options.tree),
            "second import, nothing to write": lambda: in_process(options.tree, twice=True),
            "tvix-store import through a daemon": lambda: through_daemon(options.tree),
        },
        options.runs,
        n_bytes,
    )


if __name__ == "__main__":
    main()
