"""What is held in memory after many requests, against fewer of them: bytes, objects and open files more.

A program, so that nothing else is in its process. Takes an empty directory.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fuzz.held_memory import n_objects, n_open_files, traced_bytes, tracing
from fuzz.mutations import mutants
from fuzz.served_store import ServedStore, serving_store, settling
from plugins.http.reading import memory_services
from tvix_store.capabilities import Durability
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

__all__ = ["main"]


async def main(path: Path) -> None:
    """Talk to a server in this process, and print how much more is held in the end."""
    requests = mutants("requests")
    async with await Database.open(None, durability=Durability.NONE) as database:
        services = memory_services(  # not in memory, since uploads may leave something there
            SqliteBlobService("test", database),
            SqliteDirectoryService("test", database),
            SqlitePathInfoService("test", database),
        )
        async with serving_store(path, services) as store:
            with tracing():
                await talk_often(store, requests, 15)
                held = traced_bytes(), n_objects(), n_open_files()
                await talk_often(store, requests, 30)
                print(traced_bytes() - held[0], n_objects() - held[1], n_open_files() - held[2])


async def talk_often(store: ServedStore, requests: Iterator[bytes], times: int) -> None:
    """Talk so many times to the server, over a few connections at once."""
    for _ in range(times):
        async with settling(), asyncio.TaskGroup() as group:
            for data in islice(requests, 32):
                group.create_task(store.talk([data], quiet_s=0.05))
        await store.check()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
