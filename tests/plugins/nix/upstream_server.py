"""An HTTP server in this process that serves a binary cache, and misbehaves where a test tells it to."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from plugins.nix.binary_caches import CacheFiles
from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.directory import DirectoryService
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.path_info import PathInfo
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_nix.credentials import Credentials
from tvix_store_nix.fetch import FetchOptions
from tvix_store_nix.http_upstream import HttpOptions, HttpUpstream
from tvix_store_nix.narinfos import NarInfoPolicy
from tvix_store_nix.path_info import NixPathInfoService
from tvix_store_nix.retrying import Backoff
from tvix_store_nix.upstream import Upstream

__all__ = ["Handler", "Store", "UpstreamServer", "status", "without_waiting"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class UpstreamServer:
    """Serves ``files``; a handler in ``instead`` answers for one of them in its place, and may hand back to ``serve``.

    ``requests`` are the names that were asked for.
    """

    def __init__(self, files: CacheFiles) -> None:
        self.files = files
        self.instead: dict[str, Handler] = {}
        self.requests: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, files: CacheFiles, prefix: str = "/cache", *, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[UpstreamServer]:
        server = cls(files)
        app = web.Application()
        app.router.add_get(f"{prefix}/{{name:.*}}", server._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            port = runner.addresses[0][1]
            server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}{prefix}"
            yield server
        finally:
            await runner.cleanup()

    def count(self, name: str) -> int:
        return self.requests.count(name)

    def nar_requests(self) -> int:
        return sum(name.startswith("nar/") for name in self.requests)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.requests.append(name)
        self.headers.append(dict(request.headers))
        if (handler := self.instead.get(name)) is not None:
            return await handler(request)
        return await self.serve(request)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        data = self.files.get(request.match_info["name"])
        if data is None:
            return web.Response(status=404)
        headers = {"Accept-Ranges": "bytes"}
        if (start := request.http_range.start) is not None:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return web.Response(status=206, body=data[start:], headers=headers)
        return web.Response(body=data, headers=headers)


def status(code: int, **headers: str) -> Handler:
    """Answers with a status."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


async def _no_wait(seconds: float) -> None:
    pass


def without_waiting(retries: int = 4) -> Backoff:
    """Tries again at once."""
    return Backoff(retries, sleep=_no_wait)


class Store:
    """Services in memory, as a composition makes them, in front of an upstream."""

    def __init__(
        self,
        upstream: Upstream | str,
        policy: NarInfoPolicy | None = None,
        *,
        spool_dir: Path | str = "/tmp",
        options: HttpOptions | None = None,
        max_fetches: int = 6,
        blobs: BlobService | None = None,
        directories: DirectoryService | None = None,
    ) -> None:
        if isinstance(upstream, str):
            http = options or HttpOptions(timeout_s=30, backoff=without_waiting())
            upstream = HttpUpstream("upstream", upstream, Credentials.load(upstream), http)
        self.blobs = CheckedBlobService("blobs", blobs or MemoryBlobService())
        self.directories = CheckedDirectoryService("directories", directories or MemoryDirectoryService())
        self.nix = NixPathInfoService(
            "upstream",
            upstream,
            self.blobs,
            self.directories,
            policy or NarInfoPolicy(),
            FetchOptions(str(spool_dir), max_fetches),
        )
        self.path_infos = CheckedPathInfoService("upstream", self.nix)

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *args: object) -> None:
        await self.path_infos.aclose()

    async def nar_of(self, path_info: PathInfo | None) -> bytes:
        """What is stored, as a NAR."""
        assert path_info is not None
        tree = await load_tree(path_info.node, self.directories)
        return b"".join([piece async for piece in render_nar(tree, self.blobs)])

    async def streamed(self, digest: bytes) -> bytes:
        """What ``open_nar`` gives."""
        stream = await self.path_infos.open_nar(digest)
        assert stream is not None
        return b"".join([piece async for piece in stream.pieces])
