"""The routes of a binary cache, together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from tvix_store.cache_info import CacheInfo
from tvix_store_http import browse, documents, ls, metrics, nar, narinfo, put, uploads
from tvix_store_http.errors import answering_errors
from tvix_store_http.site import Site

__all__ = ["make_app"]


def make_app(site: Site) -> web.Application:
    """The application that serves ``site``."""
    app = web.Application(middlewares=[metrics.counting(site.metrics), answering_errors, _forgetting_narinfos(site)])
    app.add_routes(_routes(site))
    for module in (narinfo, nar, ls, uploads, put, documents, browse):
        app.add_routes(module.routes(site))
    if site.options.metrics:
        app.add_routes(metrics.routes())
    site.metrics.prime(app)
    return app


def _routes(site: Site) -> list[web.RouteDef]:
    options = site.options
    cache_info = CacheInfo(options.store_dir, options.want_mass_query, options.priority).render()
    headers = {"Content-Type": "text/x-nix-cache-info", "Cache-Control": "public, max-age=3600"}

    async def nix_cache_info(request: web.Request) -> web.Response:
        return web.Response(body=cache_info, headers=headers)

    async def health(request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})

    return [web.get("/nix-cache-info", nix_cache_info), web.get("/health", health)]


def _forgetting_narinfos(site: Site) -> Middleware:
    """After an upload, narinfos come from the store again."""

    @web.middleware
    async def forget(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.method in ("GET", "HEAD"):
            return await handler(request)
        try:
            return await handler(request)
        finally:
            site.narinfos.forget(request.match_info.get("digest", "").encode())

    return forget
