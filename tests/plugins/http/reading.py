"""A binary cache in this process, served by the real frontend, and what is in it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession

from plugins.grpc.loopback import memory_services
from tvix_store.errors import Unavailable
from tvix_store.frontend import Services
from tvix_store.nar_ingest import ingest_nar
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath
from tvix_store_http.frontend import HttpFrontend, ServerOptions
from tvix_store_http.listen import parse_listen
from tvix_store_http.site import SiteOptions
from vectors.nar import Tree, encode

__all__ = [
    "Answer",
    "Client",
    "Upstream",
    "Wire",
    "memory_services",
    "nar_url",
    "put_tree",
    "reading",
    "serving",
    "serving_frontend",
    "started",
    "store_path",
    "wire",
]


def store_path(name: str) -> StorePath:
    """A store path that follows from nothing but its name."""
    return StorePath(hashlib.sha256(name.encode()).digest()[:20], name)


def nar_url(path_info: PathMetadata) -> str:
    """Where the NAR is, by its hash alone."""
    return f"nar/{nixbase32(path_info.nar_sha256)}.nar"


def metadata_of(name: str, nar: bytes, **fields: Any) -> PathMetadata:
    return PathMetadata(
        store_path=store_path(name), nar_size=len(nar), nar_sha256=hashlib.sha256(nar).digest(), **fields
    )


async def put_tree(
    services: Services,
    name: str,
    tree: Tree,
    references: Sequence[PathInfo] = (),
    *,
    key: SecretKey | None = None,
    **fields: Any,
) -> PathInfo:
    """Store a tree as a path."""
    nar = encode(tree)

    async def pieces() -> AsyncIterator[bytes]:
        yield nar

    node = (await ingest_nar(pieces(), services.blobs, services.directories)).node
    paths = tuple(sorted(reference.store_path for reference in references))
    path_info = PathInfo.of(metadata_of(name, nar, references=paths, **fields), node)
    if key is not None:
        path_info = path_info.with_signatures(key.sign(path_info))
    return await services.path_infos.put(path_info)


class Upstream(PathInfoService):
    """A service that would have to fetch its NARs, which it never has done so far."""

    def __init__(self) -> None:
        self.metadata: dict[bytes, PathMetadata] = {}
        self.nars: dict[bytes, bytes] = {}
        self.fail: Exception | None = None
        self.fail_after: int | None = None
        self.fail_once_after: int | None = None
        self.gate: asyncio.Event | None = None
        self.opened = 0
        self.closed = 0
        self.all_closed = asyncio.Event()

    def add(self, name: str, nar: bytes, **fields: Any) -> PathMetadata:
        metadata = metadata_of(name, nar, **fields)
        self.metadata[metadata.store_path.digest] = metadata
        self.nars[metadata.store_path.digest] = nar
        return metadata

    async def get(self, digest: bytes) -> PathInfo | None:
        raise AssertionError("the whole NAR would be fetched")

    async def put(self, path_info: PathInfo) -> PathInfo:
        raise AssertionError

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return self.metadata.get(digest)

    async def open_nar(self, digest: bytes) -> NarStream | None:
        nar = self.nars[digest]
        return NarStream(len(nar), self._pieces(nar))

    async def _pieces(self, nar: bytes) -> Any:
        self.opened += 1
        try:
            for start in range(0, len(nar), 1000):
                if self.fail is not None and start >= (self.fail_after or 0):
                    raise self.fail
                if self.fail_once_after is not None and start >= self.fail_once_after:
                    self.fail_once_after = None
                    raise Unavailable("the wire was cut")
                yield nar[start : start + 1000]
                if self.gate is not None and start:
                    await self.gate.wait()
        finally:
            self.closed += 1
            if self.closed == self.opened:
                self.all_closed.set()


async def started(frontend: HttpFrontend) -> tuple[asyncio.Task[None], str]:
    """Start serving; the task to cancel, and the URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(frontend.serve(ready.set_result))
    either: set[asyncio.Future[Any]] = {task, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    return task, ready.result()


@asynccontextmanager
async def serving_frontend(frontend: HttpFrontend) -> AsyncIterator[str]:
    """Serve; yields the URL."""
    task, url = await started(frontend)
    try:
        yield url
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def serving(
    services: Services, listen: str = "127.0.0.1:0", server: ServerOptions | None = None, **options: Any
) -> AsyncIterator[str]:
    """Serve; yields the URL. Nothing is served from memory, unless that is wanted."""
    options.setdefault("narinfo_cache_s", 0.0)
    frontend = HttpFrontend("test", services, parse_listen(listen), SiteOptions(**options), server)
    async with serving_frontend(frontend) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Asks a server, and does not decode what it sends."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url = url
        self.session = session

    async def request(self, method: str, path: str, **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, f"{self.url}/{path}", headers=fields, skip_auto_headers=["Accept-Encoding"]
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, **headers)

    async def head(self, path: str, **headers: str) -> Answer:
        return await self.request("HEAD", path, **headers)


@asynccontextmanager
async def reading(services: Services, **options: Any) -> AsyncIterator[Client]:
    """Serve, and have a client for it."""
    async with serving(services, **options) as url, ClientSession(auto_decompress=False) as session:
        yield Client(url, session)


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection, seen from the client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self) -> tuple[int, bytes]:
        """Status and body of the next one."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: ([0-9]+)", head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head.split()[1]), body

    async def rest(self) -> bytes:
        """What still comes, whether the connection ends well or not."""
        data = b""
        with suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                data += piece
        return data

    async def has_ended(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
