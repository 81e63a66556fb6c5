"""PUT of NARs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plugins.http.pushing import compress, file_nar, narinfo_for, opened_site, path_of, pushing, url_of
from tvix_store.compression import SUFFIXES
from tvix_store.nar_render import load_tree
from tvix_store.nixbase32 import encode as nixbase32

pytestmark = pytest.mark.anyio

NAR = file_nar(b"some content " * 1000)


@pytest.mark.parametrize("compression", SUFFIXES)
async def test_every_compression_is_taken(tmp_path: Path, compression: str) -> None:
    file = await compress(NAR, compression)
    narinfo = narinfo_for(NAR, file=file, compression=compression)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.request("HEAD", narinfo.url))[0] == 404
        assert await pusher.put(narinfo.url, file) == (201, "")
        assert (await pusher.request("HEAD", narinfo.url))[0] == 200
        assert await pusher.put(path_of(narinfo), narinfo.render()) == (200, "")
        path_info = await site.services.path_infos.get(narinfo.metadata.store_path.digest)
        assert path_info is not None
        assert (await load_tree(path_info.node, site.services.directories)).nar_size() == len(NAR)


async def test_the_magic_number_counts_and_not_the_suffix(tmp_path: Path) -> None:
    file = await compress(NAR, "zstd")
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert await pusher.put(url_of(file, "xz"), file) == (201, "")
        assert await pusher.put(url_of(file, "none"), file) == (201, "")


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_a_body_that_is_not_what_its_name_says_is_refused(tmp_path: Path, compression: str) -> None:
    file = await compress(NAR, compression)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        status, text = await pusher.put(url_of(b"another"), file)
        assert status == 400
        assert nixbase32(hashlib.sha256(file).digest()) in text
        assert (await pusher.request("HEAD", url_of(b"another")))[0] == 404
        assert (await pusher.request("HEAD", url_of(file)))[0] == 404


@pytest.mark.parametrize("compression", SUFFIXES)
@pytest.mark.parametrize("damage", ["truncated", "trailing", "nothing", "changed"])
async def test_malformed_nars_are_the_fault_of_the_client(tmp_path: Path, compression: str, damage: str) -> None:
    nar = {"truncated": NAR[:-8], "trailing": NAR + bytes(8), "nothing": b"", "changed": NAR[:-1] + b"x"}[damage]
    file = await compress(nar, compression)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        status, text = await pusher.put(url_of(file, compression), file)
        assert status == 400
        assert text.count("\n") == 1
        assert (await pusher.request("HEAD", url_of(file, compression)))[0] == 404


@pytest.mark.parametrize("compression", SUFFIXES)
async def test_what_follows_the_compressed_data_is_refused(tmp_path: Path, compression: str) -> None:
    file = await compress(NAR, compression) + b"garbage!"
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.put(url_of(file, compression), file))[0] == 400


async def test_what_is_no_nar_is_refused(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        status, text = await pusher.put(url_of(b"hello"), b"hello")
        assert (status, text.count("\n")) == (400, 1)
        assert "xz" in text


@pytest.mark.parametrize("name", ["x.nar", "a" * 52, "e" * 52 + ".nar", "0" * 52 + ".nar.xz.gz", "z" * 52 + ".nar"])
async def test_names_that_are_no_hashes_are_refused(tmp_path: Path, name: str) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.put(f"nar/{name}", NAR))[0] == 400
        assert (await pusher.request("HEAD", f"nar/{name}"))[0] == 404


async def pieces(data: bytes, n_bytes: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), n_bytes):
        yield data[start : start + n_bytes]


async def test_bodies_in_chunks_are_taken(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert await pusher.put(url_of(NAR), pieces(NAR)) == (201, "")


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br", "xz", "identity"])
async def test_content_codings_are_taken_off(tmp_path: Path, coding: str) -> None:
    body = await compress(NAR, "none" if coding == "identity" else coding)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert await pusher.put(url_of(NAR), body, headers={"Content-Encoding": coding}) == (201, "")


async def test_an_unknown_content_coding_is_refused(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.put(url_of(NAR), NAR, headers={"Content-Encoding": "lzma"}))[0] == 415


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_bodies_that_are_too_long_are_refused(tmp_path: Path, in_chunks: bool) -> None:
    async with opened_site(tmp_path, max_nar_bytes=len(NAR) - 1) as site, pushing(site) as pusher:
        assert (await pusher.put(url_of(NAR), pieces(NAR) if in_chunks else NAR))[0] == 413
    async with opened_site(tmp_path, max_nar_bytes=len(NAR)) as site, pushing(site) as pusher:
        assert (await pusher.put(url_of(NAR), pieces(NAR) if in_chunks else NAR))[0] == 201


@pytest.mark.parametrize("compression", ["xz", "bzip2", "gzip", "zstd", "br"])
async def test_bombs_are_stopped(tmp_path: Path, compression: str) -> None:
    file = await compress(file_nar(bytes(20_000_000)), compression)
    async with opened_site(tmp_path, max_nar_bytes=10_000_000) as site, pushing(site) as pusher:
        assert (await pusher.put(url_of(file, compression), file))[0] == 413


async def test_a_client_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    async with opened_site(tmp_path, upload_idle_s=0.05) as site, pushing(site) as pusher:
        reader, writer = await asyncio.open_connection(*pusher.url.removeprefix("http://").split(":"))
        writer.write(f"PUT /{url_of(NAR)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(NAR)}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 408 Request Timeout\r\n"
        writer.close()


async def test_a_client_that_expects_to_be_asked_is_asked_at_once(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        reader, writer = await asyncio.open_connection(*pusher.url.removeprefix("http://").split(":"))
        head = f"PUT /{url_of(NAR)} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(NAR)}\r\n\r\n"
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(NAR)
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 201 Created\r\n"
        writer.close()


async def test_a_client_that_may_not_upload_is_not_asked_for_the_body(tmp_path: Path) -> None:
    async with opened_site(tmp_path, is_local=False) as site, pushing(site) as pusher:
        reader, writer = await asyncio.open_connection(*pusher.url.removeprefix("http://").split(":"))
        head = f"PUT /{url_of(NAR)} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(NAR)}\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 403 Forbidden\r\n")  # and then it ends
        writer.close()


async def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        idle = asyncio.all_tasks()
        reader, writer = await asyncio.open_connection(*pusher.url.removeprefix("http://").split(":"))
        head = f"PUT /{url_of(NAR)} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(NAR)}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")  # it has been taken up
        writer.write(NAR[:-1])
        await writer.drain()
        busy = asyncio.all_tasks() - idle
        writer.close()
        await asyncio.wait(busy, timeout=60)
        assert asyncio.all_tasks() == idle
        assert (await pusher.request("HEAD", url_of(NAR)))[0] == 404


async def test_many_uploads_at_once_wait_for_each_other_and_for_nobody_who_has_gone(tmp_path: Path) -> None:
    """All are of unknown length, so that only few are taken at once."""
    nars = [file_nar(b"%d" % number) for number in range(30)]
    async with opened_site(tmp_path, max_uploads=10) as site, pushing(site) as pusher:
        puts = [asyncio.create_task(pusher.put(url_of(nar), pieces(nar))) for nar in nars]
        await asyncio.wait(puts, return_when=asyncio.FIRST_COMPLETED)
        for put in puts[1::2]:
            put.cancel()
        await asyncio.wait(puts)
        assert {put.result() for put in puts[::2]} == {(201, "")}
        assert await pusher.put(url_of(NAR), pieces(NAR)) == (201, "")


@pytest.mark.parametrize("compression", SUFFIXES)
async def test_the_uploaded_file_can_be_had_again(tmp_path: Path, compression: str) -> None:
    """Clients remember for a month that they have put it there."""
    file = await compress(NAR, compression)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(url_of(file, compression), file)
        async with pusher.session.get(f"{pusher.url}/{url_of(file, compression)}") as response:
            assert response.status == 200
            again = await response.read()
        assert await pusher.put(url_of(again, compression), again) == (201, "")
        assert site.state is not None
        first, second = [await site.state.upload(hashlib.sha256(data).digest()) for data in (file, again)]
        assert first is not None
        assert second is not None
        assert (first.ingested, first.compression) == (second.ingested, second.compression)
