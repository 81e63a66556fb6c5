"""``DIGEST.ls``: what is in the NAR of a path."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tvix_store import nixbase32
from tvix_store.nar_listing import listing
from tvix_store.path_info import OUTPUT_HASH_BYTES
from tvix_store_http.errors import not_found
from tvix_store_http.narinfo import HASH_PART
from tvix_store_http.site import Site

__all__ = ["routes"]

_HEADERS = {"Content-Type": "application/json", "Cache-Control": "public, max-age=3600"}


def routes(site: Site) -> list[web.RouteDef]:
    """Serves the listings of ``site``, made from the trees; else what was uploaded as such."""

    async def get(request: web.Request) -> web.Response:
        name = request.match_info["digest"]
        path_info = await site.services.path_infos.get(nixbase32.decode_fixed(name, OUTPUT_HASH_BYTES))
        if path_info is not None:
            shared = await site.trees.load(path_info.node)
            return web.Response(body=await asyncio.to_thread(listing, shared.tree), headers=_HEADERS)
        document = None if site.state is None else await site.state.document(f"{name}.ls")
        if document is None:
            return not_found()
        return web.Response(body=document.data, headers={**_HEADERS, "Content-Type": document.media_type})

    return [web.get(f"/{{digest:{HASH_PART}}}.ls", get)]
