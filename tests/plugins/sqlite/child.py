"""What the tests do to a database from other processes: ``child.py COMMAND PATH ...``."""

from __future__ import annotations

import asyncio
import os
import resource
import sys

from tvix_store.blob import BlobService
from tvix_store.digest import HashedBlob
from tvix_store.limits import MIB
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import contents, store_path
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService


def small_blobs(batch: int) -> list[HashedBlob]:
    """The blobs of one batch, some of them of several chunks."""
    return [HashedBlob(contents(size, batch * 10 + size % 7)) for size in (1, 500, 20_000, 200_000, 900_000)]


def large_blob(batch: int) -> bytes:
    """More than is kept in memory."""
    return contents(9 * MIB, batch)


def directory(batch: int) -> Directory:
    """A directory of its own for each batch."""
    return Directory({b"batch": SymlinkNode(b"%d" % batch)})


def path_info(batch: int) -> PathInfo:
    """A path info of its own for each batch."""
    return PathInfo(
        store_path=store_path(f"batch-{batch}"), node=directory(batch).node(), nar_size=batch, nar_sha256=bytes(32)
    )


def say(text: str) -> None:
    """To the test, at once."""
    os.write(1, f"{text}\n".encode())


async def write_blob(service: BlobService, data: bytes) -> None:
    """Through a writer, in small pieces."""
    async with await service.open_write() as writer:
        for start in range(0, len(data), 100_000):
            await writer.write(data[start : start + 100_000])
        await writer.close()


async def put_batches(path: str, first: int, count: int) -> None:
    """Put batch after batch, and say each that is acknowledged."""
    async with await Database.open(path) as database:
        blobs = SqliteBlobService("child", database)
        for batch in range(first, first + count):
            await blobs.put_many(small_blobs(batch))
            say(f"blobs {batch}")
            await write_blob(blobs, large_blob(batch))
            say(f"large {batch}")
            await SqliteDirectoryService("child", database).put(directory(batch))
            await SqlitePathInfoService("child", database).put(path_info(batch))
            say(f"path-info {batch}")


async def upload_and_wait(path: str) -> None:
    """Upload more than one batch of a blob, say so, and wait to be killed."""
    async with await Database.open(path) as database:
        writer = await SqliteBlobService("child", database).open_write()
        await writer.write(large_blob(0)[: 8 * MIB])
        await database.write(lambda connection: None)  # what was staged is committed
        say("uploading")
        await asyncio.Event().wait()


async def move_much(path: str, size: int) -> None:
    """Write and read a large blob, and say by how many KiB that made the process grow."""
    async with await Database.open(path) as database:
        blobs = SqliteBlobService("child", database)
        await write_blob(blobs, contents(6 * MIB, 5))  # what is loaded on the first use
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with await blobs.open_write() as writer:
            for number in range(size // MIB):
                await writer.write(contents(1 * MIB, number))
            digest = await writer.close()
        reader = await blobs.open_read(digest)
        assert reader is not None
        n_bytes = 0
        async with reader:
            while data := await reader.read():
                n_bytes += len(data)
        assert n_bytes == size
        say(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def main() -> None:
    """Do as the command line says."""
    match sys.argv[1:]:
        case ["put-batches", path, first, count]:
            asyncio.run(put_batches(path, int(first), int(count)))
        case ["upload-and-wait", path]:
            asyncio.run(upload_and_wait(path))
        case ["move-much", path, size]:
            asyncio.run(move_much(path, int(size)))
        case arguments:
            raise SystemExit(f"what is {arguments}?")


if __name__ == "__main__":
    main()
