"""Every guard around a service of each kind, and read-only ones beside a way in, so that there is something to read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tvix_store.around import Around, AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.blob import BlobService, BlobWriter
from tvix_store.capabilities import Capabilities
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService, ForwardingPathInfoService
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store_guard.breaker import Breaker
from tvix_store_guard.limit import Limit
from tvix_store_guard.readonly import ReadonlyBlobService, ReadonlyDirectoryService, ReadonlyPathInfoService
from tvix_store_guard.retry import Retry
from tvix_store_guard.singleflight import (
    SingleflightBlobService,
    SingleflightDirectoryService,
    SingleflightPathInfoService,
)
from tvix_store_guard.timeout import Timeout
from tvix_store_guard.verify_blob import VerifyBlobService
from tvix_store_guard.verify_directory import VerifyDirectoryService
from tvix_store_guard.verify_path_info import VerifyPathInfoService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

__all__ = ["TAGS", "arounds", "guarded_blobs", "guarded_directories", "guarded_path_infos"]

TAGS = ["readonly", "verify", "singleflight", "limit", "retry", "timeout", "breaker"]


def arounds() -> dict[str, Around]:
    """Those guards that do something around each call."""
    return {
        "limit": Limit("test", concurrency=2, rate=1e6, queue=100),
        "retry": Retry("test"),
        "timeout": Timeout("test", read_s=60, write_s=60, upkeep_s=60),
        "breaker": Breaker("test"),
    }


class _BlobsBeside(ForwardingBlobService):
    """Reads through ``inner``, writes past it."""

    def __init__(self, inner: BlobService, beside: BlobService) -> None:
        super().__init__(inner)
        self.beside = beside

    @property
    def capabilities(self) -> Capabilities:
        return self.beside.capabilities

    async def open_write(self) -> BlobWriter:
        return await self.beside.open_write()

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await self.beside.put_many(blobs)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        await self.beside.delete(digests)


class _DirectoriesBeside(ForwardingDirectoryService):
    def __init__(self, inner: DirectoryService, beside: DirectoryService) -> None:
        super().__init__(inner)
        self.beside = beside

    @property
    def capabilities(self) -> Capabilities:
        return self.beside.capabilities

    async def put(self, directory: Directory) -> None:
        await self.beside.put(directory)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self.beside.put_many(directories)

    async def put_multiple_start(self) -> DirectoryPutter:
        return await self.beside.put_multiple_start()

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        await self.beside.delete(digests)


class _PathInfosBeside(ForwardingPathInfoService):
    def __init__(self, inner: PathInfoService, beside: PathInfoService) -> None:
        super().__init__(inner)
        self.beside = beside

    @property
    def capabilities(self) -> Capabilities:
        return self.beside.capabilities

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self.beside.put(path_info)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        return await self.beside.put_many(path_infos)

    async def delete(self, digests: Sequence[bytes]) -> None:
        await self.beside.delete(digests)


@asynccontextmanager
async def guarded_blobs(tag: str, make: Callable[[], BlobService] = MemoryBlobService) -> AsyncIterator[BlobService]:
    """The guard with this tag around an empty service."""
    async with AsyncExitStack() as stack:
        inner = await stack.enter_async_context(CheckedBlobService("inner", make()))
        match tag:
            case "readonly":
                service: BlobService = _BlobsBeside(ReadonlyBlobService("test", inner), inner)
            case "verify":
                service = VerifyBlobService("test", inner, refetch=MemoryBlobService())
            case "singleflight":
                service = SingleflightBlobService(inner)
            case _:
                service = AroundBlobService(inner, arounds()[tag])
        yield await stack.enter_async_context(service)


@asynccontextmanager
async def guarded_directories(tag: str) -> AsyncIterator[DirectoryService]:
    """The guard with this tag around an empty service."""
    inner = CheckedDirectoryService("inner", MemoryDirectoryService("test"))
    match tag:
        case "readonly":
            service: DirectoryService = _DirectoriesBeside(ReadonlyDirectoryService("test", inner), inner)
        case "verify":
            service = VerifyDirectoryService("test", inner, refetch=MemoryDirectoryService("refetch"))
        case "singleflight":
            service = SingleflightDirectoryService(inner)
        case _:
            service = AroundDirectoryService(inner, arounds()[tag])
    async with service:
        yield service


@asynccontextmanager
async def guarded_path_infos(tag: str) -> AsyncIterator[PathInfoService]:
    """The guard with this tag around an empty service."""
    inner = CheckedPathInfoService("inner", MemoryPathInfoService("test"))
    match tag:
        case "readonly":
            service: PathInfoService = _PathInfosBeside(ReadonlyPathInfoService("test", inner), inner)
        case "verify":
            service = VerifyPathInfoService("test", inner, refetch=MemoryPathInfoService("refetch"))
        case "singleflight":
            service = SingleflightPathInfoService(inner)
        case _:
            service = AroundPathInfoService(inner, arounds()[tag])
    async with service:
        yield service
