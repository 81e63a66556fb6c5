"""What comes over a connection: requests in pieces, several at once, none at all; and how connections end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.http.pushing import Pusher, altered, file_nar, narinfo_for, opened_site, path_of
from plugins.http.reading import (
    Upstream,
    memory_services,
    nar_url,
    put_tree,
    serving,
    serving_frontend,
    started,
    wire,
)
from tvix_store import nixbase32
from tvix_store.errors import ConfigError, Unavailable
from tvix_store.frontend import Services
from tvix_store.path_info import PathInfo, Signature
from tvix_store_http import sending
from tvix_store_http.frontend import HttpFrontend, ServerOptions
from tvix_store_http.listen import UnixSocketOptions, parse_listen
from tvix_store_http.narinfo_cache import NarinfoCache
from tvix_store_http.state import State
from vectors.nar import File, encode

pytestmark = pytest.mark.anyio

HOST = b"Host: cache\r\n"


async def one_path() -> tuple[Services, PathInfo, bytes]:
    """A store with a path, and the request for its narinfo but for the fields."""
    services = memory_services()
    path_info = await put_tree(services, "x", File(b"x"))
    return services, path_info, f"GET /{path_info.store_path.hash_part}.narinfo HTTP/1.1\r\n".encode()


# --- requests ---


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    services, _, narinfo = await one_path()
    asked = narinfo + HOST + b"\r\n"
    missing = b"GET /00000000000000000000000000000000.narinfo HTTP/1.1\r\n" + HOST + b"\r\n"
    async with serving(services, narinfo_cache_s=100.0) as url, wire(url) as connection:
        connection.send(asked + missing + asked)
        statuses = [(await connection.response())[0] for _ in range(3)]
        for _ in range(2):  # separately, and before the first is answered
            connection.send(missing)
            connection.send(asked)
        statuses += [(await connection.response())[0] for _ in range(4)]
    assert statuses == [200, 404, 200, 404, 200, 404, 200]


async def test_a_request_in_pieces_is_one_request() -> None:
    services, _, narinfo = await one_path()
    async with serving(services, narinfo_cache_s=100.0) as url, wire(url) as connection:
        for byte in narinfo + HOST + b"\r\n":
            connection.send(bytes([byte]))
            await asyncio.sleep(0)
        first = await connection.response()
        connection.send(narinfo + HOST + b"\r\n")
        assert first == await connection.response()


async def test_a_body_is_never_taken_for_a_request() -> None:
    services, _, narinfo = await one_path()
    asked = narinfo + HOST + b"\r\n"
    async with serving(services, narinfo_cache_s=100.0) as url, wire(url) as connection:
        connection.send(asked)
        await connection.response()
        connection.send(b"PUT /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (2 * len(asked)))
        status, _ = await connection.response()
        connection.send(asked)
        connection.send(asked)
        connection.send(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (status, (await connection.response())[1]) == (404, b"ok\n")


@pytest.mark.parametrize("field", [b"Connection: close", b"cOnnection: x, close"])
async def test_a_client_that_wants_to_end_the_connection_can(field: bytes) -> None:
    services, _, narinfo = await one_path()
    async with serving(services, narinfo_cache_s=100.0) as url, wire(url) as connection:
        connection.send(narinfo + HOST + b"\r\n")
        await connection.response()
        connection.send(narinfo + HOST + field + b"\r\n\r\n")
        await connection.response()
        assert await connection.has_ended()


@pytest.mark.parametrize("head", [b"", HOST + b"Broken\r\n", HOST + b"A: \x00\r\n", HOST + b"Content-Length: x\r\n"])
async def test_what_is_no_request_is_refused_also_from_memory(head: bytes) -> None:
    services, _, narinfo = await one_path()
    async with serving(services, narinfo_cache_s=100.0) as url, wire(url) as connection:
        connection.send(narinfo + HOST + b"\r\n")
        await connection.response()
        connection.send(narinfo + head + b"\r\n")
        assert (await connection.response())[0] == 400
        assert await connection.has_ended()


def test_what_was_looked_up_before_an_upload_is_not_kept() -> None:
    cache = NarinfoCache(100.0)
    cache.keep(b"a", b"old", cache.generation)
    before = cache.generation
    cache.forget(b"a")
    cache.keep(b"a", b"looked up before", before)
    assert cache.get(b"a") is None


def test_narinfos_in_memory_are_bounded() -> None:
    cache = NarinfoCache(100.0)
    for i in range(40):
        cache.keep(b"%d" % i, bytes(1024 * 1024), cache.generation)
    kept = [i for i in range(40) if cache.get(b"%d" % i)]
    assert kept == list(range(24, 40))


async def test_a_narinfo_in_memory_does_not_stay() -> None:
    services, path_info, narinfo = await one_path()
    async with serving(services, narinfo_cache_s=0.0) as url, wire(url) as connection:
        for signatures in ((), (Signature("a", bytes(64)),)):
            await services.path_infos.put(replace(path_info, signatures=signatures))
            connection.send(narinfo + HOST + b"\r\n")
            _, body = await connection.response()
            assert body.count(b"Sig: ") == len(signatures)


async def test_an_upload_is_seen_at_once(tmp_path: Path) -> None:
    nar = file_nar(b"x")
    narinfo = narinfo_for(nar)
    signed = altered(narinfo, signatures=(Signature("a", bytes(64)),))
    asked = f"GET /{path_of(narinfo)} HTTP/1.1\r\nHost: cache\r\n\r\n".encode()
    async with opened_site(tmp_path) as site, ClientSession() as session:
        options = replace(site.options, narinfo_cache_s=100.0)
        frontend = HttpFrontend("test", site.services, parse_listen("127.0.0.1:0"), options, state=site.state)
        async with serving_frontend(frontend) as url, wire(url) as connection:
            pusher = Pusher(url, session)
            await pusher.push(nar, narinfo)
            for _ in range(2):  # the second time from memory
                connection.send(asked)
                assert b"Sig: " not in (await connection.response())[1]
            assert (await pusher.put(path_of(narinfo), signed.render()))[0] == 200
            connection.send(asked)
            assert b"Sig: a:" in (await connection.response())[1]


# --- hostile ones ---

COMPONENTS = [
    *("..", ".", "", "nar", "log", "browse", "raw", "static", "realisations", "snix-castore", "nix-cache-info", "x"),
    *("%2e%2e", "%00", "%ff", "A" * 6000, "0" * 32, "0" * 52 + ".nar", "z" * 52 + ".nar", "0" * 32 + ".narinfo"),
    *("0" * 32 + ".ls", "GgMSAXg", "?narsize=1", "?narsize=%31", "?hash=x", "?hash=" + "0" * 32, "#x"),
]
PATHS = st.one_of(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=80),
    st.text(st.characters(min_codepoint=0x80), max_size=40).filter(lambda text: text.isprintable()),
    st.lists(st.sampled_from(COMPONENTS), max_size=6).map("/".join),
)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A server that everything is tried on, with all that there is to be reached."""
    async with opened_site(tmp_path) as site:
        await put_tree(site.services, "x", File(b"x"))
        frontend = HttpFrontend("test", site.services, parse_listen("127.0.0.1:0"), site.options, state=site.state)
        async with serving_frontend(frontend) as url:
            yield url


