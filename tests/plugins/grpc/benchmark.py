"""How much the protocol layers cost: a loopback daemon in another process against bare grpcio with the same messages.

Run it: ``PYTHONPATH=core:plugins:tests python tests/plugins/grpc/benchmark.py``. The service is a dict without
digest checks, so that only the plugin is measured; the rows marked "checked" are as a composition builds it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import repeat
from statistics import median
from typing import Any

import grpc
import grpc.aio

from plugins.grpc.loopback import memory_services
from tvix_store.blob import BlobReader, BlobWriter
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.frontend import Services
from tvix_store.limits import KIB, MIB, PIECE_BYTES
from tvix_store.nodes import Directory, DirectoryNode, FileNode
from tvix_store.testing.fixtures import contents
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_grpc.channel import Peer
from tvix_store_grpc.directory import GrpcDirectoryService
from tvix_store_grpc.endpoint import parse_endpoint
from tvix_store_grpc.messages import blob_chunk
from tvix_store_grpc.server.frontend import GrpcFrontend
from tvix_store_grpc.server.listen import parse_listen
from tvix_store_memory.blob import MemoryBlobService

BLOB_BYTES = 256 * MIB
SMALL = [contents(8 * KIB, seed) for seed in range(1024)]
ROUNDS = 9
STREAMED = B3Digest(bytes(32))
MESSAGE = blob_chunk(contents(PIECE_BYTES))
BATCH_MESSAGE = contents(512 * KIB)


async def bare_read(request: bytes, context: Any) -> None:
    for _ in range(int(request)):
        await context.write(MESSAGE)


async def bare_put(requests: Any, context: Any) -> bytes:
    while await context.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass
    return b""


async def daemon() -> None:
    """Two servers: ours over plain and over checked dicts, and a bare one. Prints their addresses."""
    server = grpc.aio.server()
    methods = {
        "Read": grpc.unary_stream_rpc_method_handler(bare_read),
        "Put": grpc.stream_unary_rpc_method_handler(bare_put),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare", methods)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    checked = memory_services()
    assert isinstance(checked.directories, CheckedDirectoryService)
    plain = Services(PiecesBlobService(), checked.directories.inner, checked.path_infos, checked.nar_calculation)
    async with asyncio.TaskGroup() as group:
        for services in (plain, checked):
            frontend = GrpcFrontend("bench", services, parse_listen("127.0.0.1:0"))
            group.create_task(frontend.serve(lambda url: print(url, flush=True)))


class PiecesBlobService(MemoryBlobService):
    """Keeps of a stream how many pieces it had, and the first of them: no copy, no hash, no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.piece = b""
        self.count = 0

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        return _PiecesReader(self.piece, self.count) if digest == STREAMED else await super().open_read(digest)

    async def open_write(self) -> BlobWriter:
        return _PiecesWriter(self)


class _PiecesReader(BlobReader):
    def __init__(self, piece: bytes, count: int) -> None:
        self._pieces = repeat(piece, count)

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        return next(self._pieces, b"")

    async def seek(self, position: int) -> None:
        raise NotImplementedError


class _PiecesWriter(BlobWriter):
    def __init__(self, service: PiecesBlobService) -> None:
        self._service = service
        self._count = 0

    async def write(self, data: bytes) -> None:
        self._count += 1
        self._service.piece = data

    async def close(self) -> B3Digest:
        self._service.count = self._count
        return STREAMED


async def timed(function: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await function()
    return time.perf_counter() - started


async def drain(reader: Any) -> None:
    async with reader:
        while await reader.read(PIECE_BYTES):
            pass


def tree(width: int) -> list[Directory]:
    """A tree of ``width`` directories with 10 files each, leaves first."""
    leaves = [
        Directory({b"file-%d" % i: FileNode(B3Digest.of(b"%d %d" % (i, number)), 100) for i in range(10)})
        for number in range(width - 1)
    ]
    return [*leaves, Directory({b"%d" % i: DirectoryNode(leaf.digest, leaf.size) for i, leaf in enumerate(leaves)})]


async def collect(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


async def measure(port: int, plain_url: str, checked_url: str) -> None:
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        Peer(parse_endpoint(plain_url)) as plain_peer,
        Peer(parse_endpoint(checked_url)) as checked_peer,
    ):
        read = channel.unary_stream("/bare/Read", None, None)
        put = channel.stream_unary("/bare/Put", None, None)
        n_messages = BLOB_BYTES // PIECE_BYTES
        piece = contents(PIECE_BYTES)

        async def floor_read() -> None:
            call = read(b"%d" % n_messages)
            while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                pass

        async def floor_put(message: bytes = MESSAGE, count: int = n_messages) -> None:
            call: Any = put(None)
            for _ in range(count):
                await call.write(message)
            await call.done_writing()
            await call

        async def floor_batch() -> None:
            await floor_put(BATCH_MESSAGE, 16)

        async def our_put(service: Any) -> B3Digest:
            async with await service.open_write() as writer:
                for _ in range(n_messages):
                    await writer.write(piece)
                digest: B3Digest = await writer.close()
                return digest

        plain = GrpcBlobService("plain", plain_peer)
        checked = CheckedBlobService("checked", GrpcBlobService("checked", checked_peer))
        blobs = await asyncio.to_thread(lambda: [HashedBlob(data) for data in SMALL])
        digests = [blob.digest for blob in blobs]
        directories = tree(4000)
        big = await our_put(plain)
        big_checked = await our_put(checked)
        for service in (plain, checked):
            await service.put_many(blobs)

        async def reading(service: Any, digest: B3Digest) -> None:
            await drain(await service.open_read(digest))

        async def closure(service: DirectoryService) -> None:
            async with await service.put_multiple_start() as putter:
                for start in range(0, len(directories), 1000):
                    await putter.put_many(directories[start : start + 1000])
                await putter.close()

        plain_directories = GrpcDirectoryService("plain", plain_peer)
        root = directories[-1].digest
        rows: dict[str, tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]] | None]] = {
            "read 256 MiB": (lambda: reading(plain, big), floor_read),
            "read 256 MiB, checked": (lambda: reading(checked, big_checked), floor_read),
            "put 256 MiB": (lambda: our_put(plain), floor_put),
            "put 256 MiB, checked": (lambda: our_put(checked), floor_put),
            "put_many 1024 x 8 KiB": (lambda: plain.put_many(blobs), floor_batch),
            "put_many 1024 x 8 KiB, checked": (lambda: checked.put_many(blobs), floor_batch),
            "get_many 1024 x 8 KiB": (lambda: plain.get_many(digests), floor_batch),
            "get_many 1024 x 8 KiB, checked": (lambda: checked.get_many(digests), floor_batch),
            "has_many 1024": (lambda: plain.has_many(digests), None),
            "has": (lambda: plain.has(digests[0]), None),
            "upload a tree of 4000": (lambda: closure(plain_directories), None),
            "download a tree of 4000": (lambda: collect(plain_directories.get_recursive(root)), None),
        }
        for name, (ours, floor) in rows.items():
            times, floors = [], []
            for _ in range(ROUNDS):
                times.append(await timed(ours))
                if floor is not None:
                    floors.append(await timed(floor))
            ratio = f", {median(floors) / median(times):.2f}x the bare stream" if floors else ""
            print(f"{name:32} {median(times) * 1000:8.1f} ms{ratio}")


async def main() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, "daemon", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        port, plain_url, checked_url = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
        await measure(int(port), plain_url, checked_url)
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(daemon() if "daemon" in sys.argv else main())
