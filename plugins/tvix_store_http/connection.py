"""A connection that answers the most frequent request, a narinfo that was asked for a moment ago, without ado.

aiohttp makes a request object, a task and a response object for each request. That takes longer than all the rest if
the response is at hand. So such a request is recognised in what arrives, if it is all that arrives and nothing else is
under way, and if it is of a form about which no two readers can differ. Everything else goes to aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tvix_store.telemetry import TRACING
from tvix_store_http.errors import answer
from tvix_store_http.metrics import RequestMetrics
from tvix_store_http.narinfo import HASH_PART
from tvix_store_http.narinfo_cache import NarinfoCache

__all__ = ["Connections"]

logger = logging.getLogger(__name__)

_FIELD = rb"(?!(?i:%b):)[!#$%%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n"
_NARINFO = re.compile(
    rf"GET /({HASH_PART})\.narinfo HTTP/1\.1\r\n(?=(?:[^\r]+\r\n)*?(?i:host):)".encode()
    + rb"(?:%b)*\r\n" % (_FIELD % rb"connection|content-length|expect|te|trailer|transfer-encoding|upgrade")
)
_WITHOUT_BODY = re.compile(
    rb"(?:GET|HEAD) [\x21-\x7e]+ HTTP/1\.[01]\r\n(?:%b)*\r\n" % (_FIELD % rb"content-length|transfer-encoding|upgrade")
)
"""A whole request, and nothing after it."""

_INNER = ("_close", "_force_close", "_keepalive_timeout", "_messages", "_next_keepalive_close_time", "_waiter")
_IS_KNOWN = all(hasattr(web.RequestHandler, name) for name in _INNER)
"""What has to be looked at to see that a connection is idle. Should an aiohttp not have it, all is left to it."""


class Connections:
    """Makes the connections of a server, and knows which there are.

    Args:
        server: aiohttp's, for what is not answered here.
        settings: Of its connections; what `aiohttp.web.RequestHandler` takes.
        narinfos: What is answered here; ``None`` leaves everything to aiohttp.
        metrics: Where that is counted.
    """

    def __init__(
        self, server: web.Server, settings: Mapping[str, Any], narinfos: NarinfoCache | None, metrics: RequestMetrics
    ) -> None:
        self._server = server
        self._settings = settings
        self._narinfos = narinfos if _IS_KNOWN else None
        self._metrics = metrics
        self._open: set[_Connection] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    def __call__(self) -> asyncio.Protocol:
        """The protocol for a new connection."""
        return _Connection(self, self._server, self._settings, self._narinfos, self._metrics)

    def opened(self, connection: _Connection) -> None:
        """Called when a connection is made."""
        self._open.add(connection)
        self._none_open.clear()

    def closed(self, connection: _Connection) -> None:
        """Called when a connection has ended."""
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()

    async def drain(self, deadline_s: float) -> None:
        """Let running requests end, and end the connections; those that last longer than the deadline are cut.

        Cut at once when cancelled.
        """
        for connection in list(self._open):
            connection.finish()
        try:
            async with asyncio.timeout(deadline_s):
                await self._none_open.wait()
        except TimeoutError:
            pass
        finally:
            for connection in list(self._open):
                connection.abort()


class _Connection(web.RequestHandler):
    __slots__ = ("_connections", "_has_had_bodies", "_is_finishing", "_metrics", "_narinfos")

    def __init__(
        self,
        connections: Connections,
        server: web.Server,
        settings: Mapping[str, Any],
        narinfos: NarinfoCache | None,
        metrics: RequestMetrics,
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self._connections = connections
        self._narinfos = narinfos
        self._metrics = metrics
        self._is_finishing = False
        self._has_had_bodies = False  # so that what arrives next may be a part of something

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.opened(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._connections.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._narinfos is not None and not self._has_had_bodies:
            asked = _NARINFO.fullmatch(data)
            if asked is None:
                self._has_had_bodies = _WITHOUT_BODY.fullmatch(data) is None
            elif (
                (response := self._narinfos.get(asked[1])) is not None
                and self._is_idle()
                and not _continues_trace(data)
            ):
                assert self.transport is not None
                self._metrics.narinfos.value += 1
                self._metrics.narinfo_bytes.value += len(response)
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                self.transport.write(response)
                return
        super().data_received(data)

    def _is_idle(self) -> bool:
        """Whether everything that arrived has been answered, and the client takes what it is sent."""
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._messages
            and not self._close
            and not self._force_close
            and self.transport is not None
            and not self.transport.get_write_buffer_size()
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # aiohttp answers a TimeoutError with 504, and does not hand it on.
        if (status == 504 or isinstance(exc, ConnectionError)) and request.writer.output_size:
            raise ConnectionResetError(f"{request.remote} is gone, or does not read") from exc
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        # What is not HTTP comes in all the time from whoever tries out ports; that is no error of ours.
        logger.debug("%s: no valid request: %s", request.remote, exc)
        response = answer(status, (message or "bad request").strip().partition("\n")[0])
        response.force_close()
        return response

    def finish(self) -> None:
        """End the connection once the request that is under way, of which more may have to come, was answered."""
        if _IS_KNOWN and self._waiter is not None and not self._messages:
            self.force_close()
        else:  # not close(): after that, aiohttp takes no more of the request
            self._is_finishing = True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if self._is_finishing:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def abort(self) -> None:
        """End the connection now."""
        if self.transport is not None:
            self.transport.abort()


def _continues_trace(request: bytes) -> bool:
    """Whether there are traces, and the client wants to see this request in one of its own."""
    return TRACING.tracer is not None and b"\ntraceparent:" in request.lower()
