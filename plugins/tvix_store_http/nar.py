"""NARs, by the hash of the NAR or by their root node."""

from __future__ import annotations

import re

from aiohttp import web

from tvix_store import nixbase32
from tvix_store.errors import DanglingReference, InvalidObject, LimitExceeded
from tvix_store.path_info import NAR_SHA256_BYTES, OUTPUT_HASH_BYTES
from tvix_store_http import uploads
from tvix_store_http.castore_url import parse_nar_size, parse_node
from tvix_store_http.errors import answer, not_found
from tvix_store_http.nar_sources import NodeNar, PathNar, TreeNar, etag_of
from tvix_store_http.sending import Nar, send_nar
from tvix_store_http.site import Site

__all__ = ["routes"]

_NAME = re.compile(rf"([{nixbase32.ALPHABET}]{{52}})\.nar")


def routes(site: Site) -> list[web.RouteDef]:
    """Serves the NARs of ``site``."""

    async def by_name(request: web.Request) -> web.StreamResponse:
        return await _by_name(site, request)

    async def by_node(request: web.Request) -> web.StreamResponse:
        return await _by_node(site, request)

    found = [web.get("/nar/{name}", by_name)]
    if site.options.castore_nars:
        found += [web.get(f"/nar/{package}/{{node}}", by_node) for package in ("snix-castore", "tvix-castore")]
    return found


# --- by name --------------------------------------------------------------------------------------------------------


async def _by_name(site: Site, request: web.Request) -> web.StreamResponse:
    """``nar/NARHASH.nar``, with or without the path it is of; else what was uploaded under that name."""
    name = request.match_info["name"]
    nar_sha256 = _nar_sha256(name)
    if nar_sha256 is not None:
        nar = await _find(site, nar_sha256, request.query.get("hash"))
        if nar is not None and (response := await send_nar(site, request, nar)) is not None:
            return response
    try:
        file_sha256, _ = uploads.parse_file_name(name)
    except InvalidObject:
        return not_found()
    return await uploads.serve(site, request, file_sha256)


def _nar_sha256(name: str) -> bytes | None:
    match = _NAME.fullmatch(name)
    try:
        return None if match is None else nixbase32.decode_fixed(match[1], NAR_SHA256_BYTES)
    except InvalidObject:  # more than 256 bits
        return None


async def _find(site: Site, nar_sha256: bytes, hash_part: str | None) -> Nar | None:
    """The NAR with that hash: of the path that the client names, of any path, or of an upload."""
    if hash_part is not None:
        try:
            digest = nixbase32.decode_fixed(hash_part, OUTPUT_HASH_BYTES)
        except InvalidObject:
            return None
        if (nar := await _of_path(site, nar_sha256, digest)) is not None:
            return nar
    names = site.nar_names
    if (seen := names.seen(nar_sha256)) is not None:
        if (nar := await _of_path(site, nar_sha256, seen)) is not None:
            return nar
        names.forget(nar_sha256)
    if site.state is not None and (ingested := await site.state.nar(nar_sha256)) is not None:
        try:
            return TreeNar(site, await site.trees.load(ingested.node), etag_of(nar_sha256))
        except DanglingReference:  # deleted since
            pass
    listed = await site.catalog.digest_by_nar(nar_sha256)
    return None if listed is None else await _of_path(site, nar_sha256, listed)


async def _of_path(site: Site, nar_sha256: bytes, digest: bytes) -> Nar | None:
    metadata = await site.services.path_infos.get_metadata(digest)
    return PathNar(site, metadata) if metadata is not None and metadata.nar_sha256 == nar_sha256 else None


# --- by node --------------------------------------------------------------------------------------------------------


async def _by_node(site: Site, request: web.Request) -> web.StreamResponse:
    """``nar/snix-castore/NODE?narsize=N``."""
    try:
        announced = parse_nar_size(request.query.get("narsize"))
    except InvalidObject as exc:
        return answer(400, str(exc))
    try:
        node = parse_node(request.match_info["node"])
    except LimitExceeded as exc:
        return answer(400, str(exc))
    except InvalidObject as exc:
        return not_found(str(exc))
    try:
        nar = NodeNar(site, await site.trees.load(node))
    except DanglingReference:
        return not_found()
    except InvalidObject as exc:
        return answer(400, str(exc))
    if nar.size != announced:
        return answer(400, f"the NAR has {nar.size} bytes, not {announced}")
    return await send_nar(site, request, nar) or not_found()
