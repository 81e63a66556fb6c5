"""What clients are answered that read."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
import zstandard

from plugins.http.reading import Upstream, memory_services, nar_url, put_tree, reading, store_path
from tvix_store.content_address import ContentAddress
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.narinfo import NarInfo
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.path_info import PathInfo, PathMetadata, Signature
from tvix_store.testing.fixtures import contents
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.path_info import MemoryPathInfoService
from vectors.nar import Dir, File, Link, encode

pytestmark = pytest.mark.anyio

TREE = Dir({b"data": File(contents(2_000_000)), b"link": Link(b"data"), b"run": File(b"#!/bin/sh\n", True)})


def hash_part(path_info: PathMetadata) -> str:
    return path_info.store_path.hash_part


class Failing(MemoryPathInfoService):
    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        raise Unavailable("the disk is asleep")


class Corrupt(MemoryPathInfoService):
    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        raise CorruptObject("the disk is on fire")


# --- nix-cache-info and narinfos ---


async def test_the_cache_says_what_it_is() -> None:
    async with reading(memory_services(), priority=50, want_mass_query=False, store_dir="/gnu/store") as client:
        answer = await client.get("nix-cache-info")
        assert (await client.head("nix-cache-info")).headers["Content-Length"] == str(len(answer.body))
    assert answer.body == b"StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: 50\n"
    assert answer.headers["Content-Type"] == "text/x-nix-cache-info"


async def test_a_narinfo_says_all_that_is_known() -> None:
    services = memory_services()
    leaf = await put_tree(services, "leaf", File(b"x"))
    path_info = await put_tree(services, "x", TREE, [leaf], deriver=store_path("d"))
    ca = ContentAddress.parse(f"fixed:r:sha256:{nixbase32(path_info.nar_sha256)}")
    signed = replace(path_info, ca=ca, signatures=(Signature("a", bytes(64)), Signature("b", bytes(64))))
    await services.path_infos.put(signed)
    async with reading(services) as client:
        answer = await client.get(f"{hash_part(path_info)}.narinfo")
    narinfo = NarInfo.parse(answer.body)
    assert PathInfo.of(narinfo.metadata, path_info.node) == signed
    assert narinfo.url == f"{nar_url(path_info)}?hash={hash_part(path_info)}"
    assert (narinfo.compression, narinfo.file_size) == ("none", path_info.nar_size)
    assert narinfo.file_hash == NixHash(HashAlgorithm.SHA256, path_info.nar_sha256)
    assert answer.headers["Content-Type"] == "text/x-nix-narinfo"


async def test_head_of_a_narinfo_is_get_without_its_body() -> None:
    services = memory_services()
    path = f"{hash_part(await put_tree(services, 'x', TREE))}.narinfo"
    async with reading(services) as client:
        got, head = await client.get(path), await client.head(path)
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(got.body))
    assert head.headers["Cache-Control"] == got.headers["Cache-Control"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["0" * 32 + ".narinfo", "0" * 32 + ".ls", "nar/" + "0" * 52 + ".nar", "nar/x", "x"])
async def test_absence_is_404_and_nobody_is_to_remember_it(method: str, path: str) -> None:
    async with reading(memory_services()) as client:
        answer = await client.request(method, path)
    assert answer.status == 404
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(answer.body) < 80


@pytest.mark.parametrize(("service", "status"), [(Failing, 503), (Corrupt, 500)])
async def test_failure_is_not_absence(service: type[MemoryPathInfoService], status: int) -> None:
    async with reading(memory_services(path_infos=service())) as client:
        answer = await client.get("0" * 32 + ".narinfo")
    assert answer.status == status
    assert answer.body.startswith(b"the disk is")
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_a_narinfo_from_memory_is_the_same() -> None:
    services = memory_services()
    path = f"{hash_part(await put_tree(services, 'x', TREE))}.narinfo"
    async with reading(services, narinfo_cache_s=100.0) as client:
        first, second = await client.get(path), await client.get(path)
    assert first.body == second.body
    assert "Server" not in second.headers, "it does not come from memory"
    names = ("Content-Type", "Content-Length", "Cache-Control")
    assert [first.headers[name] for name in names] == [second.headers[name] for name in names]


async def test_a_path_without_contents_has_no_node_in_its_url() -> None:
    upstream = Upstream()
    metadata = upstream.add("x", encode(TREE))
    async with reading(memory_services(path_infos=upstream), nar_url="snix-castore") as client:
        narinfo = NarInfo.parse((await client.get(f"{hash_part(metadata)}.narinfo")).body)
    assert narinfo.url == f"{nar_url(metadata)}?hash={hash_part(metadata)}"
    assert not upstream.opened


# --- NARs ---


@pytest.mark.parametrize("by_path", [True, False], ids=["of a path", "by its hash alone"])
async def test_a_nar_by_its_hash(by_path: bool) -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    url = nar_url(path_info) + (f"?hash={hash_part(path_info)}" if by_path else "")
    async with reading(services) as client:
        answer, head = await client.get(url), await client.head(url)
    assert answer.body == encode(TREE)
    assert answer.headers["ETag"] == head.headers["ETag"] == f'"{nixbase32(path_info.nar_sha256)}"'
    assert answer.headers["Accept-Ranges"] == head.headers["Accept-Ranges"] == "bytes"
    assert head.headers["Content-Length"] == str(path_info.nar_size)
    assert "immutable" in answer.headers["Cache-Control"]
    assert "Content-Encoding" not in answer.headers


async def test_the_hash_counts_and_not_the_path_beside_it() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    other = await put_tree(services, "y", File(b"y"))
    async with reading(services) as client:
        answer = await client.get(f"{nar_url(path_info)}?hash={hash_part(other)}")
        nothing = await client.get(f"{nar_url(path_info)}?hash=nonsense")
    assert answer.body == encode(TREE)
    assert nothing.status == 404


async def test_a_deleted_path_has_no_nar() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services) as client:
        await client.get(f"{hash_part(path_info)}.narinfo")
        await services.path_infos.delete([path_info.store_path.digest])
        assert (await client.get(nar_url(path_info))).status == 404


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("100-1999", 100, 1999), ("2000000-", 2_000_000, None), ("-7", -7, None), ("5-9,20-30", 5, 9)],
)
async def test_a_range_is_a_slice(asked: str, first: int, last: int | None) -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    whole = encode(TREE)
    expected = whole[first:] if last is None else whole[first : last + 1]
    start = first % len(whole)
    async with reading(services) as client:
        answer = await client.get(nar_url(path_info), Range=f"bytes={asked}")
    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{len(whole)}"
    assert answer.headers["Content-Length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
async def test_a_range_past_the_end(asked: str) -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services) as client:
        answer = await client.get(nar_url(path_info), Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{path_info.nar_size}")


@pytest.mark.parametrize("asked", ["bytes=9-5", "lines=1-2", "bytes=a-b", "bytes=-", "", f"bytes={'9' * 5000}-"])
async def test_a_range_that_makes_no_sense_is_ignored(asked: str) -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services) as client:
        answer = await client.get(nar_url(path_info), Range=asked)
    assert (answer.status, answer.body) == (200, encode(TREE))


async def test_conditions_are_about_the_entity_tag() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    url, tag = nar_url(path_info), f'"{nixbase32(path_info.nar_sha256)}"'
    async with reading(services) as client:
        assert (await client.get(url, If_None_Match=f'"other", W/{tag}')).status == 304
        assert (await client.get(url, Range="bytes=0-1", If_Range=tag)).status == 206
        assert (await client.get(url, Range="bytes=0-1", If_Range='"other"')).status == 200
        assert (await client.get(url, Range="bytes=0-1", If_Range="Sun, 22 Nov 2026 00:00:00 GMT")).status == 200


@pytest.mark.parametrize("package", ["snix-castore", "tvix-castore"])
async def test_a_nar_by_its_node(package: Any) -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services, nar_url=package) as client:
        url = NarInfo.parse((await client.get(f"{hash_part(path_info)}.narinfo")).body).url
        assert url.startswith(f"nar/{package}/")
        answer, head = await client.get(url), await client.head(url)
        part = await client.get(url, Range="bytes=100-199")
    assert answer.body == encode(TREE)
    assert head.headers["Content-Length"] == str(path_info.nar_size)
    assert part.body == encode(TREE)[100:200]


async def test_nodes_are_not_served_where_that_is_not_wanted() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services, nar_url="snix-castore") as client:
        url = NarInfo.parse((await client.get(f"{hash_part(path_info)}.narinfo")).body).url
    async with reading(services, castore_nars=False) as client:
        assert (await client.get(url)).status == 404


async def test_the_size_that_a_client_states_is_checked() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services, nar_url="snix-castore") as client:
        url = NarInfo.parse((await client.get(f"{hash_part(path_info)}.narinfo")).body).url.partition("?")[0]
        for query in (
            "",
            "?narsize=",
            "?narsize=1",
            f"?narsize={path_info.nar_size + 1}",
            "?narsize=-1",
            "?narsize=1x",
        ):
            assert (await client.get(url + query)).status == 400, query
            assert (await client.head(url + query)).status == 400, query


async def test_a_listing_has_the_offsets_of_the_nar() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services) as client:
        answer = await client.get(f"{hash_part(path_info)}.ls")
        entry = json.loads(answer.body)["root"]["entries"]["run"]
        first, last = entry["narOffset"], entry["narOffset"] + entry["size"] - 1
        part = await client.get(nar_url(path_info), Range=f"bytes={first}-{last}")
    assert part.body == b"#!/bin/sh\n"
    assert answer.headers["Content-Type"] == "application/json"


async def test_health() -> None:
    async with reading(memory_services()) as client:
        assert (await client.get("health")).status == 200


# --- nothing is sent that is not whole ---


async def test_a_missing_blob_is_known_before_the_first_byte() -> None:
    blobs = MemoryBlobService()
    services = memory_services(blobs=blobs)
    path_info = await put_tree(services, "x", TREE)
    await blobs.delete([B3Digest.of(b"#!/bin/sh\n")])
    async with reading(services) as client:
        assert (await client.get(nar_url(path_info))).status == 500
        assert (await client.get(nar_url(path_info), Range="bytes=0-1")).status == 206, "it is not needed for that"


async def test_a_missing_blob_of_a_node_is_absence() -> None:
    blobs = MemoryBlobService()
    services = memory_services(blobs=blobs)
    path_info = await put_tree(services, "x", TREE)
    async with reading(services, nar_url="snix-castore") as client:
        url = NarInfo.parse((await client.get(f"{hash_part(path_info)}.narinfo")).body).url
        await blobs.delete([B3Digest.of(b"#!/bin/sh\n")])
        assert (await client.get(url)).status == 404


async def test_a_wrong_size_is_known_before_the_first_byte() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    await services.path_infos.put(replace(path_info, nar_size=path_info.nar_size + 8))
    async with reading(services) as client:
        assert (await client.get(nar_url(path_info))).status == 500


async def test_a_dead_upstream_is_known_before_the_first_byte() -> None:
    upstream = Upstream()
    metadata = upstream.add("x", encode(TREE))
    upstream.fail, upstream.fail_after = Unavailable("cache.example: refused"), 0
    async with reading(memory_services(path_infos=upstream)) as client:
        answer = await client.get(f"{nar_url(metadata)}?hash={hash_part(metadata)}")
    assert (answer.status, answer.body) == (503, b"cache.example: refused\n")


@pytest.mark.parametrize("encodings", [(), ("zstd",)], ids=["plain", "encoded"])
async def test_a_late_failure_breaks_the_connection(encodings: tuple[str, ...]) -> None:
    upstream = Upstream()
    metadata = upstream.add("x", encode(TREE))
    upstream.fail, upstream.fail_after = CorruptObject("not what was announced"), 1_999_000
    async with reading(memory_services(path_infos=upstream), encodings=encodings) as client:
        host, port = client.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        request = f"GET /{nar_url(metadata)}?hash={hash_part(metadata)} HTTP/1.1\r\n"
        writer.write(f"{request}Host: cache\r\nAccept-Encoding: zstd\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
    assert upstream.closed == upstream.opened == 1


async def test_a_source_that_ends_early_does_not_end_like_a_nar() -> None:
    upstream = Upstream()
    metadata = upstream.add("x", encode(TREE))
    upstream.nars[metadata.store_path.digest] = encode(TREE)[:-8]
    async with reading(memory_services(path_infos=upstream)) as client:
        answer = await client.get(f"{nar_url(metadata)}?hash={hash_part(metadata)}")
    assert answer.status == 500


async def test_a_part_of_what_is_being_fetched() -> None:
    upstream = Upstream()
    metadata = upstream.add("x", encode(TREE))
    async with reading(memory_services(path_infos=upstream)) as client:
        url = f"{nar_url(metadata)}?hash={hash_part(metadata)}"
        for start, end in ((0, 1), (999, 1001), (1000, 2000), (2_000_000, metadata.nar_size)):
            answer = await client.get(url, Range=f"bytes={start}-{end - 1}")
            assert (answer.status, answer.body) == (206, encode(TREE)[start:end])
    assert upstream.closed == upstream.opened == 4


# --- encodings ---


async def test_a_nar_is_compressed_for_who_asks_for_it() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", TREE)
    async with reading(services, encodings=("zstd",)) as client:
        answer = await client.get(nar_url(path_info), Accept_Encoding="gzip, zstd;q=0.5")
        plain = await client.get(nar_url(path_info), Accept_Encoding="gzip")
        part = await client.get(nar_url(path_info), Accept_Encoding="zstd", Range="bytes=8-20")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(answer.body) == encode(TREE)
    assert answer.headers["Content-Encoding"] == "zstd"
    assert not {"Accept-Ranges", "Content-Length"} & set(answer.headers)
    assert answer.headers["ETag"] != plain.headers["ETag"]
    assert (plain.body, part.body) == (encode(TREE), encode(TREE)[8:21])
    assert {item.headers["Vary"] for item in (answer, plain, part)} == {"Accept-Encoding"}
    assert "Content-Encoding" not in part.headers
