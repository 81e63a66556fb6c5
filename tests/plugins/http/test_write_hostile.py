"""Whatever is sent, the answer says that it was wrong: the server neither fails nor hangs."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.http.pushing import narinfo_for, opened_site, path_of, serving, url_of
from tvix_store.compression import SUFFIXES, compressed
from vectors.nar import TREES, encode

NARS = [encode(tree) for name, tree in TREES.items() if name != "too deep"]
relaxed = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))


async def _compress(data: bytes, compression: str) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        yield data

    return b"".join([piece async for piece in compressed(pieces(), compression)])


FILES = [(method, asyncio.run(_compress(nar, method))) for method in SUFFIXES for nar in NARS if len(nar) < 100_000]


@dataclass
class Server:
    """A binary cache in a thread."""

    path: Path
    faults: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(60)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.faults.append(context))
        stop = asyncio.Event()
        self._loop, self._stop = loop, stop
        async with (
            opened_site(self.path, max_nar_bytes=1_000_000, max_document_bytes=10_000) as site,
            serving(site) as url,
        ):
            self.address = ("127.0.0.1", int(url.rpartition(":")[2]))
            self._ready.set()
            await stop.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, f"/{path}", body, fields)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What is answered until the connection ends, if nothing else is going to be sent."""
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            return answer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("hostile"))
    try:
        yield server
    finally:
        server.close()
    assert server.faults == []


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes like ``data``, but for a few places."""
    result = bytearray(data)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(result)))
        end = draw(st.integers(start, min(len(result), start + 40)))
        result[start:end] = draw(st.binary(max_size=20))
    return bytes(result[: draw(st.integers(0, len(result)))]) if draw(st.booleans()) else bytes(result)


@given(st.data())
@relaxed
def test_any_body_is_taken_or_refused(server: Server, data: st.DataObject) -> None:
    method, file = data.draw(st.sampled_from(FILES))
    body = data.draw(damaged(file))
    url = url_of(body, method)
    status, text = server.request("PUT", url, body)
    assert status in (201, 400, 413)
    assert text.count(b"\n") == (status != 201)
    assert (server.request("HEAD", url)[0] == 200) == (status == 201)
    if status == 201 and method == "none":
        assert server.request("GET", url) == (200, body)


@given(st.data())
@relaxed
def test_any_content_coding_is_taken_off_or_refused(server: Server, data: st.DataObject) -> None:
    _, file = data.draw(st.sampled_from(FILES))
    body = data.draw(damaged(file))
    coding = data.draw(
        st.sampled_from(["gzip", "zstd", "br", "xz", "bzip2", "identity", "deflate", "gzip, br", "\x7f"])
    )
    status, _ = server.request("PUT", url_of(NARS[0]), body, Content_Encoding=coding)
    assert status in (201, 400, 413, 415)


@given(st.data())
@relaxed
def test_any_narinfo_is_taken_or_refused(server: Server, data: st.DataObject) -> None:
    nar = data.draw(st.sampled_from(NARS))
    narinfo = narinfo_for(nar, data.draw(st.sampled_from("abc")))
    server.request("PUT", narinfo.url, nar)
    lines = narinfo.render().decode().splitlines(keepends=True)
    more = st.sampled_from(
        [
            f"CA: fixed:r:sha256:{'0' * 52}\n",
            f"CA: text:sha256:{hashlib.sha256(nar).hexdigest()}\n",
            f"References: {'0' * 32}-x\n",
            f"Sig: x:{'A' * 86}==\n",
            "URL: nar/snix-castore/CgA?narsize=1\n",
            f"URL: nar/{'0' * 52}.nar\n",
            "URL: ../../etc/passwd\n",
            "URL: http://[\n",
            "\n",
        ]
    )
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        lines[place : place + data.draw(st.integers(0, 1))] = [data.draw(more)]
    body = data.draw(damaged("".join(lines).encode()))
    status, text = server.request("PUT", path_of(narinfo), body)
    assert status in (200, 400, 409)
    assert text.count(b"\n") == (status != 200)


FOLDERS = ["", "nar/", "log/", "realisations/", "build-trace-v2/", "debuginfo/", "nar/snix-castore/", "../", "//"]
SUFFIXES_OF_NAMES = ["", ".narinfo", ".ls", ".nar", ".nar.xz", ".doi", ".debug", "?hash=x", "#"]


@given(st.sampled_from(FOLDERS), st.text(max_size=60), st.sampled_from(SUFFIXES_OF_NAMES), st.sampled_from("PHGD"))
@relaxed
def test_any_path_has_an_answer(server: Server, folder: str, name: str, suffix: str, method: str) -> None:
    path = f"{folder}{quote(name.encode(errors='surrogatepass'), safe='/!:')}{suffix}"
    method = {"P": "PUT", "H": "HEAD", "G": "GET", "D": "DELETE"}[method]
    status, _ = server.request(method, path, b"{}" if method == "PUT" else None)
    assert status < 500


@given(st.binary(max_size=200), st.sampled_from(["chunked", "gzip", "10", "-1", "99999999999999999999", "0x10", ""]))
@relaxed
def test_anything_after_a_head_ends_the_connection(server: Server, body: bytes, length: str) -> None:
    field_name = "Transfer-Encoding" if length in ("chunked", "gzip") else "Content-Length"
    head = f"PUT /{url_of(NARS[0])} HTTP/1.1\r\nHost: x\r\n{field_name}: {length}\r\n\r\n".encode()
    answer = server.raw(head + body)
    assert answer == b"" or re.match(rb"HTTP/1\.[01] 4", answer)
    assert server.request("GET", "nix-cache-info")[0] == 200
