from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from aiohttp import ClientPayloadError
from hypothesis import given
from hypothesis import strategies as st

from core.directories import names
from plugins.grpc.loopback import memory_services
from plugins.http.browsing import Page, add_path, directory, file, visited
from tvix_store.digest import B3Digest
from tvix_store.frontend import Services
from tvix_store.limits import MIB
from tvix_store.nodes import FileNode
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import contents
from tvix_store_http.markup import quoted, shown, shown_text
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

HOSTILE = (
    b"<script>alert(1)",
    b"\"quoted\" 'name' & <b>",
    b"new\nline\r",
    b"100%25%",
    b"\xff\xfe latin\xe9",
    b" space ",
    b"back\\slash",
    b"?query#fragment;a=b",
    b"a:b",
    b"...",
    b"{0}{name}",
    "\u202egnp.exe".encode(),
    "☃😀".encode(),
    b"\x01\x7f",
    b"x" * 255,
)


async def add_file(services: Services, name: bytes, data: bytes) -> StorePath:
    root = await directory(services, {name: await file(services, data)})
    return (await add_path(services, "path", root)).store_path


async def test_files_of_hostile_names_are_shown_and_lead_to_their_contents() -> None:
    async with visited() as (services, visitor):
        entries = {name: await file(services, b"contents of " + name) for name in HOSTILE}
        path = (await add_path(services, "path", await directory(services, entries))).store_path
        page = await visitor.page(f"browse/{path}/")
        assert {"script", "b"}.isdisjoint(page.tags)
        for kind in ("browse", "raw"):
            links = [link for link in page.links if f"/{kind}/{path}/" in link]
            bodies = [(await visitor.ask(link))[1] for link in links]
            assert len(bodies) == len(entries)
            if kind == "raw":
                assert sorted(bodies) == sorted(b"contents of " + name for name in HOSTILE)


@given(names)
def test_a_name_in_a_page_is_nothing_but_text(name: bytes) -> None:
    page = Page("", f"<p>{shown(name)}</p>")
    assert set(page.tags) <= {"p", "bdi", "span"}
    assert page.text.isprintable()
    if name.isascii() and name.decode().isprintable():
        assert page.text == name.decode()


@given(st.lists(names, max_size=4))
def test_a_link_has_the_bytes_of_the_names(components: list[bytes]) -> None:
    url = quoted(*components)
    assert [unquote_to_bytes(part) for part in url.split("/") if part] == components
    assert url.isascii()
    assert not set(url) & set("<>\"'& ?#\\\n")


@given(st.text())
def test_a_text_in_a_page_is_nothing_but_text(text: str) -> None:
    page = Page("", f"<p>{shown_text(text)}</p>")
    assert set(page.tags) <= {"p", "span"}
    assert not set(page.text) & set("\0\x1b\x7f\u202e")


async def test_a_text_is_shown() -> None:
    async with visited() as (services, visitor):
        path = await add_file(services, b"a.html", b"<h3>one</h3>\ntwo \x1b[31m & three\n")
        page = await visitor.page(f"browse/{path}/a.html")
        assert "<h3>one</h3>\ntwo \\x1b[31m & three\n" in page.text
        assert "h3" not in page.tags


async def test_of_a_long_text_the_start_is_shown() -> None:
    async with visited() as (services, visitor):
        # A character of two bytes lies across the end of what is read.
        path = await add_file(services, b"long", b"x" + "é".encode() * 200_000 + b"the end")
        page = await visitor.page(f"browse/{path}/long")
        assert "This is the first 64 KiB of it." in page.text
        assert 32_000 < page.text.count("é") < 33_000
        assert "the end" not in page.text


@pytest.mark.parametrize("data", [b"ELF\0", b"\xff\xfe", "é".encode()[:1]], ids=["nul", "no UTF-8", "cut off"])
async def test_what_is_no_text_is_not_shown(data: bytes) -> None:
    async with visited() as (services, visitor):
        path = await add_file(services, b"file", data)
        assert "This is no text." in (await visitor.page(f"browse/{path}/file")).text


@pytest.mark.parametrize("size", [0, 1, 70_000, 5 * MIB + 3])
async def test_a_file_is_downloaded(size: int) -> None:
    data = contents(size)
    async with visited() as (services, visitor):
        path = await add_file(services, b"file", data)
        response, body = await visitor.ask(f"raw/{path}/file")
        assert body == data
        assert response.headers["Content-Length"] == str(size)
        assert response.headers["ETag"] == f'"{B3Digest.of(data).hex()}"'
        head, nothing = await visitor.ask(f"raw/{path}/file", "HEAD")
        assert (head.headers["Content-Length"], nothing) == (str(size), b"")


