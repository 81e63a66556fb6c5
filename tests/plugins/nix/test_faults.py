"""Upstreams that are slow, broken or strict: what is tried again, what is resumed, and what the errors say."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard
from aiohttp import web

from plugins.nix.binary_caches import CacheFiles, RealCache
from plugins.nix.upstream_server import Handler, Store, UpstreamServer, status, without_waiting
from tvix_store.errors import InvalidObject, Unavailable
from tvix_store_nix.file_upstream import FileUpstream
from tvix_store_nix.http_upstream import HttpOptions

pytestmark = pytest.mark.anyio

IMPATIENT = HttpOptions(timeout_s=0.2, backoff=without_waiting(retries=1))


def narinfo_name(real: RealCache) -> str:
    return f"{real.tree.hash_part}.narinfo"


class Once:
    """Misbehaves the first ``times``, then serves."""

    def __init__(self, server: UpstreamServer, handler: Handler, times: int = 1) -> None:
        self._server = server
        self._handler = handler
        self._left = times

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self._left:
            self._left -= 1
            return await self._handler(request)
        return await self._server.serve(request)


@pytest.mark.parametrize("code", [404, 403, 410])
async def test_statuses_that_mean_absent(real: RealCache, server: UpstreamServer, store: Store, code: int) -> None:
    server.instead[narinfo_name(real)] = status(code)
    assert await store.path_infos.get(real.tree.digest) is None


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504, 599])
async def test_statuses_that_may_pass(real: RealCache, server: UpstreamServer, store: Store, code: int) -> None:
    server.instead[narinfo_name(real)] = Once(server, status(code, Retry_After="1"), times=4)
    assert await store.path_infos.get_metadata(real.tree.digest) is not None
    assert server.count(narinfo_name(real)) == 5


@pytest.mark.parametrize("code", [429, 500])
async def test_a_server_that_stays_broken_is_unavailable(
    real: RealCache, server: UpstreamServer, store: Store, code: int
) -> None:
    server.instead[narinfo_name(real)] = status(code)
    with pytest.raises(Unavailable, match=rf"upstream: {server.url}/{narinfo_name(real)}: {code}.*after 5"):
        await store.path_infos.get(real.tree.digest)
    assert server.count(narinfo_name(real)) == 5


@pytest.mark.parametrize("code", [400, 401, 407, 418, 202, 204, 206, 304, 501, 505, 511])
async def test_statuses_that_do_not_pass(real: RealCache, server: UpstreamServer, store: Store, code: int) -> None:
    server.instead[narinfo_name(real)] = status(code)
    with pytest.raises(Unavailable, match=rf"{narinfo_name(real)}: {code}") as raised:
        await store.path_infos.get(real.tree.digest)
    assert ("bearer_token" in str(raised.value)) == (code in (401, 407))
    assert server.count(narinfo_name(real)) == 1


async def test_a_server_that_wants_to_be_left_alone_is(real: RealCache, server: UpstreamServer, store: Store) -> None:
    server.instead[narinfo_name(real)] = status(503, Retry_After="3600")
    with pytest.raises(Unavailable, match="not to be asked for 3600 s"):
        await store.path_infos.get(real.tree.digest)
    assert server.count(narinfo_name(real)) == 1


async def test_a_failure_is_not_remembered(real: RealCache, server: UpstreamServer, store: Store) -> None:
    server.instead["nix-cache-info"] = status(500)
    with pytest.raises(Unavailable, match="nix-cache-info: 500"):
        await store.path_infos.get_metadata(real.tree.digest)
    del server.instead["nix-cache-info"]
    assert await store.path_infos.get_metadata(real.tree.digest) is not None


@pytest.fixture
def closed_port() -> int:
    """Nobody listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


