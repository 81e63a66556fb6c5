"""Answering with a NAR, or a part of it, and breaking off so that nobody takes a part for the whole."""

from __future__ import annotations

import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing, nullcontext

from aiohttp import web

from tvix_store.compression import compressed
from tvix_store.errors import CorruptObject
from tvix_store_http.encoding import CODINGS, choose
from tvix_store_http.nar_copies import CopyLost, CopyPart
from tvix_store_http.ranges import Part, Unsatisfiable, matches, parse_range
from tvix_store_http.sendfile import FileSender
from tvix_store_http.site import Site
from tvix_store_http.stalling import Stalling

__all__ = ["IMMUTABLE", "Nar", "abort", "send_nar", "send_pieces"]

IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache-Control of what can only ever be this."""

_MEDIA_TYPE = "application/x-nix-nar"
_STALLED_S = 300.0
"""A client that takes nothing for so long is given up: what it does not take is held in memory."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Nar(ABC):
    """A NAR that can be sent.

    Args:
        etag: Strong entity tag, in its quotes: it stands for these very bytes.
        size: In bytes.
    """

    def __init__(self, etag: str, size: int) -> None:
        self.etag = etag
        self.size = size

    @abstractmethod
    async def open(self, start: int, end: int) -> AsyncGenerator[bytes] | CopyPart | None:
        """The bytes from ``start`` up to ``end``, once all of them are known to be there; ``None`` if they are gone.

        They may come from a copy. Whoever gets a part of one closes it.

        Raises:
            StoreError: They cannot be had.
        """


async def send_nar(site: Site, request: web.Request, nar: Nar) -> web.StreamResponse | None:
    """Answer GET or HEAD with a NAR, or the part of it that the request asks for.

    Returns:
        The response; ``None`` if the contents have gone.

    Raises:
        StoreError: It cannot be had; nothing has been sent then.
    """
    headers = {
        "Content-Type": _MEDIA_TYPE,
        "Cache-Control": IMMUTABLE,
        "ETag": nar.etag,
        "Accept-Ranges": "bytes",
    }
    asked = request.headers
    if site.options.encodings:
        headers["Vary"] = "Accept-Encoding"
    if (known := asked.get("If-None-Match")) is not None and matches(known, nar.etag, weakly=True):
        return web.Response(status=304, headers=headers)
    ranged = asked.get("Range")
    if (
        ranged is not None
        and (known := asked.get("If-Range")) is not None
        and not matches(known, nar.etag, weakly=False)
    ):
        ranged = None
    try:
        part = parse_range(ranged, nar.size)
    except Unsatisfiable:
        headers["Content-Range"] = f"bytes */{nar.size}"
        return web.Response(status=416, headers=headers)
    if part is None and (coding := choose(asked.get("Accept-Encoding"), site.options.encodings)) is not None:
        return await _send_encoded(request, nar, coding, headers)
    status = 200
    if part is None:
        part = Part(0, nar.size, nar.size)
    else:
        status = 206
        headers["Content-Range"] = part.content_range
    headers["Content-Length"] = str(part.end - part.start)
    response = web.StreamResponse(status=status, headers=headers)
    if request.method == "HEAD":
        return response
    body = await nar.open(part.start, part.end)
    if body is None:
        return None
    if isinstance(body, CopyPart):
        with closing(body):
            await _send_copy(request, response, body)
    else:
        await send_pieces(request, response, body, part.end - part.start)
    return response


async def _send_encoded(
    request: web.Request, nar: Nar, coding: str, headers: dict[str, str]
) -> web.StreamResponse | None:
    """The whole, encoded as it is made: its length is not known, and its parts cannot be had one by one."""
    del headers["Accept-Ranges"]
    headers["Content-Encoding"] = coding
    headers["ETag"] = f'{nar.etag[:-1]}-{coding}"'
    response = web.StreamResponse(headers=headers)
    if request.method == "HEAD":
        return response
    body = await nar.open(0, nar.size)
    if body is None:
        return None
    with closing(body) if isinstance(body, CopyPart) else nullcontext():
        pieces = body.pieces() if isinstance(body, CopyPart) else body
        async with aclosing(_exactly(pieces, nar.size)) as whole:
            await send_pieces(request, response, compressed(whole, CODINGS[coding]), None)
    return response


async def send_pieces(
    request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes], n_bytes: int | None
) -> None:
    """Send a body. Whatever goes wrong once its first piece has come ends the connection by a reset.

    Args:
        request: What is answered.
        response: With all its headers; not prepared yet.
        pieces: The body; closed at the end.
        n_bytes: How much it has to be; ``None`` if that is not known.

    Raises:
        StoreError: The body cannot be had. If nothing was sent of it, there is still time for another answer.
    """
    async with aclosing(pieces if n_bytes is None else _exactly(pieces, n_bytes)) as pieces:
        piece = await anext(pieces, None)
        await response.prepare(request)
        try:
            async with Stalling(_STALLED_S) as stalling:
                await _write(response, piece, pieces, stalling)
        except BaseException:
            abort(request)
            raise


async def _write(
    response: web.StreamResponse, piece: bytes | None, pieces: AsyncGenerator[bytes], stalling: Stalling
) -> None:
    """Send a piece and those after it, and end the response."""
    while piece is not None:
        stalling.begin()
        await response.write(piece)
        stalling.end()
        piece = await anext(pieces, None)
    await response.write_eof()


async def _send_copy(request: web.Request, response: web.StreamResponse, part: CopyPart) -> None:
    """As ``send_pieces``, from a copy, in which something is there to be read; rendered from where it is lost."""
    await response.prepare(request)
    position = part.start
    try:
        async with Stalling(_STALLED_S) as stalling:
            with FileSender(request, stalling) as sender:
                await sender.send_head(response)
                while position < part.end:
                    try:
                        file, available = await part.file(position)
                    except CopyLost:
                        break
                    try:
                        await sender.send(file.fd, position, available)
                    except ConnectionError:
                        raise
                    except OSError as exc:
                        part.lose(exc)
                    position = sender.sent
            if position == part.end:
                await response.write_eof()
                return
            rest = await part.rest(position)
            async with aclosing(_exactly(rest, part.end - position)) as pieces:
                await _write(response, await anext(pieces, None), pieces, stalling)
    except BaseException:
        abort(request)
        raise


def abort(request: web.Request) -> None:
    """End the connection so that the client sees that something went wrong."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


async def _exactly(pieces: AsyncGenerator[bytes], n_bytes: int) -> AsyncGenerator[bytes]:
    """The pieces, of which there have to be so many bytes: a source that is wrong must not end like a whole NAR."""
    left = n_bytes
    async with aclosing(pieces):
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise CorruptObject(f"a NAR goes on after the {n_bytes} bytes that were announced")
            yield piece
    if left:
        raise CorruptObject(f"a NAR ended after {n_bytes - left} of {n_bytes} bytes")
