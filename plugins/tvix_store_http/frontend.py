"""The ``http`` frontend: a Nix binary cache on one address, until it is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from tvix_store.budget import ByteBudget
from tvix_store.frontend import Frontend, Services
from tvix_store.limits import MIB
from tvix_store_http.app import make_app
from tvix_store_http.connection import Connections
from tvix_store_http.credentials import writes_for
from tvix_store_http.errors import shown
from tvix_store_http.listen import ListenAddress, UnixSocketOptions, listening
from tvix_store_http.site import Site, SiteOptions
from tvix_store_http.state import State

__all__ = ["HttpFrontend", "ServerOptions"]

_access = logging.getLogger("tvix_store_http.access")

_CUT_S = 5.0
"""How long handlers may take to end once their connections were cut."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the server serves; see the keys of the same names in the README.

    Args:
        unix: For socket files.
        tcp_reuse_port: Share the port with other processes.
        keepalive_s: Connections on which nothing is asked for so long are ended.
        drain_s: How long running requests may take to end after the frontend was cancelled.
        buffer_bytes: What all responses together may hold of contents that are not sent yet.
    """

    unix: UnixSocketOptions = field(default_factory=UnixSocketOptions)
    tcp_reuse_port: bool = False
    keepalive_s: float = 600.0
    drain_s: float = 10.0
    buffer_bytes: int = 32 * MIB


class HttpFrontend(Frontend):
    """The store as a Nix binary cache.

    Args:
        name: Of the entry, for messages.
        services: What to serve.
        address: Where to listen.
        site: How the binary cache looks.
        server: How it is served.
        state: What uploads need; ``None``: there are none.
    """

    def __init__(
        self,
        name: str,
        services: Services,
        address: ListenAddress,
        site: SiteOptions | None = None,
        server: ServerOptions | None = None,
        state: State | None = None,
    ) -> None:
        self._address = address
        self._options = server or ServerOptions()
        site = site or SiteOptions()
        self._site = Site(
            name=name,
            services=services,
            options=site,
            budget=ByteBudget(self._options.buffer_bytes),
            state=state,
            writes=writes_for(name, address.text, address.is_local, site),
        )

    async def serve(self, ready: Callable[[str], None]) -> None:
        is_logged = _access.isEnabledFor(logging.DEBUG)
        settings: dict[str, Any] = {
            "keepalive_timeout": self._options.keepalive_s,
            "auto_decompress": False,  # uploads are decoded where they are limited
            "access_log": _access if is_logged else None,
            "access_log_class": _AccessLogger,
        }
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._site.catalog.aclose)
            stack.push_async_callback(self._site.copies.aclose)
            runner = web.AppRunner(make_app(self._site), handler_cancellation=True, shutdown_timeout=_CUT_S)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            assert runner.server is not None
            connections = Connections(
                runner.server, settings, None if is_logged else self._site.narinfos, self._site.metrics
            )
            sockets, url = stack.enter_context(
                listening(self._address, self._options.unix, reuse_port=self._options.tcp_reuse_port)
            )
            stack.push_async_callback(connections.drain, self._options.drain_s)
            loop = asyncio.get_running_loop()
            for listener in sockets:
                create = loop.create_unix_server if self._address.kind != "tcp" else loop.create_server
                stack.callback((await create(connections, sock=listener)).close)
            ready(url)
            await asyncio.Event().wait()  # until cancelled


class _AccessLogger(AbstractAccessLogger):
    """One line per request, at DEBUG."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.logger.debug(
            "%s %s: %d, %d bytes, %.3f s", request.remote, shown(request), response.status, response.body_length, time
        )

    @property
    def enabled(self) -> bool:
        return self.logger.isEnabledFor(logging.DEBUG)