async def test_a_dead_upstream_is_named(real: RealCache, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    async with Store(url) as store:
        for ask in (store.path_infos.get, store.path_infos.get_metadata, store.path_infos.open_nar):
            with pytest.raises(Unavailable, match=rf"upstream: {url}/.*Connect.*after 5 attempts"):
                await ask(real.tree.digest)


async def test_a_folder_that_is_gone_says_nothing_about_paths(real: RealCache) -> None:
    async with Store(FileUpstream("upstream", f"file://{real.folder}/nothing/here")) as store:
        with pytest.raises(Unavailable, match="nothing/here is no folder"):
            await store.path_infos.get(real.tree.digest)


# Stalls


@contextlib.asynccontextmanager
async def stalling(server: UpstreamServer, name: str, n_bytes: int | None) -> AsyncIterator[None]:
    """Send that many bytes of it (``None``: not even headers), and then nothing."""
    forever = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if n_bytes is not None:
            response = web.StreamResponse(headers={"Content-Length": str(len(server.files[name]))})
            await response.prepare(request)
            await response.write(server.files[name][:n_bytes])
        await forever.wait()
        return web.Response()

    server.instead[name] = answer
    try:
        yield
    finally:
        forever.set()


@pytest.mark.parametrize("n_bytes", [None, 0, 20])
async def test_a_narinfo_that_does_not_come(real: RealCache, server: UpstreamServer, n_bytes: int | None) -> None:
    async with Store(server.url, options=IMPATIENT) as store, stalling(server, narinfo_name(real), n_bytes):
        with pytest.raises(Unavailable, match=r"nothing came for 0\.2 s; gave up after 2"):
            await store.path_infos.get_metadata(real.tree.digest)


@pytest.mark.parametrize("n_bytes", [None, 0, 1_000_000])
async def test_a_nar_that_does_not_go_on(real: RealCache, server: UpstreamServer, n_bytes: int | None) -> None:
    name = server.files.nar_name(real.tree)
    async with Store(server.url, options=IMPATIENT) as store, stalling(server, name, n_bytes):
        with pytest.raises(Unavailable, match=r"nothing came for 0\.2 s; gave up after 2"):
            await store.path_infos.get(real.tree.digest)


# Resuming


def cut(server: UpstreamServer, name: str, at: int, headers: Callable[[], dict[str, str]] = dict) -> Handler:
    """Resets the connection when it has sent so many bytes of what is left."""

    async def answer(request: web.Request) -> web.StreamResponse:
        data = server.files[name]
        start = request.http_range.start or 0
        response = web.StreamResponse(status=206 if start else 200, headers=headers())
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response.content_length = len(data) - start
        await response.prepare(request)
        await response.write(data[start : start + at])
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


def ranges(server: UpstreamServer) -> list[str | None]:
    """What was asked for of NARs."""
    return [
        headers.get("Range")
        for name, headers in zip(server.requests, server.headers, strict=True)
        if name.startswith("nar/")
    ]


async def test_a_broken_download_is_resumed(real: RealCache, server: UpstreamServer, store: Store) -> None:
    name = server.files.nar_name(real.tree)
    with_ranges = cut(server, name, 500_000, lambda: {"Accept-Ranges": "bytes", "ETag": '"1"'})
    server.instead[name] = Once(server, with_ranges, times=3)
    assert await store.streamed(real.tree.digest) == real.nar
    first, *others = ranges(server)
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for text in others if text is not None]
    assert first is None
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert starts[0] > 0
    assert server.headers[-1].get("If-Range") == '"1"'


async def test_without_ranges_a_broken_download_begins_again(
    real: RealCache, server: UpstreamServer, store: Store
) -> None:
    name = server.files.nar_name(real.tree)
    server.instead[name] = Once(server, cut(server, name, 500_000), times=2)
    assert await store.streamed(real.tree.digest) == real.nar
    assert ranges(server) == [None, None, None]


async def test_a_download_that_keeps_breaking_is_given_up(
    real: RealCache, server: UpstreamServer, store: Store
) -> None:
    name = server.files.nar_name(real.tree)
    server.instead[name] = cut(server, name, 1000, lambda: {"Accept-Ranges": "bytes"})
    with pytest.raises(Unavailable, match=r"broke off: .*; gave up after 5"):
        await store.streamed(real.tree.digest)


