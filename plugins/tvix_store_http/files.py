"""Contents of single files: the first bytes as text for a page, and all of them for who downloads.

What is stored is foreign. It is served so that it can neither run scripts nor load anything from elsewhere, even if it
is HTML.
"""

from __future__ import annotations

import codecs
import mimetypes
import posixpath
import re
from collections.abc import AsyncGenerator

from aiohttp import web

from tvix_store.blob import BlobReader, BlobService
from tvix_store.errors import DanglingReference
from tvix_store.limits import KIB, SMALL_BLOB_BYTES
from tvix_store.nodes import FileNode
from tvix_store_http.markup import quoted
from tvix_store_http.pages import Extract
from tvix_store_http.ranges import Part, Unsatisfiable, matches, parse_range
from tvix_store_http.sending import send_pieces

__all__ = ["read_extract", "send_file"]

_TEXT_BYTES = 64 * KIB
"""How much of a file is shown on its page, and read to see what it is."""

_HEADERS = {
    # "sandbox" makes it a document of no origin, without scripts and forms.
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
        "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = mimetypes.MimeTypes()  # not those of the machine, which differ


async def read_extract(blobs: BlobService, node: FileNode) -> Extract:
    """The start of a file.

    Raises:
        StoreError: It cannot be read.
    """
    async with await _open(blobs, node) as reader:
        head = await _head(reader)
    return Extract(_text(head, whole=len(head) >= node.size), len(head))


async def send_file(request: web.Request, blobs: BlobService, node: FileNode, name: bytes) -> web.StreamResponse:
    """Answer GET or HEAD with a file, or the part of it that the request asks for.

    Args:
        request: With ``download`` in its query, the file is to be kept rather than shown.
        blobs: Where the contents are.
        node: The file.
        name: Of the file.

    Raises:
        StoreError: It cannot be had; nothing has been sent then.
    """
    etag = f'"{node.digest.hex()}"'
    headers = {**_HEADERS, "ETag": etag, "Accept-Ranges": "bytes"}
    if "If-None-Match" in request.headers and matches(request.headers["If-None-Match"], etag, weakly=True):
        return web.Response(status=304, headers=headers)
    part = Part(0, node.size, node.size)
    status = 200
    if matches(request.headers.get("If-Range", etag), etag, weakly=False):
        try:
            asked_for = parse_range(request.headers.get("Range"), node.size)
        except Unsatisfiable:
            return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{node.size}"})
        if asked_for is not None:
            part, status = asked_for, 206
            headers["Content-Range"] = part.content_range
    # Opened for HEAD as well: that the file is there has to be known before the status line.
    async with await _open(blobs, node) as reader:
        head = await _head(reader)
        headers["Content-Type"] = _content_type(name, head)
        headers["Content-Disposition"] = _disposition(name, attachment="download" in request.query)
        headers["Content-Length"] = str(part.end - part.start)
        response = web.StreamResponse(status=status, headers=headers)
        if request.method != "HEAD":
            await send_pieces(request, response, _pieces(reader, part, head), part.end - part.start)
    return response


async def _open(blobs: BlobService, node: FileNode) -> BlobReader:
    reader = await blobs.open_read(node.digest)
    if reader is None:
        raise DanglingReference(f"blob {node.digest} does not exist")
    return reader


async def _head(reader: BlobReader) -> bytes:
    """The first bytes of a file, ``_TEXT_BYTES`` of them unless it is shorter."""
    pieces: list[bytes] = []
    left = _TEXT_BYTES
    while left and (piece := await reader.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


async def _pieces(reader: BlobReader, part: Part, head: bytes) -> AsyncGenerator[bytes]:
    """A part of a file; all there is after its start, if it goes up to the end, so that a wrong size is noticed.

    Args:
        reader: Behind ``head``.
        part: What is wanted.
        head: The first bytes of the file.
    """
    if part.start:
        await reader.seek(part.start)
        head = b""  # without seeking, the blob is checked against its digest as a whole
    left = part.end - part.start
    piece = head or await reader.read(SMALL_BLOB_BYTES)
    while piece:
        if part.end < part.size:
            piece = piece[:left]
        yield piece
        left -= len(piece)
        if not left and part.end < part.size:
            return
        piece = await reader.read(SMALL_BLOB_BYTES)


def _text(head: bytes, *, whole: bool) -> str | None:
    """The text that ``head`` is or begins; ``None`` if it is none."""
    if b"\0" in head:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return None


def _content_type(name: bytes, head: bytes) -> str:
    """What a file is, going by its name, else by its first bytes."""
    guess, coding = _TYPES.guess_type(posixpath.join("/", name.decode("ascii", "replace")))
    text = _text(head, whole=False) is not None
    if coding is not None:
        return "application/gzip" if coding == "gzip" else "application/octet-stream"
    if guess is None:
        return "text/plain; charset=utf-8" if text else "application/octet-stream"
    return f"{guess}; charset=utf-8" if guess.startswith("text/") and text else guess


def _disposition(name: bytes, *, attachment: bool) -> str:
    """Content-Disposition with the name for old clients and for the others (RFC 6266)."""
    kind = "attachment" if attachment else "inline"
    plain = re.sub(rb"[^A-Za-z0-9._+-]", b"_", name).decode()
    text = "".join(c if c.isprintable() else "_" for c in name.decode("utf-8", "replace"))
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quoted(text.encode())}"
