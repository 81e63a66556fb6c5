"""A daemon in this process, on a socket or port of its own, and services that talk to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.directory import DirectoryService
from tvix_store.frontend import Services
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.path_info import PathInfoService
from tvix_store_grpc.channel import Peer
from tvix_store_grpc.endpoint import parse_endpoint
from tvix_store_grpc.server.frontend import GrpcFrontend, ServerOptions
from tvix_store_grpc.server.listen import parse_listen
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

__all__ = ["connected", "memory_services", "serve_in_task", "serving"]


def memory_services(
    blobs: BlobService | None = None,
    directories: DirectoryService | None = None,
    path_infos: PathInfoService | None = None,
    nar_calculation: NarCalculationService | None = None,
) -> Services:
    """Services as a composition makes them, in memory but for those that are given."""
    checked_blobs = CheckedBlobService("blobs", blobs or MemoryBlobService())
    checked_directories = CheckedDirectoryService("directories", directories or MemoryDirectoryService())
    return Services(
        checked_blobs,
        checked_directories,
        CheckedPathInfoService("path_infos", path_infos or MemoryPathInfoService()),
        nar_calculation or RenderingNarCalculation(checked_blobs, checked_directories),
    )


async def serve_in_task(frontend: GrpcFrontend) -> tuple[asyncio.Task[None], str]:
    """Start serving; the task to cancel, and the URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(frontend.serve(ready.set_result))
    either: set[asyncio.Future[Any]] = {task, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    return task, ready.result()


@asynccontextmanager
async def serving(services: Services, listen: str | Path = "127.0.0.1:0", **options: Any) -> AsyncIterator[str]:
    """Serve; yields the URL."""
    options.setdefault("drain_s", 0.5)
    frontend = GrpcFrontend("test", services, parse_listen(str(listen)), ServerOptions(**options))
    task, url = await serve_in_task(frontend)
    try:
        yield url
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def connected(services: Services, listen: str | Path = "127.0.0.1:0", **options: Any) -> AsyncIterator[Peer]:
    """Serve, and connect to it."""
    async with serving(services, listen, **options) as url, Peer(parse_endpoint(url)) as peer:
        yield peer


class FakeContext:
    """As much of a composition as remote services need."""

    def __init__(self) -> None:
        self.opened: dict[object, Any] = {}
        self.stack = contextlib.AsyncExitStack()

    async def shared(self, key: object, open_: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]]) -> Any:
        """The same thing for the same key."""
        if key not in self.opened:
            self.opened[key] = await self.stack.enter_async_context(await open_())
        return self.opened[key]
