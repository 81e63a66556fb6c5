"""Files that clients put and get as they are: build logs, realisations, debug information, listings of NARs.

Their names are keys of a database and nothing else. A listing is only put here: whoever asks for one gets what
follows from the contents, if they are there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from aiohttp import web

from tvix_store import nixbase32
from tvix_store.errors import InvalidObject
from tvix_store.limits import MIB
from tvix_store.nar_listing import MAX_LISTING_BYTES
from tvix_store.store_path import MAX_NAME_LENGTH
from tvix_store_http.body import Memory, expecting, read_body
from tvix_store_http.credentials import refused
from tvix_store_http.errors import not_found
from tvix_store_http.narinfo import HASH_PART
from tvix_store_http.site import Site
from tvix_store_http.state import Document

__all__ = ["routes"]

_MEMORY_BYTES = 96 * MIB
"""What all documents that are being received may take, as they are held in memory."""

_MAX_JSON_BYTES = 1 * MIB
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"

_NAME = rf"[A-Za-z0-9+\-._?=]{{1,{MAX_NAME_LENGTH}}}"
_LISTING = re.compile(rf"{HASH_PART}\.ls")
_LOG = re.compile(rf"log/{HASH_PART}-{_NAME}")
_OTHERS = re.compile(
    rf"realisations/[a-z0-9]{{1,16}}:[0-9a-f]{{32,128}}!{_NAME}\.doi"
    rf"|build-trace-v2/{HASH_PART}-{_NAME}/{_NAME}\.doi"
    r"|debuginfo/[0-9a-f]{2,128}(?:\.debug)?"
)


def routes(site: Site) -> list[web.RouteDef]:
    """Takes and serves documents for ``site``."""
    memory = Memory(max(_MEMORY_BYTES, site.options.max_document_bytes))

    async def put(request: web.Request) -> web.StreamResponse:
        if (refusal := refused(site, request)) is not None:
            return refusal
        assert site.state is not None
        key = _key(request)
        media_type, max_bytes, check = _kind(key, site)
        is_length_known = request.content_length is not None and "Content-Encoding" not in request.headers
        needed = min(request.content_length or 0, max_bytes) if is_length_known else max_bytes
        async with memory.holding(needed):
            data = await read_body(request, max_bytes, site.options.upload_idle_s)
            check(key, data)
            await site.state.put_document(key, Document(data, media_type))
        return web.Response(status=201)

    async def get(request: web.Request) -> web.StreamResponse:
        try:
            key = _key(request)
        except InvalidObject as exc:
            return not_found(str(exc))
        if site.state is None:
            return not_found()
        if request.method == "HEAD":
            found = await site.state.document_size(key)
            if found is None:
                return not_found()
            size, media_type = found
            return web.Response(headers={"Content-Type": media_type, "Content-Length": str(size)})
        document = await site.state.document(key)
        if document is None:
            return not_found()
        return web.Response(body=document.data, headers={"Content-Type": document.media_type})

    expect = expecting(site)
    listing = f"/{{digest:{HASH_PART}}}.ls"
    folders = [f"/{folder}/{{name:.+}}" for folder in ("log", "realisations", "build-trace-v2", "debuginfo")]
    return [
        *(web.put(path, put, expect_handler=expect) for path in (listing, *folders)),
        *(web.get(path, get) for path in folders),  # HEAD comes with it
    ]


def _key(request: web.Request) -> str:
    """The path of a document without its slash, which is its key.

    Raises:
        InvalidObject: No document has such a name.
    """
    key = request.path[1:]
    if any(pattern.fullmatch(key) for pattern in (_LOG, _OTHERS, _LISTING)):
        return key
    raise InvalidObject(f"{nixbase32.shown(key)}: there are no files with such names")


def _kind(key: str, site: Site) -> tuple[str, int, Callable[[str, bytes], None]]:
    """Media type of a document, how long it may be, and what checks it."""
    if _LOG.fullmatch(key):
        return _TEXT, site.options.max_document_bytes, _check_nothing
    if _LISTING.fullmatch(key):
        return _JSON, max(site.options.max_document_bytes, MAX_LISTING_BYTES), _check_brace
    return _JSON, min(site.options.max_document_bytes, _MAX_JSON_BYTES), _check_object


def _check_nothing(key: str, data: bytes) -> None:
    pass


def _check_brace(key: str, data: bytes) -> None:
    """A listing may have a million entries, which take many times their length when they are parsed."""
    if not data.lstrip().startswith(b"{"):
        raise InvalidObject(f"{key}: is not a JSON object")


def _check_object(key: str, data: bytes) -> None:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidObject(f"{key}: is not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise InvalidObject(f"{key}: is not a JSON object")
