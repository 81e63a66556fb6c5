"""The ``tar`` frontend: store paths as tar archives over HTTP, until it is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing

from aiohttp import web
from tvix_store.errors import InvalidObject, StoreError, Unavailable
from tvix_store.frontend import Frontend, Services
from tvix_store.listen import ListenAddress, bind_tcp
from tvix_store.lookup import descend, parse_location
from tvix_store.nar_render import Tree, check_present, load_tree

from tvix_store_tar.archive import archive_size, render_archive

__all__ = ["TarFrontend"]

_SUFFIX = ".tar"

logger = logging.getLogger(__name__)


class TarFrontend(Frontend):
    """Answers GET and HEAD of ``/STOREPATH.tar``, and of what is below a store path.

    Args:
        name: Of the entry, for messages.
        services: What to serve.
        address: Where to listen; a TCP one.
        drain_s: How long running downloads may take to end after the frontend was cancelled, in seconds.
        max_entries: What an archive may have of members.
    """

    def __init__(
        self,
        name: str,
        services: Services,
        address: ListenAddress,
        *,
        drain_s: float = 10.0,
        max_entries: int = 1_000_000,
    ) -> None:
        self._name = name
        self._services = services
        self._address = address
        self._drain_s = drain_s
        self._max_entries = max_entries

    async def serve(self, ready: Callable[[str], None]) -> None:
        application = web.Application()
        application.router.add_get("/{location:.*}", self._get)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=self._drain_s, access_log=None)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(runner.cleanup)  # takes no more connections, and waits for what is running
            await runner.setup()
            try:
                sockets = bind_tcp(self._address)
            except OSError as exc:
                reason = (exc.strerror or str(exc)).lower()
                raise Unavailable(f"{self._name}: cannot listen on {self._address.text}: {reason}") from exc
            for listener in sockets:
                await web.SockSite(runner, listener).start()
            ready(f"http://{self._address.url_host}:{sockets[0].getsockname()[1]}")
            await asyncio.Event().wait()  # until cancelled

    async def _get(self, request: web.Request) -> web.StreamResponse:
        try:
            found = await self._find(request.match_info["location"])
        except InvalidObject as exc:
            return web.Response(status=400, text=f"{exc}\n")
        except StoreError as exc:
            return self._failed(request, exc)
        if found is None:
            return web.Response(status=404, text="not found\n")
        tree, name = found
        try:  # whatever can go wrong goes wrong before the status is sent, if it can be known then
            size = await asyncio.to_thread(archive_size, tree, name, self._max_entries)
            await check_present(tree, self._services.blobs)
        except StoreError as exc:
            return self._failed(request, exc)
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar", "Content-Length": str(size)})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            async with aclosing(render_archive(tree, name, self._services.blobs)) as pieces:
                async for piece in pieces:
                    await response.write(piece)
        except StoreError as exc:
            logger.warning("%s: %s: %s", self._name, request.path, exc)
            if request.transport is not None:
                request.transport.abort()  # so that nobody takes what came for all of it
        return response

    async def _find(self, location: str) -> tuple[Tree, bytes] | None:
        """The tree that a URL names, and what its root is called; ``None`` if there is none.

        Raises:
            InvalidObject: The URL cannot name any.
        """
        if not location.endswith(_SUFFIX):
            raise InvalidObject("expected /STOREPATH.tar, or /STOREPATH/PATH/BELOW.tar")
        digest, name, below = parse_location(location.removesuffix(_SUFFIX))
        path_info = await self._services.path_infos.get(digest)
        if path_info is None or name not in (None, path_info.store_path.name):
            return None
        node = await descend(path_info.node, below, self._services.directories)
        if node is None:
            return None
        called = below[-1] if below else path_info.store_path.base_name.encode()
        return await load_tree(node, self._services.directories), called

    def _failed(self, request: web.Request, error: StoreError) -> web.Response:
        logger.warning("%s: %s: %s", self._name, request.path, error)
        return web.Response(status=503 if isinstance(error, Unavailable) else 500, text=f"{error}\n")
