"""NARs that clients upload: ``PUT nar/FILEHASH.nar[SUFFIX]``, taken apart while they arrive.

What is remembered of the file is what HEAD has to know, and how to make such a file again: clients remember for a month
where they put a NAR, and may ask for it there.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing

from aiohttp import web

from tvix_store import nixbase32
from tvix_store.compression import DETECT_BYTES, SUFFIXES, compressed, decompressed, detect, with_head
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.frontend import Services
from tvix_store.limits import MIB
from tvix_store.nar_ingest import ingest_nar
from tvix_store.nar_render import Tree, check_present, load_tree, render_nar
from tvix_store.nixbase32 import shown
from tvix_store.nodes import Node
from tvix_store.path_info import NAR_SHA256_BYTES
from tvix_store_http.body import Memory, expecting, open_body
from tvix_store_http.credentials import refused
from tvix_store_http.errors import not_found
from tvix_store_http.sending import send_pieces
from tvix_store_http.site import Site
from tvix_store_http.state import Upload

__all__ = ["parse_file_name", "routes", "serve", "whole_tree"]

_MEMORY_BYTES = 128 * MIB
_LARGE_BYTES = 40 * MIB
_SMALL_BYTES = 2 * MIB
_USUAL_RATIO = 8
"""What all uploads together may take, and what one takes at most and at least.

In between it is this many times what it announces: how long a NAR is shows only when it is decompressed.
"""

_FILE_NAME = re.compile(rf"([{nixbase32.ALPHABET}]{{52}})\.nar((?:\.[a-z0-9]{{1,8}})?)")
_METHODS = {suffix: method for method, suffix in SUFFIXES.items() if suffix}
_FAST = {"xz": 0, "bzip2": 1, "gzip": 1, "zstd": 1, "br": 1}
"""The levels with which files are made again; for that they need not be small."""


def parse_file_name(name: str) -> tuple[bytes, str]:
    """Read ``FILEHASH.nar[SUFFIX]``.

    Returns:
        The SHA-256, 32 bytes, and the suffix with its dot; empty if there is none.

    Raises:
        InvalidObject: It is something else.
    """
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        raise InvalidObject(f"{shown(name)} is not the nixbase32 of a SHA-256, .nar and a suffix")
    return nixbase32.decode_fixed(match[1], NAR_SHA256_BYTES), match[2]


def routes(site: Site) -> list[web.RouteDef]:
    """Takes NARs for ``site``."""
    slots = asyncio.Semaphore(site.options.max_uploads)
    memory = Memory(_MEMORY_BYTES)

    async def put(request: web.Request) -> web.StreamResponse:
        if (refusal := refused(site, request)) is not None:
            return refusal
        assert site.state is not None
        name = request.match_info["name"]
        file_sha256, suffix = parse_file_name(name)
        async with slots, memory.holding(_needed_bytes(request)):
            upload = await _receive(site, request, suffix)
        if upload.file_sha256 != file_sha256:
            actual = nixbase32.encode(upload.file_sha256)
            raise InvalidObject(f"nar/{name}: the SHA-256 of what was sent is {actual}")
        await site.state.add_upload(upload)
        return web.Response(status=201)

    return [web.put("/nar/{name}", put, expect_handler=expecting(site))]


def _needed_bytes(request: web.Request) -> int:
    announced = request.content_length
    return _LARGE_BYTES if announced is None else min(_LARGE_BYTES, _SMALL_BYTES + _USUAL_RATIO * announced)


async def _receive(site: Site, request: web.Request, suffix: str) -> Upload:
    """Store the NAR that is the body of a request."""
    options, services = site.options, site.services
    async with AsyncExitStack() as stack:
        body = await stack.enter_async_context(open_body(request, options.max_nar_bytes, options.upload_idle_s))
        head, whole = await with_head(body, DETECT_BYTES)
        whole = await stack.enter_async_context(aclosing(whole))
        method = _method(head, suffix)
        if method == "none":
            ingested = await ingest_nar(whole, services.blobs, services.directories)
            return Upload(ingested.nar.sha256, ingested.nar.size, method, ingested)
        file = _Hashed(whole)
        pieces = await stack.enter_async_context(aclosing(file.pieces()))
        nar = decompressed(pieces, method, max_bytes=options.max_nar_bytes)
        ingested = await ingest_nar(
            await stack.enter_async_context(aclosing(nar)), services.blobs, services.directories
        )
        return Upload(file.sha256(), file.size, method, ingested)


def _method(head: bytes, suffix: str) -> str:
    """How the body is compressed: what its first bytes say counts; the suffix is for what has no magic number."""
    method = detect(head) or _METHODS.get(suffix)
    if method is None:
        raise InvalidObject(
            f"the body is no NAR, and not compressed in a way that is known here ({', '.join(SUFFIXES)})"
        )
    return method


class _Hashed:
    """Passes the pieces of a file on, and hashes them meanwhile."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._hasher = hashlib.sha256()
        self.size = 0

    async def pieces(self) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        hashing: asyncio.Future[None] | None = None
        try:
            async for piece in self._source:
                self.size += len(piece)
                if hashing is not None:
                    await hashing
                hashing = loop.run_in_executor(None, self._hasher.update, piece)
                yield piece
        finally:
            if hashing is not None:
                await asyncio.shield(hashing)

    def sha256(self) -> bytes:
        """Of all, once all has been passed on."""
        return self._hasher.digest()


# --- what was uploaded ----------------------------------------------------------------------------------------------


async def whole_tree(node: Node, services: Services) -> Tree | None:
    """The tree below ``node``; ``None`` if a part of it is not there or corrupt, so that it has to be sent again."""
    try:
        tree = await load_tree(node, services.directories)
        await check_present(tree, services.blobs)
    except CorruptObject:  # a missing part is one as well
        return None
    return tree


async def find(site: Site, file_sha256: bytes) -> tuple[Upload, Tree] | None:
    """What was uploaded in the file with this hash; ``None`` if nothing was, or its contents have gone."""
    if site.state is None:
        return None
    upload = await site.state.upload(file_sha256)
    if upload is None:
        return None
    tree = await whole_tree(upload.ingested.node, site.services)
    if tree is None:
        await site.state.forget(upload.ingested.nar.sha256)
        return None
    return upload, tree


async def serve(site: Site, request: web.Request, file_sha256: bytes) -> web.StreamResponse:
    """Answer GET and HEAD of the file that was uploaded with this hash.

    The file itself is not kept. What is sent has the same NAR in it, compressed by the same method.
    """
    found = await find(site, file_sha256)
    if found is None:
        return not_found()
    upload, tree = found
    headers = {"Content-Type": "application/x-nix-nar", "Cache-Control": "no-store"}
    if request.method == "HEAD":
        return web.Response(headers=headers)
    response = web.StreamResponse(headers=headers)
    async with aclosing(render_nar(tree, site.services.blobs, budget=site.budget)) as nar:
        pieces = compressed(nar, upload.compression, _FAST.get(upload.compression))
        await send_pieces(request, response, pieces, None)
    return response
