"""Counting, timing and tracing requests, and the page that shows the metrics of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Middleware

from tvix_store.telemetry import METRICS, TRACING, Metrics, span

if TYPE_CHECKING:
    from tvix_store.telemetry_prometheus import Exposition

__all__ = ["RequestMetrics", "counting", "routes"]

_NARINFO = "/{digest}.narinfo"
_NO_ROUTE = "none"
_BROKEN = "broken"
_STATUSES = ("200", "404", "500", "503")
_TRACE_CONTEXT = ("traceparent", "tracestate")


class RequestMetrics:
    """The metrics of one frontend.

    Args:
        frontend: The name of its entry.
        metrics: Where they are.
    """

    def __init__(self, frontend: str, metrics: Metrics = METRICS) -> None:
        self.frontend = frontend
        self._requests = metrics.counter(
            "tvix_store_http_requests",
            "Requests that have been answered, by status; gone: the client left, broken: the connection was ended.",
            ["frontend", "method", "route", "status"],
        )
        self._seconds = metrics.histogram(
            "tvix_store_http_request_seconds",
            "How long requests took, until the end of the answer; without narinfos from memory.",
            ["frontend", "method", "route"],
        )
        self._sent = metrics.counter("tvix_store_http_sent_bytes", "Bytes of answers.", ["frontend", "route"])
        self.in_flight = metrics.number("tvix_store_http_requests_in_flight", "Requests under way.", ["frontend"])(
            frontend
        )
        self.narinfos = self._requests(frontend, "GET", _NARINFO, "200")
        """To be added to for each narinfo that is answered from memory, as is the next."""
        self.narinfo_bytes = self._sent(frontend, _NARINFO)

    def prime(self, app: web.Application) -> None:
        """Have what can be expected to be counted shown from the start, as 0."""
        routes = [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource]
        for method, route in [*routes, ("GET", _NO_ROUTE)]:
            self._sent(self.frontend, route)
            for status in _STATUSES:
                self._requests(self.frontend, method, route, status)

    def ended(self, method: str, route: str, status: str, seconds: float, n_bytes: int) -> None:
        """Count a request."""
        method = method if method in ("GET", "HEAD", "PUT") else "other"
        self._requests(self.frontend, method, route, status).value += 1
        self._seconds(self.frontend, method, route).observe(seconds)
        self._sent(self.frontend, route).value += n_bytes


def counting(metrics: RequestMetrics) -> Middleware:
    """Counts, times and traces each request that aiohttp answers."""

    @web.middleware
    async def count(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = _NO_ROUTE if resource is None else resource.canonical
        status = "500"
        n_bytes = 0
        metrics.in_flight.value += 1
        started = perf_counter()
        try:
            if TRACING.tracer is None:
                response = await handler(request)
            else:
                response = await _traced(request, handler, metrics.frontend, route)
            # Of an answer that nobody gets, something else was sent before.
            status = _BROKEN if not response.prepared and _is_cut(request) else str(response.status)
            n_bytes = _length(request, response)
            return response
        except BaseException as exc:
            n_bytes = _sent(request)
            if isinstance(exc, web.HTTPException):
                status = str(exc.status)
            elif isinstance(exc, asyncio.CancelledError | ConnectionError):
                status = "gone"
            elif _is_cut(request):
                status = _BROKEN
            raise
        finally:
            metrics.in_flight.value -= 1
            metrics.ended(request.method, route, status, perf_counter() - started, n_bytes)

    return count


async def _traced(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    frontend: str,
    route: str,
) -> web.StreamResponse:
    caller = {name: request.headers[name] for name in _TRACE_CONTEXT if name in request.headers}
    # Not the path: whoever knows the whole name of a castore NAR can have it.
    attributes = {"tvix_store.frontend": frontend, "http.request.method": request.method, "http.route": route}
    with span(f"{request.method} {route}", attributes, caller) as current:
        response = await handler(request)
        if current is not None:
            current.set("http.response.status_code", response.status)
        return response


def _length(request: web.Request, response: web.StreamResponse) -> int:
    """Bytes that were sent, or are going to be: a short answer is sent after the handlers are done."""
    if response.prepared:
        return _sent(request)
    return 0 if request.method == "HEAD" else response.content_length or 0


def _is_cut(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _sent(request: web.Request) -> int:
    return request.writer.output_size


def routes() -> list[web.RouteDef]:
    """The page ``/metrics``; no path of a binary cache is called that."""

    async def show(request: web.Request) -> web.Response:
        page, content_type = await asyncio.to_thread(_render, request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return [web.get("/metrics", show)]


def _render(accept: str) -> tuple[bytes, str]:
    return _exposition().render(accept)


@cache
def _exposition() -> Exposition:
    from tvix_store.telemetry_prometheus import Exposition  # takes 50 ms, and nobody may ask

    return Exposition()
