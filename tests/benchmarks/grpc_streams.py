"""Blob streams over gRPC against a bare grpcio stream of the same messages between two processes.

The floor neither hashes nor stores. Ours writes to and reads from a ``memory`` store in a daemon, through the remote
backend with all its checks; the last rows move 1,024 blobs of 8 KiB as one batch.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
from _harness import compare, daemon, scratch

from tvix_store.composition import Composition
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.frontend import Services
from tvix_store.limits import PIECE_BYTES
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

DATA = os.urandom(PIECE_BYTES)
_MESSAGES_OF_A_BLOB = 256


async def bare_server(socket: str, messages: int) -> None:
    """Answer Get with ``messages`` messages and take as many for Put."""

    async def get(request: bytes, context: object) -> AsyncIterator[bytes]:
        for _ in range(messages):
            yield DATA

    async def put(requests: AsyncIterator[bytes], context: object) -> bytes:
        async for _ in requests:
            pass
        return b""

    server = grpc.aio.server()
    handlers = {
        "Get": grpc.unary_stream_rpc_method_handler(get),
        "Put": grpc.stream_unary_rpc_method_handler(put),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", handlers),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


async def _pieces(messages: int) -> AsyncIterator[bytes]:
    for _ in range(messages):
        yield DATA


async def bare_get(socket: str, messages: int) -> float:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        start = time.perf_counter()
        async for _ in channel.unary_stream("/bare/Get", None, None)(b""):
            pass
        return time.perf_counter() - start


async def bare_put(socket: str, messages: int) -> float:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        start = time.perf_counter()
        await channel.stream_unary("/bare/Put", None, None)(_pieces(messages))
        return time.perf_counter() - start


def with_services(url: str, work: Callable[[Services], Awaitable[float]]) -> float:
    """Do some work with a store's services; the seconds it says it took."""

    async def run() -> float:
        registry = Registry.load()
        async with Composition(StoreConfig.from_urls(url, url, url, registry, "benchmark"), registry) as composition:
            services = await composition.services()
            await services.blobs.has(B3Digest.of(b"connect"))
            return await work(services)

    return asyncio.run(run())


async def put(services: Services, messages: int, digests: list[B3Digest]) -> float:
    """Blobs of 64 MiB, always the same one, so that what the store keeps does not grow from run to run."""
    start = time.perf_counter()
    for _ in range(messages // _MESSAGES_OF_A_BLOB):
        async with await services.blobs.open_write() as writer:
            for _ in range(_MESSAGES_OF_A_BLOB):
                await writer.write(DATA)
            digests.append(await writer.close())
    return time.perf_counter() - start


async def get(services: Services, messages: int, digest: B3Digest) -> float:
    start = time.perf_counter()
    for _ in range(messages // _MESSAGES_OF_A_BLOB):
        reader = await services.blobs.open_read(digest)
        assert reader is not None
        async with reader:
            while await reader.read():
                pass
    return time.perf_counter() - start


async def put_batch(services: Services, rounds: int) -> float:
    batch = [HashedBlob(index.to_bytes(4, "big") * 2048) for index in range(1024)]
    start = time.perf_counter()
    for _ in range(rounds):
        await services.blobs.put_many(batch)
    return time.perf_counter() - start


async def get_batch(services: Services, rounds: int) -> float:
    batch = [HashedBlob(index.to_bytes(4, "big") * 2048) for index in range(1024)]
    await services.blobs.put_many(batch)
    digests = [blob.digest for blob in batch]
    start = time.perf_counter()
    for _ in range(rounds):
        await services.blobs.get_many(digests)
    return time.perf_counter() - start


def main() -> None:
    """Compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="how much one run moves (default: %(default)s MiB)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each contestant (default: %(default)s)")
    parser.add_argument("--serve", metavar="SOCKET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    messages = options.mib * 2**20 // PIECE_BYTES
    if options.serve:
        asyncio.run(bare_server(options.serve, messages))
        return
    rounds = messages * PIECE_BYTES // (1024 * 8192)
    memory = "".join(f'[{kind}services.root]\ntype = "memory"\n' for kind in ("blob", "directory", "pathinfo"))
    with scratch() as directory:
        socket = str(directory / "bare")
        command = [sys.executable, __file__, "--mib", str(options.mib), "--serve", socket]
        bare = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert bare.stdout is not None
            bare.stdout.readline()
            with daemon(memory, Path(directory)) as url:
                digests: list[B3Digest] = []
                n_bytes = messages * PIECE_BYTES
                print(f"{messages} messages of {PIECE_BYTES // 1024} KiB")
                compare(
                    {
                        "floor: bare grpcio upload": lambda: asyncio.run(bare_put(socket, messages)),
                        "blob upload": lambda: with_services(url, lambda s: put(s, messages, digests)),
                        f"put_many, {rounds} x 1,024 x 8 KiB": lambda: with_services(
                            url, lambda s: put_batch(s, rounds)
                        ),
                    },
                    options.runs,
                    n_bytes,
                )
                compare(
                    {
                        "floor: bare grpcio download": lambda: asyncio.run(bare_get(socket, messages)),
                        "blob download": lambda: with_services(url, lambda s: get(s, messages, digests[0])),
                        f"get_many, {rounds} x 1,024 x 8 KiB": lambda: with_services(
                            url, lambda s: get_batch(s, rounds)
                        ),
                    },
                    options.runs,
                    n_bytes,
                )
        finally:
            bare.kill()
            bare.wait()


if __name__ == "__main__":
    main()
