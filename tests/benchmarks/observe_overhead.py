"""What observing costs: batches and streams of blobs through none, one and five observers, and through five layers
that only pass everything on; over memory, which is the worst case, and over ``fs``.

Also single lookups, the smallest thing there is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from _harness import arguments, compare, scratch

from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.forwarding import ForwardingBlobService
from tvix_store.limits import MIB
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store.telemetry import Metrics
from tvix_store.telemetry_observer import ObservedBlobService, Observer
from tvix_store_memory.blob import MemoryBlobService

BATCH = 64
BATCHES = 32
BLOB_BYTES = 4096
LARGE_BYTES = 64 * MIB


class Passing(ForwardingBlobService):
    """Does nothing."""

    relays = True


def layered(service: BlobService, observers: int, passing: int = 0) -> BlobService:
    """The service with layers around it."""
    for _ in range(passing):
        service = Passing(service)
    for number in range(observers):
        service = ObservedBlobService(service, Observer(f"layer-{number}", Kind.BLOB, Metrics()))
    return service


Work = Callable[[BlobService], Awaitable[None]]


def contestants(
    loop: asyncio.AbstractEventLoop, layers: Mapping[str, BlobService], work: Work
) -> dict[str, Callable[[], float]]:
    """The same work with each of the services."""

    def run(service: BlobService) -> float:
        started = time.perf_counter()
        loop.run_until_complete(work(service))
        return time.perf_counter() - started

    return {name: partial(run, service) for name, service in layers.items()}


async def get_batches(service: BlobService, digests: list[B3Digest], times: int) -> None:
    """All blobs, a batch at a time."""
    for _ in range(times):
        for start in range(0, len(digests), BATCH):
            await service.get_many(digests[start : start + BATCH])


async def read_whole(service: BlobService, digest: B3Digest) -> None:
    """One large blob, in pieces."""
    reader = await service.open_read(digest)
    assert reader is not None
    async with reader:
        while await reader.read():
            pass


async def look_up(service: BlobService, digest: B3Digest, times: int) -> None:
    """The same blob, again and again."""
    for _ in range(times):
        await service.has(digest)


async def fs_blobs(composition: Composition) -> BlobService:
    """The blob service of the composition, without what observes it."""
    entries = await composition.entries()
    service = entries[0].service
    assert isinstance(service, BlobService)
    return service


def main() -> None:
    """Print the tables."""
    options = arguments(__doc__ or "")
    blobs = [HashedBlob(os.urandom(BLOB_BYTES)) for _ in range(BATCH * BATCHES)]
    digests = [blob.digest for blob in blobs]
    large = os.urandom(LARGE_BYTES)
    digest = B3Digest.of(large)
    loop = asyncio.new_event_loop()
    with scratch() as directory:
        registry = Registry.load()
        document = {"blobservices": {"root": {"type": "fs", "path": str(Path(directory) / "blobs")}}}
        composition = loop.run_until_complete(
            _composition(StoreConfig.parse(document, registry, "benchmark"), registry)
        )
        leaves: Mapping[str, BlobService] = {
            "memory": CheckedBlobService("memory", MemoryBlobService()),
            "fs": loop.run_until_complete(fs_blobs(composition)),
        }
        for name, leaf in leaves.items():
            loop.run_until_complete(_fill(leaf, blobs, large))
            layers = {
                "no layer": layered(leaf, 0),
                "1 observer": layered(leaf, 1),
                "5 layers that pass on": layered(leaf, 0, 5),
                "5 observers": layered(leaf, 5),
            }
            print(f"\n{name}: get_many of {BATCH} x {BLOB_BYTES} bytes, {BATCHES * 4} batches")
            compare(contestants(loop, layers, partial(get_batches, digests=digests, times=4)), options.runs)
            print(f"\n{name}: reading {LARGE_BYTES // MIB} MiB in pieces")
            compare(contestants(loop, layers, partial(read_whole, digest=digest)), options.runs, LARGE_BYTES)
        print("\nmemory: 20,000 single lookups")
        memory = leaves["memory"]
        layers = {"no layer": memory, "1 observer": layered(memory, 1), "5 observers": layered(memory, 5)}
        compare(contestants(loop, layers, partial(look_up, digest=digests[0], times=20_000)), options.runs)
        loop.run_until_complete(composition.aclose())
    loop.close()


async def _composition(config: StoreConfig, registry: Registry) -> Composition:
    return Composition(config, registry)


async def _fill(service: BlobService, blobs: list[HashedBlob], large: bytes) -> None:
    for start in range(0, len(blobs), BATCH):
        await service.put_many(blobs[start : start + BATCH])
    async with await service.open_write() as writer:
        for start in range(0, len(large), MIB):
            await writer.write(large[start : start + MIB])
        await writer.close()


if __name__ == "__main__":
    main()