@given(method=st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "X"]), path=PATHS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_path_is_an_error_of_ours(url: str, method: str, path: str) -> None:
    async with asyncio.timeout(20), wire(url) as connection:
        connection.send(f"{method} /{path} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n\r\n".encode())
        answer = await connection.reader.read()
    assert re.match(rb"HTTP/1\.[01] [234][0-9][0-9] ", answer), answer[:200]


@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"GET /", b"GET / HTTP/1.1\r\n", b"PUT /nar/x HTTP/1.1\r\n"]),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_bytes_are_an_error_of_ours(url: str, data: bytes, start: bytes) -> None:
    async with asyncio.timeout(20), wire(url) as connection:
        connection.send(start + data)
        connection.writer.write_eof()
        answer = await connection.reader.read()
    assert answer == b"" or re.match(rb"HTTP/1\.[01] [234][0-9][0-9] ", answer), answer[:200]


# --- the end ---


async def test_a_running_download_may_end_after_the_frontend_was_cancelled() -> None:
    upstream = Upstream()
    nar = encode(File(bytes(3_000_000)))
    metadata = upstream.add("x", nar)
    upstream.gate = asyncio.Event()
    frontend = HttpFrontend("test", memory_services(path_infos=upstream), parse_listen("127.0.0.1:0"))
    task, url = await started(frontend)
    async with wire(url) as idle, wire(url) as busy:
        busy.send(f"GET /{nar_url(metadata)}?hash={metadata.store_path.hash_part} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
        await busy.reader.readuntil(b"\r\n\r\n")
        task.cancel()
        assert await idle.has_ended()
        upstream.gate.set()
        assert await busy.reader.read(-1) == nar
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_download_that_takes_too_long_is_cut() -> None:
    upstream = Upstream()
    metadata = upstream.add("x", encode(File(bytes(3_000_000))))
    upstream.gate = asyncio.Event()
    services = memory_services(path_infos=upstream)
    frontend = HttpFrontend("test", services, parse_listen("127.0.0.1:0"), server=ServerOptions(drain_s=0.0))
    task, url = await started(frontend)
    async with wire(url) as busy:
        busy.send(f"GET /{nar_url(metadata)}?hash={metadata.store_path.hash_part} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
        await busy.reader.readuntil(b"\r\n\r\n")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert upstream.closed == 1
        assert len(await busy.rest()) < metadata.nar_size


async def test_an_upload_that_is_under_way_at_the_end_is_taken(tmp_path: Path) -> None:
    services = memory_services()
    nar = encode(File(bytes(3_000_000)))
    url_path = f"nar/{nixbase32.encode(hashlib.sha256(nar).digest())}.nar"
    async with await State.open(str(tmp_path / "http.sqlite"), 3600) as state:
        frontend = HttpFrontend("test", services, parse_listen("127.0.0.1:0"), state=state)
        task, url = await started(frontend)
        async with wire(url) as idle, wire(url) as busy:
            fields = f"Host: c\r\nExpect: 100-continue\r\nContent-Length: {len(nar)}\r\n"
            busy.send(f"PUT /{url_path} HTTP/1.1\r\n{fields}\r\n".encode())
            assert (await busy.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            task.cancel()
            assert await idle.rest() == b""
            busy.send(nar)
            answer = await busy.rest()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"Connection: close" in answer
        assert await state.nar(hashlib.sha256(nar).digest()) is not None


async def test_a_client_that_goes_away_ends_the_work_for_it() -> None:
    upstream = Upstream()
    metadata = upstream.add("x", encode(File(bytes(3_000_000))))
    upstream.gate = asyncio.Event()
    async with serving(memory_services(path_infos=upstream)) as url:
        async with wire(url) as busy:
            path = f"{nar_url(metadata)}?hash={metadata.store_path.hash_part}"
            busy.send(f"GET /{path} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
            await busy.reader.readuntil(b"\r\n\r\n")
        await upstream.all_closed.wait()


async def test_a_client_that_does_not_read_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "_STALLED_S", 0.05)
    upstream = Upstream()
    metadata = upstream.add("x", encode(File(bytes(30_000_000))))
    async with serving(memory_services(path_infos=upstream)) as url, wire(url) as busy:
        path = f"{nar_url(metadata)}?hash={metadata.store_path.hash_part}"
        busy.send(f"GET /{path} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
        await upstream.all_closed.wait()
        assert len(await busy.rest()) < metadata.nar_size
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# --- where it listens ---


async def test_a_unix_socket(tmp_path: Path) -> None:
    server = ServerOptions(unix=UnixSocketOptions(mode=0o660))
    path = tmp_path / "socket"
    async with serving(memory_services(), str(path), server) as url:
        assert url == f"http+unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o660
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /health HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in await reader.readline()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    assert not path.exists()


async def test_a_stale_socket_stays_unless_it_is_to_go(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(Unavailable, match="unix_listen_unlink"):
        async with serving(memory_services(), str(path)):
            pass
    async with serving(memory_services(), str(path), ServerOptions(unix=UnixSocketOptions(unlink=True))):
        with pytest.raises(Unavailable, match="somebody listens"):
            async with serving(memory_services(), str(path), ServerOptions(unix=UnixSocketOptions(unlink=True))):
                pass


async def test_localhost_is_both_addresses() -> None:
    async with serving(memory_services(), "localhost:0") as url:
        port = int(url.rpartition(":")[2])
        for host in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()


async def test_several_may_share_a_port() -> None:
    server = ServerOptions(tcp_reuse_port=True)
    async with (
        serving(memory_services(), server=server) as first,
        serving(memory_services(), first.removeprefix("http://"), server) as second,
        wire(second) as connection,
    ):
        assert first == second
        connection.send(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await connection.response())[0] == 200


async def test_an_address_that_is_taken_is_said_so() -> None:
    async with serving(memory_services()) as url:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:[0-9]+: address already in use"):
            async with serving(memory_services(), url.removeprefix("http://")):
                pass


@pytest.mark.parametrize("text", ["", "8080", ":8080", "example.org:80", "127.0.0.1:99999", "::1:80", "@", "[::1]"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "is_local"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("/x", True), ("@x", True), ("0.0.0.0:1", False)],
)
def test_which_addresses_are_local(text: str, is_local: bool) -> None:
    assert parse_listen(text).is_local is is_local
