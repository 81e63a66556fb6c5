"""Combinators over services in memory, as a composition would make them: what is inside is checked by core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.directory import DirectoryService
from tvix_store.path_info import PathInfoService
from tvix_store.resource import AsyncResource
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService
from tvix_store_spread.fallback import FallbackBlobService, FallbackDirectoryService, FallbackPathInfoService
from tvix_store_spread.mirror import MirrorOptions, SpreadReads
from tvix_store_spread.mirror_blob import MirrorBlobService
from tvix_store_spread.mirror_directory import MirrorDirectoryService
from tvix_store_spread.mirror_path_info import MirrorPathInfoService
from tvix_store_spread.route import ReadWriteBlobService, ReadWriteDirectoryService, ReadWritePathInfoService
from tvix_store_spread.route_blob import SizeRouteBlobService
from tvix_store_spread.route_path_info import PatternRoutePathInfoService
from tvix_store_spread.shard_blob import ShardBlobService
from tvix_store_spread.shard_directory import ShardDirectoryService
from tvix_store_spread.shard_path_info import ShardPathInfoService

__all__ = ["BLOBS", "DIRECTORIES", "PATH_INFOS", "blobs", "directories", "opened", "path_infos"]

S = TypeVar("S", bound=AsyncResource)

Make = Callable[[], S]

TWO = MirrorOptions(2)
WEIGHTS = {"a": 2.0, "d": 0.5}


def blobs() -> BlobService:
    return CheckedBlobService("memory", MemoryBlobService())


def directories() -> DirectoryService:
    return CheckedDirectoryService("memory", MemoryDirectoryService())


def path_infos() -> PathInfoService:
    return CheckedPathInfoService("memory", MemoryPathInfoService())


def _named(make: Callable[[], S], names: str) -> dict[str, S]:
    return {name: make() for name in names}


def _read_write_blobs() -> BlobService:
    service = blobs()
    return ReadWriteBlobService(service, service)


def _read_write_directories() -> DirectoryService:
    service = directories()
    return ReadWriteDirectoryService(service, service)


def _read_write_path_infos() -> PathInfoService:
    service = path_infos()
    return ReadWritePathInfoService(service, service)


BLOBS: Mapping[str, Make[BlobService]] = {
    "fallback": lambda: FallbackBlobService("test", _named(blobs, "ab")),
    "fallback-skipping": lambda: FallbackBlobService("test", _named(blobs, "ab"), skips_errors=True),
    "mirror": lambda: MirrorBlobService("test", _named(blobs, "ab"), TWO),
    "mirror-round-robin": lambda: MirrorBlobService(
        "test", _named(blobs, "abc"), MirrorOptions(2, SpreadReads.ROUND_ROBIN)
    ),
    "shard": lambda: ShardBlobService("test", _named(blobs, "abcd"), WEIGHTS, "/var/tmp"),
    "route-size": lambda: SizeRouteBlobService("test", blobs(), blobs(), 64 * 1024),
    "route-read-write": _read_write_blobs,
}
DIRECTORIES: Mapping[str, Make[DirectoryService]] = {
    "fallback": lambda: FallbackDirectoryService("test", _named(directories, "ab")),
    "mirror": lambda: MirrorDirectoryService("test", _named(directories, "ab"), TWO),
    "shard": lambda: ShardDirectoryService("test", _named(directories, "abcd"), WEIGHTS),
    "route-read-write": _read_write_directories,
}
PATH_INFOS: Mapping[str, Make[PathInfoService]] = {
    "fallback": lambda: FallbackPathInfoService("test", _named(path_infos, "ab")),
    "mirror": lambda: MirrorPathInfoService("test", _named(path_infos, "ab"), TWO),
    "shard": lambda: ShardPathInfoService("test", _named(path_infos, "abcd"), WEIGHTS),
    "route-patterns": lambda: PatternRoutePathInfoService("test", {"*[02468]": path_infos()}, path_infos()),
    "route-read-write": _read_write_path_infos,
}


def opened(make: Make[S]) -> Callable[[], AbstractAsyncContextManager[S]]:
    """A factory for state machines."""

    @asynccontextmanager
    async def factory() -> AsyncIterator[S]:
        async with make() as service:
            yield service

    return factory