async def test_a_file_that_changed_meanwhile_is_not_pieced_together(
    real: RealCache, server: UpstreamServer, store: Store
) -> None:
    name = server.files.nar_name(real.tree)

    async def changed(request: web.Request) -> web.StreamResponse:
        return web.Response(body=server.files[name], headers={"ETag": '"2"'})

    first = Once(server, cut(server, name, 500_000, lambda: {"Accept-Ranges": "bytes", "ETag": '"1"'}))

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (changed(request) if "Range" in request.headers else first(request))

    server.instead[name] = answer
    with pytest.raises(Unavailable, match="has changed while it was fetched"):
        await store.path_infos.get(real.tree.digest)


async def test_another_range_than_was_asked_for_is_refused(
    real: RealCache, server: UpstreamServer, store: Store
) -> None:
    name = server.files.nar_name(real.tree)

    async def wrong(request: web.Request) -> web.StreamResponse:
        data = server.files[name]
        return web.Response(status=206, body=data, headers={"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"})

    first = Once(server, cut(server, name, 500_000, lambda: {"Accept-Ranges": "bytes"}))

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (wrong(request) if "Range" in request.headers else first(request))

    server.instead[name] = answer
    with pytest.raises(Unavailable, match="asked for the bytes from"):
        await store.path_infos.get(real.tree.digest)


# Redirects


async def test_redirects_are_followed_to_other_hosts(real: RealCache, server: UpstreamServer) -> None:
    async with UpstreamServer.serving(CacheFiles(), "/front") as front, Store(front.url) as store:

        async def there(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(f"{server.url}/{request.match_info['name']}")

        for name in ("nix-cache-info", narinfo_name(real), server.files.nar_name(real.tree)):
            front.instead[name] = there
        assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar


async def test_redirects_without_an_end_are_not(real: RealCache, server: UpstreamServer, store: Store) -> None:
    server.instead[narinfo_name(real)] = status(302, Location=narinfo_name(real))
    with pytest.raises(Unavailable, match="more than 10 redirects"):
        await store.path_infos.get(real.tree.digest)
    assert server.count(narinfo_name(real)) == 11


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/", "http://["])
async def test_redirects_to_elsewhere_are_not(
    real: RealCache, server: UpstreamServer, store: Store, location: str
) -> None:
    server.instead[narinfo_name(real)] = status(302, Location=location)
    with pytest.raises(Unavailable, match="bad redirect"):
        await store.path_infos.get(real.tree.digest)


# Encodings


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("zstd", zstandard.ZstdCompressor().compress), ("gzip", gzip.compress), ("identity", bytes)],
)
async def test_transfer_encodings_are_decoded(real: RealCache, encoding: str, encode: Callable[[bytes], bytes]) -> None:
    async with UpstreamServer.serving(CacheFiles.of(real.written("none"))) as server, Store(server.url) as store:

        async def encoded(request: web.Request) -> web.StreamResponse:
            body = encode(server.files[request.match_info["name"]])
            return web.Response(body=body, headers={"Content-Encoding": encoding})

        for name in server.files:
            server.instead[name] = encoded
        assert await store.streamed(real.tree.digest) == real.nar


async def test_an_encoded_download_begins_again_when_it_breaks(real: RealCache) -> None:
    async with UpstreamServer.serving(CacheFiles.of(real.written("none"))) as server, Store(server.url) as store:
        name = server.files.nar_name(real.tree)
        encoded = zstandard.ZstdCompressor().compress(server.files[name])

        async def answer(request: web.Request) -> web.StreamResponse:
            assert "zstd" in request.headers["Accept-Encoding"]
            response = web.StreamResponse(headers={"Content-Encoding": "zstd"})
            response.content_length = len(encoded)
            await response.prepare(request)
            if server.count(name) == 1:
                await response.write(encoded[:1_000_000])
                assert request.transport is not None
                request.transport.abort()
            else:
                await response.write(encoded)
            return response

        server.instead[name] = answer
        assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar
        assert ranges(server) == [None, None]


async def test_an_unknown_encoding_is_named(real: RealCache, server: UpstreamServer, store: Store) -> None:
    server.instead[narinfo_name(real)] = status(200, Content_Encoding="rot13")
    with pytest.raises(InvalidObject, match="Content-Encoding 'rot13'"):
        await store.path_infos.get(real.tree.digest)
