"""What a person sees in a browser: the paths there are, what is known of each, and what is in it.

Pages are under ``/``, ``/browse/`` and ``/static/``, contents of files under ``/raw/``; no name of the binary cache
begins like that. Pages have no scripts and allow none.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from aiohttp import web

from tvix_store.errors import DanglingReference, InvalidObject, StoreError
from tvix_store.lookup import descend, parse_location, split_path
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode, validate_name
from tvix_store.path_info import PathInfo
from tvix_store.store_path import StorePath
from tvix_store_http import pages
from tvix_store_http.files import read_extract, send_file
from tvix_store_http.markup import Html, html, quoted
from tvix_store_http.pages import Listing, Place, Slice
from tvix_store_http.site import Site

__all__ = ["routes"]

logger = logging.getLogger(__name__)

_PATHS_PER_PAGE = 100
_ENTRIES_PER_PAGE = 1000
_ENTRIES_ABOUT_PATH = 100
_REFERRERS_SHOWN = 200
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def routes(site: Site) -> list[web.RouteDef]:
    """The handlers of this module."""
    browser = _Browser(site)
    return [
        web.get("/", browser.front),
        # Names may have line breaks in them.
        web.get(r"/browse/{location:[\s\S]*}", browser.browse),
        web.get(r"/raw/{location:[\s\S]*}", browser.raw),
        web.get("/static/style.css", _style),
    ]


async def _style(request: web.Request) -> web.Response:
    headers = {"Cache-Control": "max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=pages.STYLE, content_type="text/css", charset="utf-8", headers=headers)


class _Browser:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._services = site.services
        self._catalog = site.catalog
        self._store_dir = site.options.store_dir

    # --- the list of paths ---

    async def front(self, request: web.Request) -> web.Response:
        if "text/html" not in request.headers.get("Accept", ""):
            return web.Response(text=self._greeting(request), headers={"Vary": "Accept", "Cache-Control": "no-cache"})
        search = " ".join(request.query.get("q", "").split())
        place = self._place(request)
        if url := self._url_of(place, search):
            return _redirect(url)
        if not self._catalog.can_list:
            return _page(pages.location_page(place, search, self._usage(request)))
        index = await self._catalog.index_soon()
        if index is None:
            response = _page(pages.message_page(place, self._store_dir, self._being_listed()))
            response.headers["Refresh"] = "2"
            return response
        found: Sequence[int] = range(len(index))
        if search:
            found = await asyncio.to_thread(index.search, search)
        part = Slice.at(request.query.get("page"), _PATHS_PER_PAGE, len(found))
        rows = [index.row(number) for number in found[part.bounds]]
        return _page(pages.list_page(place, rows, part, search, self._usage(request)))

    def _being_listed(self) -> str:
        return f"The store is being listed, {self._catalog.n_listed:,} paths so far."

    def _greeting(self, request: web.Request) -> str:
        return (
            f"A Nix binary cache for paths in {self._store_dir}, made by tvix-store. Open it in a browser to see what "
            f"there is, or use it:\n\n    nix copy --from {_origin(request)} {self._store_dir}/...\n"
        )

    def _usage(self, request: web.Request) -> Html:
        return html(
            '<section class="usage"><h2>Use it</h2>\n<p>For one path, or for good in <code>nix.conf</code>:</p>\n'
            "<pre>nix copy --from {origin} {store_dir}/…\n\nextra-substituters = {origin}</pre></section>",
            origin=_origin(request),
            store_dir=self._store_dir,
        )

    def _url_of(self, place: Place, search: str) -> str | None:
        """Where to go if what was typed is a store path, with or without its directory, or a hash."""
        try:
            digest, name, components = parse_location(search, self._store_dir)
        except InvalidObject:
            return None
        base = nixbase32(digest) if name is None else StorePath(digest, name).base_name
        return f"{place.root}browse/{base}" + (f"/{quoted(*components)}" if components else "")

    # --- a path and what is in it ---

    async def browse(self, request: web.Request) -> web.Response:
        place = self._place(request)
        try:
            digest, name, components, about = self._asked_for(request)
        except InvalidObject as exc:
            return _not_found(place, str(exc))
        metadata = await (
            self._services.path_infos.get_metadata(digest) if about else self._services.path_infos.get(digest)
        )
        if metadata is None:
            return _not_found(place, f"There is no path {nixbase32(digest)} in this store.")
        path = metadata.store_path
        if path.name != name:
            return _redirect(place.info(path) if about else place.contents(path, components))
        if not about:
            assert isinstance(metadata, PathInfo)
            return await self._contents(request, place, metadata, components)
        contents = html(
            '<p>The contents have not been fetched yet. <a href="{url}" rel="nofollow">Fetch and show them</a></p>',
            url=place.contents(path),
        )
        if isinstance(metadata, PathInfo):
            contents = await self._body(request, place, path, (), metadata.node, about=True)
        referrers, more, reason = await self._referrers(digest)
        return _page(
            pages.path_page(
                place,
                metadata,
                nar_url=f"nar/{nixbase32(metadata.nar_sha256)}.nar?hash={path.hash_part}",
                referrers=referrers,
                more_referrers=more,
                no_referrers=reason,
                contents=contents,
            )
        )

    async def _referrers(self, digest: bytes) -> tuple[list[StorePath], int, str]:
        """Some of them, how many more there are, and why they are not known."""
        if not self._catalog.can_list:
            return [], 0, "This store cannot list what it holds."
        try:
            index = await self._catalog.index_soon()
        except StoreError as exc:  # of another path, perhaps, which does not make this one unreadable
            logger.warning("%s: cannot list paths: %s", self._site.name, exc)
            return [], 0, f"Could not be found out: {exc}"
        if index is None:
            return [], 0, self._being_listed()
        numbers = index.referrers(digest)
        shown = [index.store_path(number) for number in numbers[:_REFERRERS_SHOWN]]
        return shown, len(numbers) - len(shown), ""

    async def _contents(
        self, request: web.Request, place: Place, path_info: PathInfo, components: Sequence[bytes]
    ) -> web.Response:
        path = path_info.store_path
        node, done = await self._walk(path_info.node, components)
        if node is None:
            return _not_found(place, f"There is nothing of that name in {path.absolute(self._store_dir)}.")
        if len(done) < len(components):  # a symlink on the way
            assert isinstance(node, SymlinkNode)
            led = self._led(path, done, node)
            if led is None:
                return _not_found(place, "A symbolic link on the way leads out of the store.")
            return _redirect(place.contents(led[0], (*led[1], *components[len(done) :])))
        body = await self._body(request, place, path, components, node)
        return _page(pages.contents_page(place, path, components, body))

    async def _walk(self, node: Node | None, components: Sequence[bytes]) -> tuple[Node | None, Sequence[bytes]]:
        """The node at ``components``, or the first symlink on the way, and the components that lead to it."""
        for depth, component in enumerate(components):
            if node is None or isinstance(node, SymlinkNode):
                return node, components[:depth]
            node = await descend(node, (component,), self._services.directories)
        return node, components

    async def _body(
        self,
        request: web.Request,
        place: Place,
        path: StorePath,
        components: Sequence[bytes],
        node: Node,
        *,
        about: bool = False,
    ) -> Html:
        match node:
            case DirectoryNode():
                directory = await self._directory(node)
                length = _ENTRIES_ABOUT_PATH if about else _ENTRIES_PER_PAGE
                part = Slice.at(None if about else request.query.get("page"), length, len(directory))
                entries = [
                    (name, child, self._link(place, path, (*components, name), child))
                    for name, child in list(directory.items())[part.bounds]
                ]
                return pages.directory_body(place, path, components, Listing(entries, part), whole_elsewhere=about)
            case FileNode():
                return pages.file_body(place, path, components, node, await read_extract(self._services.blobs, node))
            case SymlinkNode():
                return pages.symlink_body(node, self._link(place, path, components, node))

    async def _directory(self, node: DirectoryNode) -> Directory:
        directory = await self._services.directories.get(node.digest)
        if directory is None:
            raise DanglingReference(f"directory {node.digest} does not exist")
        return directory

    def _link(self, place: Place, path: StorePath, components: Sequence[bytes], node: Node) -> str | None:
        """URL of what a symlink leads to, if it is one and that is in the store directory."""
        led = self._led(path, components, node) if isinstance(node, SymlinkNode) else None
        return None if led is None else place.contents(*led)

    def _led(
        self, path: StorePath, components: Sequence[bytes], node: SymlinkNode
    ) -> tuple[StorePath, tuple[bytes, ...]] | None:
        """Where a symlink at ``components`` leads to, its target taken as it is written."""
        steps = [self._store_dir.encode(), *((path.base_name.encode(), *components)[:-1])]
        target = posixpath.normpath(posixpath.join(*steps, node.target))
        base, *below = target.removeprefix(self._store_dir.encode() + b"/").split(b"/")
        try:
            return StorePath.from_base_name(base.decode("ascii", "replace")), split_path(b"/".join(below))
        except InvalidObject:
            return None

    # --- contents of files ---

    async def raw(self, request: web.Request) -> web.StreamResponse:
        place = self._place(request)
        try:
            digest, name, components, _ = self._asked_for(request)
        except InvalidObject as exc:
            return _not_found(place, str(exc))
        path_info = await self._services.path_infos.get(digest)
        if path_info is None or path_info.store_path.name != name:
            return _not_found(place, "There is no such path in this store.")
        path = path_info.store_path
        node, done = await self._walk(path_info.node, components)
        match node:
            case SymlinkNode():
                led = self._led(path, done, node)
                if led is not None:
                    return _redirect(place.raw(led[0], (*led[1], *components[len(done) :])))
            case DirectoryNode():
                return _redirect(place.contents(path, components))
            case FileNode():
                return await send_file(
                    request, self._services.blobs, node, components[-1] if components else path.name.encode()
                )
        return _not_found(place, f"There is no such file in {path.absolute(self._store_dir)}.")

    # --- requests ---

    def _place(self, request: web.Request) -> Place:
        """Links are relative, so that they work below any prefix that a proxy takes away."""
        return Place("../" * (request.rel_url.raw_path.count("/") - 1) or "./", self._store_dir)

    def _asked_for(self, request: web.Request) -> tuple[bytes, str | None, tuple[bytes, ...], bool]:
        """What is between the prefix and the query.

        Returns:
            Digest and name of the path, the name ``None`` if there is only a digest; the components of what is below;
            and whether the path itself is meant rather than its contents, that is, whether no slash follows it.

        Raises:
            InvalidObject: There is no path like that.
        """
        # aiohttp's own idea of the path is text, in which names that are no UTF-8 are lost.
        base, slash, below = request.rel_url.raw_path.split("/", 2)[2].partition("/")
        text = unquote_to_bytes(base).decode("ascii", "replace")
        digest, name, inner = parse_location(text, self._store_dir)
        if inner:
            raise InvalidObject(f"{base[:80]!r} is no store path")
        components = tuple(unquote_to_bytes(component) for component in below.split("/") if component)
        for component in components:
            validate_name(component)
        return digest, name, components, not slash


def _page(body: bytes, status: int = 200) -> web.Response:
    headers = {**_PAGE_HEADERS, "Vary": "Accept"}
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=headers)


def _not_found(place: Place, message: str) -> web.Response:
    return _page(pages.message_page(place, "Not found", message), 404)


def _redirect(url: str) -> web.Response:
    # Not HTTPFound, which would encode the URL once more.
    return web.Response(status=302, headers={"Location": url, "Cache-Control": "no-cache"})


def _origin(request: web.Request) -> str:
    host = request.host.encode(errors="replace").decode()  # what a client sends need not be text
    return f"{request.scheme}://{host}"
