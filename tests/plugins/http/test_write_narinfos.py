"""PUT of narinfos, which makes paths visible."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from plugins.grpc.loopback import memory_services
from plugins.http.pushing import (
    Pusher,
    altered,
    compress,
    file_nar,
    narinfo_for,
    opened_site,
    path_of,
    pushing,
    url_of,
)
from tvix_store.content_address import ContentAddress
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.narinfo import NarInfo
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.path_info import PathInfo, PathMetadata, Signature
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath, store_path_for_ca
from tvix_store.wire import encode_node
from tvix_store_http.site import Site

pytestmark = pytest.mark.anyio

NAR = file_nar(b"some content")
OTHER_NAR = file_nar(b"other content")
KEY = SecretKey.generate("key-1")
OTHER_KEY = SecretKey.generate("key-2")


async def stored(site: Site, narinfo: NarInfo) -> PathInfo | None:
    return await site.services.path_infos.get(narinfo.metadata.store_path.digest)


async def refusal(pusher: Pusher, narinfo: NarInfo, path: str | None = None) -> tuple[int, str]:
    """Status and message of a narinfo that is refused; the message is one line."""
    status, text = await pusher.put(path or path_of(narinfo), narinfo.render())
    assert 400 <= status < 500
    assert text.count("\n") == 1
    return status, text


async def test_a_narinfo_makes_its_path_visible_and_all_of_it_is_kept(tmp_path: Path) -> None:
    reference = StorePath(bytes(20), "somewhere-else")
    narinfo = altered(narinfo_for(NAR), references=(reference,), deriver=StorePath(bytes(20), "x"))
    narinfo = altered(narinfo, signatures=(KEY.sign(narinfo.metadata),))
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.get(path_of(narinfo)))[0] == 404
        await pusher.push(NAR, narinfo)
        path_info = await stored(site, narinfo)
        assert path_info is not None
        assert path_info == PathInfo.of(narinfo.metadata, path_info.node)
        status, text = await pusher.get(path_of(narinfo))
        assert status == 200
        assert NarInfo.parse(text.encode()).metadata == narinfo.metadata


async def test_all_nars_first_and_all_narinfos_after_a_restart(tmp_path: Path) -> None:
    """As Nix does since 2.35."""
    services = memory_services()
    nars = [file_nar(b"%d" % number) for number in range(2000)]
    narinfos = [narinfo_for(nar, f"n{number}") for number, nar in enumerate(nars)]
    async with opened_site(tmp_path, services) as site, pushing(site) as pusher:
        slots = asyncio.Semaphore(25)

        async def put(path: str, data: bytes) -> int:
            async with slots:
                return (await pusher.put(path, data))[0]

        puts = (put(narinfo.url, nar) for narinfo, nar in zip(narinfos, nars, strict=True))
        assert set(await asyncio.gather(*puts)) == {201}
    async with opened_site(tmp_path, services) as site, pushing(site) as pusher:
        slots = asyncio.Semaphore(25)
        statuses = await asyncio.gather(*(put(path_of(narinfo), narinfo.render()) for narinfo in narinfos))
        assert set(statuses) == {200}
        assert len([path_info async for path_info in services.path_infos.list()]) == 2000


async def test_without_its_nar_a_narinfo_is_refused(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert "was not uploaded" in (await refusal(pusher, narinfo))[1]
        assert await stored(site, narinfo) is None


async def test_contents_that_have_gone_have_to_be_sent_again(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(narinfo.url, NAR)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:  # the state is there, the services are new
        assert "has gone since" in (await refusal(pusher, narinfo))[1]
        assert (await pusher.request("HEAD", narinfo.url))[0] == 404
        await pusher.push(NAR, narinfo)


async def test_head_of_a_file_whose_contents_have_gone(tmp_path: Path) -> None:
    file = await compress(NAR, "xz")
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(url_of(file, "xz"), file)
        assert (await pusher.request("HEAD", url_of(file, "xz")))[0] == 200
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.request("HEAD", url_of(file, "xz")))[0] == 404


async def test_the_place_has_to_be_that_of_the_path(tmp_path: Path) -> None:
    narinfo, other = narinfo_for(NAR), narinfo_for(NAR, "other")
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(narinfo.url, NAR)
        assert "place of another path" in (await refusal(pusher, narinfo, path_of(other)))[1]
        assert await stored(site, narinfo) is await stored(site, other) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nar_size": len(NAR) + 1}, f"NarSize {len(NAR) + 1}, but the NAR has {len(NAR)} bytes"),
        ({"nar_sha256": bytes(32)}, "NarHash is not that of"),
        ({"ca": ContentAddress.parse(f"fixed:r:sha256:{'0' * 52}")}, "does not follow from CA"),
    ],
)
async def test_what_is_said_of_the_contents_has_to_be_true(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    narinfo = altered(narinfo_for(NAR), **fields)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(narinfo.url, NAR)
        assert message in (await refusal(pusher, narinfo))[1]
        assert await stored(site, narinfo) is None


async def test_what_is_said_of_the_file_has_to_be_true(tmp_path: Path) -> None:
    file = await compress(NAR, "xz")
    narinfo = narinfo_for(NAR, file=file, compression="xz")
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(narinfo.url, file)
        assert "FileSize" in (await refusal(pusher, replace(narinfo, file_size=1)))[1]
        wrong = NixHash(HashAlgorithm.SHA256, bytes(32))
        assert "FileHash" in (await refusal(pusher, replace(narinfo, file_hash=wrong)))[1]
        assert await pusher.put(path_of(narinfo), replace(narinfo, file_size=None, file_hash=None).render()) == (
            200,
            "",
        )


@pytest.mark.parametrize("is_right", [True, False])
async def test_contents_have_to_have_the_content_address(tmp_path: Path, is_right: bool) -> None:
    ca = ContentAddress.parse(
        str(NixHash.of(HashAlgorithm.SHA1, b"some content" if is_right else b"")).join(["fixed:", ""])
    )
    narinfo = altered(narinfo_for(NAR), ca=ca, store_path=store_path_for_ca("x", ca))
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(narinfo.url, NAR)
        if is_right:
            assert await pusher.put(path_of(narinfo), narinfo.render()) == (200, "")
        else:
            assert "content address" in (await refusal(pusher, narinfo))[1]


@pytest.mark.parametrize("body", [b"", b"hello\n", b"\xff", b"StorePath: /nix/store/x\n"])
async def test_what_is_no_narinfo_is_refused(tmp_path: Path, body: bytes) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        status, text = await pusher.put(path_of(narinfo_for(NAR)), body)
        assert (status, text.count("\n")) == (400, 1)


async def test_a_narinfo_of_another_store_directory_is_refused(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    async with opened_site(tmp_path, store_dir="/other") as site, pushing(site) as pusher:
        await pusher.put(narinfo.url, NAR)
        assert "/other" in (await refusal(pusher, narinfo))[1]
        assert (await pusher.put(path_of(narinfo), narinfo.render("/other")))[0] == 200


async def test_a_narinfo_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.put(path_of(narinfo_for(NAR)), BytesIO(bytes(2 * 1024 * 1024 + 1))))[0] == 413


async def test_a_compressed_narinfo_is_taken(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(narinfo.url, NAR)
        body = await compress(narinfo.render(), "zstd")
        assert await pusher.put(path_of(narinfo), body, headers={"Content-Encoding": "zstd"}) == (200, "")


# --- paths that are there already -----------------------------------------------------------------------------------


def signed(narinfo: NarInfo, *keys: SecretKey) -> NarInfo:
    return altered(narinfo, signatures=tuple(key.sign(narinfo.metadata) for key in keys))


async def test_signatures_are_added_and_none_is_lost(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.push(NAR, signed(narinfo, KEY))
        for keys in ([OTHER_KEY], [], [KEY, OTHER_KEY]):
            again = signed(narinfo, *keys)
            assert await pusher.put(path_of(again), again.render()) == (200, "")
        path_info = await stored(site, narinfo)
        assert path_info is not None
        assert [signature.name for signature in path_info.signatures] == ["key-1", "key-2"]


async def test_those_who_sign_at_once_do_not_lose_each_others_signatures(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    keys = [SecretKey.generate(f"key-{number}") for number in range(10)]
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.push(NAR, narinfo)
        bodies = [signed(narinfo, key).render() for key in keys]
        await asyncio.gather(*(pusher.put(path_of(narinfo), body) for body in bodies))
        path_info = await stored(site, narinfo)
        assert path_info is not None
        assert {signature.name for signature in path_info.signatures} == {key.name for key in keys}


async def test_a_signature_is_seen_at_once(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    async with opened_site(tmp_path, narinfo_cache_s=1000) as site, pushing(site) as pusher:
        await pusher.push(NAR, narinfo)
        await pusher.get(path_of(narinfo))
        await pusher.put(path_of(narinfo), signed(narinfo, KEY).render())
        assert "Sig: key-1:" in (await pusher.get(path_of(narinfo)))[1]


@pytest.mark.parametrize("nar_url", ["nar-hash", "snix-castore", "tvix-castore"])
async def test_what_was_read_can_be_put_again_with_a_signature(tmp_path: Path, nar_url: str) -> None:
    """As ``nix store sign`` does, long after the NAR was uploaded, or if it never was."""
    narinfo = narinfo_for(NAR)
    services = memory_services()
    async with opened_site(tmp_path, services) as site, pushing(site) as pusher:
        await pusher.push(NAR, narinfo)
    (tmp_path / "http.sqlite").unlink()
    async with opened_site(tmp_path, services, nar_url=nar_url) as site, pushing(site) as pusher:
        read = NarInfo.parse((await pusher.get(path_of(narinfo)))[1].encode())
        assert await pusher.put(path_of(narinfo), signed(read, KEY).render()) == (200, "")
        path_info = await stored(site, narinfo)
        assert path_info is not None
        assert len(path_info.signatures) == 1


async def test_the_node_in_a_url_names_the_contents_of_a_new_path(tmp_path: Path) -> None:
    services = memory_services()
    async with opened_site(tmp_path, services) as site, pushing(site) as pusher:
        await pusher.push(NAR, narinfo_for(NAR))
        path_info = await stored(site, narinfo_for(NAR))
    assert path_info is not None
    await services.path_infos.delete([path_info.store_path.digest])
    (tmp_path / "http.sqlite").unlink()
    node = base64.urlsafe_b64encode(encode_node(path_info.node)).rstrip(b"=").decode()
    narinfo = replace(narinfo_for(NAR, "new"), url=f"nar/snix-castore/{node}?narsize={len(NAR)}")
    async with opened_site(tmp_path, services) as site, pushing(site) as pusher:
        wrong = altered(narinfo, nar_sha256=bytes(32))
        assert "NarHash of what URL names" in (await refusal(pusher, wrong))[1]
        assert await pusher.put(path_of(narinfo), narinfo.render()) == (200, "")


async def test_the_contents_of_another_path_need_not_be_sent(tmp_path: Path) -> None:
    services = memory_services()
    async with opened_site(tmp_path, services) as site, pushing(site) as pusher:
        await pusher.push(NAR, narinfo_for(NAR))
    (tmp_path / "http.sqlite").unlink()
    async with opened_site(tmp_path, services) as site, pushing(site) as pusher:
        narinfo = narinfo_for(NAR, "new")
        assert (await pusher.request("HEAD", narinfo.url))[0] == 200
        assert await pusher.put(path_of(narinfo), narinfo.render()) == (200, "")


async def test_other_contents_do_not_replace_signed_ones_unless_signed_by_the_same(tmp_path: Path) -> None:
    narinfo, other = narinfo_for(NAR), narinfo_for(OTHER_NAR)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.push(NAR, signed(narinfo, KEY))
        await pusher.put(other.url, OTHER_NAR)
        for keys in ([], [OTHER_KEY]):
            status, text = await refusal(pusher, signed(other, *keys))
            assert status == 409
            assert "key-1" in text
        await pusher.push(OTHER_NAR, signed(other, KEY, OTHER_KEY))
        path_info = await stored(site, narinfo)
        assert path_info is not None
        assert path_info.nar_sha256 == other.metadata.nar_sha256
        assert path_info.signatures == signed(other, KEY, OTHER_KEY).metadata.signatures


async def test_the_order_of_references_stays_as_it_may_have_been_signed(tmp_path: Path) -> None:
    references = StorePath(bytes([2] * 20), "b"), StorePath(bytes([1] * 20), "a")
    narinfo = altered(narinfo_for(NAR), references=references)
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.push(NAR, signed(narinfo, KEY))
        again = signed(altered(narinfo, references=references[::-1]), OTHER_KEY)
        await pusher.put(path_of(again), again.render())
        path_info = await stored(site, narinfo)
        assert path_info is not None
        assert path_info.references == references
        assert len(path_info.signatures) == 2


# --- required signatures --------------------------------------------------------------------------------------------


def bad_signature(metadata: PathMetadata) -> Signature:
    return Signature(KEY.name, bytes(64))


async def test_required_signatures(tmp_path: Path) -> None:
    narinfo = narinfo_for(NAR)
    async with (
        opened_site(tmp_path, require_signatures=True, public_keys=(KEY.public,)) as site,
        pushing(site) as pusher,
    ):
        await pusher.put(narinfo.url, NAR)
        for wrong, message in (
            (narinfo, "has no signature"),
            (signed(narinfo, OTHER_KEY), "not trusted"),
            (altered(narinfo, signatures=(bad_signature(narinfo.metadata),)), "is wrong"),
        ):
            status, text = await refusal(pusher, wrong)
            assert (status, message in text) == (403, True)
            assert await stored(site, narinfo) is None
        assert await pusher.put(path_of(narinfo), signed(narinfo, OTHER_KEY, KEY).render()) == (200, "")
        assert await pusher.put(path_of(narinfo), narinfo.render()) == (200, "")  # the one that is there counts


async def test_content_addressed_paths_need_no_signature(tmp_path: Path) -> None:
    ca = ContentAddress.parse(f"fixed:r:sha256:{nixbase32(narinfo_for(NAR).metadata.nar_sha256)}")
    narinfo = altered(narinfo_for(NAR), ca=ca, store_path=store_path_for_ca("x", ca))
    async with opened_site(tmp_path, require_signatures=True) as site, pushing(site) as pusher:
        await pusher.push(NAR, narinfo)
        assert await stored(site, narinfo) is not None


# --- nix-cache-info -------------------------------------------------------------------------------------------------


async def test_nix_cache_info_is_taken_if_it_agrees(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        before = await pusher.get("nix-cache-info")
        assert await pusher.put("nix-cache-info", b"StoreDir: /nix/store\n") == (200, "")
        assert (await pusher.put("nix-cache-info", b"StoreDir: /other\n"))[0] == 409
        assert await pusher.get("nix-cache-info") == before
