"""The bodies of uploads: read with limits and a watch on clients that fall silent, freed of their content coding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.web_protocol import RequestPayloadError

from tvix_store.compression import decompressed
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.limits import KIB
from tvix_store.nixbase32 import shown
from tvix_store_http.credentials import refused
from tvix_store_http.site import Site

__all__ = ["Memory", "expecting", "open_body", "read_body"]

_PIECE_BYTES = 512 * KIB
"""Less is gathered before it is passed on, since each piece costs some hops to threads."""

_CODINGS = {
    "identity": "none",
    "gzip": "gzip",
    "x-gzip": "gzip",
    "zstd": "zstd",
    "br": "br",
    "xz": "xz",
    "bzip2": "bzip2",
}
"""Content codings to compressions; the last two are names that Nix uses."""


class Memory:
    """So many bytes that uploads share. Who asks first gets first, so that large ones get their turn.

    Args:
        n_bytes: How much there is.
    """

    def __init__(self, n_bytes: int) -> None:
        self._free = n_bytes
        self._turn = asyncio.Lock()
        self._given_back = asyncio.Event()

    @asynccontextmanager
    async def holding(self, n_bytes: int) -> AsyncIterator[None]:
        """Wait for ``n_bytes``, no more than there are at all, and hold them meanwhile."""
        async with self._turn:
            while self._free < n_bytes:
                self._given_back.clear()
                await self._given_back.wait()
            self._free -= n_bytes
        try:
            yield
        finally:
            self._free += n_bytes
            self._given_back.set()


def expecting(site: Site) -> Callable[[web.Request], Awaitable[web.Response | None]]:
    """Answers ``Expect: 100-continue`` at once; those who may not upload to ``site`` are told so instead."""

    async def expect(request: web.Request) -> web.Response | None:
        if request.headers["Expect"].lower() != "100-continue":
            raise web.HTTPExpectationFailed(text="only 100-continue can be expected\n")
        if (refusal := refused(site, request)) is not None:
            refusal.force_close()
            await refusal.prepare(request)
            await refusal.write_eof()
            request.protocol.force_close()  # or aiohttp would wait for the body, which is not going to come
            return refusal
        if request.version >= HttpVersion11 and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # or the access log would count it
        return None

    return expect


@asynccontextmanager
async def open_body(request: web.Request, max_bytes: int, idle_s: float) -> AsyncIterator[AsyncGenerator[bytes]]:
    """The body of a request without its content coding.

    Args:
        request: Its body is read only as fast as the pieces are taken.
        max_bytes: How long the body may be, with and without the coding.
        idle_s: How long the client may take to send anything more.

    Yields:
        The pieces. Reading them raises LimitExceeded, InvalidObject if the client broke off or the coding is broken,
        and HTTPRequestTimeout if it fell silent.

    Raises:
        HTTPUnsupportedMediaType: The coding is not known.
        LimitExceeded: The body announces to be too long.
    """
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    compression = _CODINGS.get(coding or "identity")
    if compression is None:
        raise web.HTTPUnsupportedMediaType(text=f"Content-Encoding {shown(coding)} is not known\n")
    if request.content_length is not None and request.content_length > max_bytes:
        raise LimitExceeded(f"a body of {request.content_length} bytes, at most {max_bytes} are taken")
    async with aclosing(_received(request, max_bytes, idle_s)) as pieces:
        if compression == "none":
            yield pieces
        else:
            async with aclosing(decompressed(pieces, compression, max_bytes=max_bytes)) as decoded:
                yield decoded


async def read_body(request: web.Request, max_bytes: int, idle_s: float) -> bytes:
    """The whole body of a request, without its content coding; raises as ``open_body``."""
    async with open_body(request, max_bytes, idle_s) as pieces:
        return b"".join([piece async for piece in pieces])


async def _received(request: web.Request, max_bytes: int, idle_s: float) -> AsyncGenerator[bytes]:
    total = 0
    gathered: list[bytes] = []
    n_gathered = 0
    content = request.content
    while data := await _next(content, idle_s):
        total += len(data)
        if total > max_bytes:
            raise LimitExceeded(f"the body has more than {max_bytes} bytes")
        gathered.append(data)
        n_gathered += len(data)
        if n_gathered >= _PIECE_BYTES:
            yield b"".join(gathered)
            gathered.clear()
            n_gathered = 0
    if gathered:
        yield b"".join(gathered)


async def _next(content: StreamReader, idle_s: float) -> bytes:
    """What has come; nothing at the end."""
    try:
        async with asyncio.timeout(idle_s):
            return await content.readany()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"nothing came for {idle_s:g} seconds\n") from None
    except (ConnectionError, RequestPayloadError) as exc:
        raise InvalidObject("the upload broke off") from exc  # nobody reads this, unless the chunks were no chunks