async def test_a_path_that_is_a_file_is_downloaded() -> None:
    async with visited() as (services, visitor):
        path = (await add_path(services, "hello.txt", await file(services, b"text"))).store_path
        response, body = await visitor.ask(f"raw/{path}/")
        assert body == b"text"
        assert 'filename="hello.txt"' in response.headers["Content-Disposition"]
        assert "text" in (await visitor.page(f"browse/{path}")).text


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, 3 * MIB),
        ("bytes=-5", 3 * MIB - 5, 3 * MIB),
        ("bytes=5-2000000", 5, 2_000_001),
        ("bytes=70000-80000", 70_000, 80_001),
        ("bytes=0-99999999", 0, 3 * MIB),
    ],
)
async def test_a_part_of_a_file_is_downloaded(header: str, start: int, end: int) -> None:
    data = contents(3 * MIB)
    async with visited() as (services, visitor):
        path = await add_file(services, b"file", data)
        response, body = await visitor.ask(f"raw/{path}/file", Range=header)
        assert response.status == 206
        assert body == data[start:end]
        assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(data)}"


async def test_a_part_past_the_end_cannot_be_had() -> None:
    async with visited() as (services, visitor):
        path = await add_file(services, b"file", b"text")
        response, _ = await visitor.ask(f"raw/{path}/file", Range="bytes=4-")
        assert (response.status, response.headers["Content-Range"]) == (416, "bytes */4")


async def test_who_has_the_file_is_not_sent_it() -> None:
    async with visited() as (services, visitor):
        path = await add_file(services, b"file", b"text")
        etag = (await visitor.ask(f"raw/{path}/file"))[0].headers["ETag"]
        assert (await visitor.ask(f"raw/{path}/file", If_None_Match=etag))[0].status == 304
        assert (await visitor.ask(f"raw/{path}/file", If_Range=etag, Range="bytes=1-"))[1] == b"ext"
        assert (await visitor.ask(f"raw/{path}/file", If_Range='"other"', Range="bytes=1-"))[1] == b"text"


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        (b"a.html", b"<p>", "text/html; charset=utf-8"),
        (b"a.html", b"<p>\xff", "text/html"),
        (b"a.svg", b"<svg>", "image/svg+xml"),
        (b"run", b"#!/bin/sh", "text/plain; charset=utf-8"),
        (b"program", b"\x7fELF\0", "application/octet-stream"),
        (b"a.tar.gz", b"\x1f\x8b\0", "application/gzip"),
        (b"data:,x", b"\0", "application/octet-stream"),
        (b"a\xff.png", b"\0", "image/png"),
    ],
)
async def test_a_file_says_what_it_is_and_may_do_nothing(name: bytes, data: bytes, media_type: str) -> None:
    async with visited() as (services, visitor):
        path = await add_file(services, name, data)
        response, _ = await visitor.ask(f"raw/{path}/{quoted(name)}")
        assert response.headers["Content-Type"] == media_type
        assert response.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'; ")
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_download_gets_a_harmless_name(name: bytes) -> None:
    async with visited() as (services, visitor):
        path = await add_file(services, name, b"text")
        response, _ = await visitor.ask(f"raw/{path}/{quoted(name)}?download")
        kind, plain, encoded = response.headers["Content-Disposition"].split("; ")
        assert (kind, plain[:10], encoded[:17]) == ("attachment", 'filename="', "filename*=UTF-8''")
        assert not set(plain[10:-1]) & set("\"\\/<>%;'\r\n ")
        assert unquote_to_bytes(encoded[17:]).decode().isprintable()
        assert (await visitor.ask(f"raw/{path}/{quoted(name)}"))[0].headers["Content-Disposition"][:7] == "inline;"


async def test_a_damaged_small_file_is_an_error() -> None:
    blobs = MemoryBlobService()
    async with visited(memory_services(blobs)) as (services, visitor):
        node = await file(services, b"text")
        path = (await add_path(services, "path", node)).store_path
        blobs.contents[node.digest.raw] = b"tex?"
        assert (await visitor.ask(f"raw/{path}/"))[0].status == 500


async def test_a_damaged_large_file_breaks_the_connection() -> None:
    blobs = MemoryBlobService()
    async with visited(memory_services(blobs)) as (services, visitor):
        node = await file(services, contents(20 * MIB))
        path = (await add_path(services, "path", node)).store_path
        blobs.contents[node.digest.raw] = contents(20 * MIB - 1) + b"?"
        with pytest.raises((ClientPayloadError, ConnectionError)):
            await visitor.ask(f"raw/{path}/")


async def test_a_file_that_is_longer_than_its_directory_says_breaks_the_connection() -> None:
    async with visited() as (services, visitor):
        node = await file(services, contents(MIB))
        path = (await add_path(services, "path", node)).store_path
        (known,) = await services.path_infos.get_many([path.digest])
        assert known is not None
        await services.path_infos.put(
            type(known).of(known, FileNode(node.digest, MIB - 1))  # as nobody checks who put it
        )
        with pytest.raises((ClientPayloadError, ConnectionError)):
            await visitor.ask(f"raw/{path}/")
