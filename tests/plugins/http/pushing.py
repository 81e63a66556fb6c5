"""A binary cache in this process that takes uploads, and what is uploaded to it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

from plugins.grpc.loopback import memory_services
from tvix_store.budget import ByteBudget
from tvix_store.compression import SUFFIXES, compressed
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import MIB
from tvix_store.nar import NarWriter
from tvix_store.narinfo import NarInfo
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.path_info import PathMetadata
from tvix_store.store_path import StorePath
from tvix_store_http.app import make_app
from tvix_store_http.credentials import writes_for
from tvix_store_http.frontend import HttpFrontend
from tvix_store_http.listen import parse_listen
from tvix_store_http.site import Site, SiteOptions
from tvix_store_http.state import State

__all__ = [
    "Pusher",
    "altered",
    "compress",
    "file_nar",
    "narinfo_for",
    "opened_site",
    "path_of",
    "pushing",
    "serving",
    "serving_frontend",
    "url_of",
]


@asynccontextmanager
async def opened_site(
    path: Path, services: Services | None = None, *, is_local: bool = True, **options: Any
) -> AsyncIterator[Site]:
    """A site with its state in a file at ``path``."""
    settings = SiteOptions(**options)
    async with await State.open(str(path / "http.sqlite"), settings.keep_uploads_s) as state:
        yield Site(
            name="test",
            services=services or memory_services(),
            options=settings,
            budget=ByteBudget(64 * MIB),
            state=state,
            writes=writes_for("test", "an address", is_local, settings),
        )


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[str]:
    """Serve a site on a port of its own; yields the URL, without a slash at its end."""
    runner = web.AppRunner(
        make_app(site), auto_decompress=False, handler_cancellation=True, access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class Pusher:
    """A client that says what it was answered: the status, and the body as text."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url = url
        self.session = session

    async def request(self, method: str, path: str, data: Any = None, **options: Any) -> tuple[int, str]:
        options.setdefault("skip_auto_headers", ["Content-Type"])
        async with self.session.request(method, f"{self.url}/{path}", data=data, **options) as response:
            return response.status, await response.text(errors="replace")

    async def put(self, path: str, data: Any, **options: Any) -> tuple[int, str]:
        return await self.request("PUT", path, data, **options)

    async def get(self, path: str) -> tuple[int, str]:
        return await self.request("GET", path)

    async def push(self, nar: bytes, narinfo: NarInfo) -> None:
        """Upload a NAR without compression, and its narinfo."""
        assert await self.put(narinfo.url, nar) == (201, "")
        assert await self.put(path_of(narinfo), narinfo.render()) == (200, "")


@asynccontextmanager
async def pushing(site: Site) -> AsyncIterator[Pusher]:
    """Serve a site, and have a client for it."""
    async with serving(site) as url, ClientSession(auto_decompress=False) as session:
        yield Pusher(url, session)


def file_nar(content: bytes) -> bytes:
    """The NAR of a file."""
    return NarWriter().file(content, executable=False)


async def compress(data: bytes, compression: str) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        yield data

    return b"".join([piece async for piece in compressed(pieces(), compression)])


def url_of(file: bytes, compression: str = "none") -> str:
    """Where a client puts a file."""
    return f"nar/{nixbase32(hashlib.sha256(file).digest())}.nar{SUFFIXES[compression]}"


def path_of(narinfo: NarInfo) -> str:
    """Where a client puts a narinfo."""
    return f"{narinfo.metadata.store_path.hash_part}.narinfo"


def narinfo_for(nar: bytes, name: str = "x", file: bytes | None = None, compression: str = "none") -> NarInfo:
    """What a client says of a NAR that it has uploaded."""
    file = nar if file is None else file
    path = StorePath(hashlib.sha256(name.encode()).digest()[:20], name)
    metadata = PathMetadata(store_path=path, nar_size=len(nar), nar_sha256=hashlib.sha256(nar).digest())
    file_hash = NixHash.of(HashAlgorithm.SHA256, file)
    return NarInfo(metadata, url_of(file, compression), compression, file_hash, len(file))


def altered(narinfo: NarInfo, **fields: Any) -> NarInfo:
    """The narinfo with other metadata."""
    return replace(narinfo, metadata=replace(narinfo.metadata, **fields))


@asynccontextmanager
async def serving_frontend(path: Path, services: Services | None = None, **options: Any) -> AsyncIterator[str]:
    """The real frontend, with its state in a file at ``path``; yields the URL."""
    settings = SiteOptions(**options)
    async with await State.open(str(path / "http.sqlite"), settings.keep_uploads_s) as state:
        frontend = HttpFrontend(
            "test", services or memory_services(), parse_listen("127.0.0.1:0"), settings, state=state
        )
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(frontend.serve(ready.set_result))
        either: set[asyncio.Future[Any]] = {task, ready}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        try:
            if task.done():
                task.result()
            yield ready.result()
        finally:
            task.cancel()
            await asyncio.wait([task])
