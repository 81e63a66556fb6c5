"""A binary cache in this process to be looked at, and a client that takes URLs as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

from aiohttp import ClientResponse, ClientSession, web
from yarl import URL

from plugins.grpc.loopback import memory_services
from tvix_store.budget import ByteBudget
from tvix_store.digest import HashedBlob
from tvix_store.frontend import Services
from tvix_store.limits import MIB
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import store_path
from tvix_store_http.app import make_app
from tvix_store_http.site import Site, SiteOptions

__all__ = ["Page", "Visitor", "add_path", "directory", "file", "visited"]

HTML = {"Accept": "text/html"}


async def file(services: Services, data: bytes, *, executable: bool = False) -> FileNode:
    """Store a file."""
    blob = HashedBlob(data)
    async with await services.blobs.open_write() as writer:
        await writer.write(data)
        await writer.close()
    return FileNode(blob.digest, len(data), executable)


async def directory(services: Services, entries: Mapping[bytes, Node]) -> DirectoryNode:
    """Store a directory."""
    made = Directory(entries)
    await services.directories.put(made)
    return made.node()


async def add_path(services: Services, name: str, node: Node, **known: Any) -> PathInfo:
    """Make a path of what is stored already."""
    nar = await services.nar_calculation.calculate_nar(node)
    path_info = PathInfo(store_path=store_path(name), node=node, nar_size=nar.size, nar_sha256=nar.sha256, **known)
    return await services.path_infos.put(path_info)


class Page(HTMLParser):
    """What is in a page: its links and its text."""

    def __init__(self, url: str, source: str) -> None:
        super().__init__()
        self.url = url
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [urljoin(self.url, value) for key, value in attrs if tag == "a" and key == "href" and value]

    def handle_data(self, data: str) -> None:
        self.text += data


class Visitor:
    """Asks for paths as a browser does, without changing a character of them."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url = url
        self.session = session

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[ClientResponse, bytes]:
        url = URL(path if "://" in path else f"{self.url}/{path}", encoded=True)
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self.session.request(method, url, headers=HTML | headers, allow_redirects=False) as response:
            return response, await response.read()

    async def page(self, path: str, status: int = 200) -> Page:
        response, body = await self.ask(path)
        assert response.status == status, body
        assert response.content_type == "text/html"
        return Page(str(response.url), body.decode())


@asynccontextmanager
async def visited(services: Services | None = None, **options: Any) -> AsyncIterator[tuple[Services, Visitor]]:
    """Serve services, and visit them."""
    services = services or memory_services()
    site = Site(name="test", services=services, options=SiteOptions(**options), budget=ByteBudget(64 * MIB))
    runner = web.AppRunner(make_app(site), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        async with ClientSession() as session:
            yield services, Visitor(f"http://{host}:{port}", session)
    finally:
        await runner.cleanup()
