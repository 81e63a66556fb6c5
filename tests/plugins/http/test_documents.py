"""Logs, realisations, debug information and listings that clients put."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.http.pushing import compress, file_nar, narinfo_for, opened_site, pushing

pytestmark = pytest.mark.anyio

DIGEST = "0" * 32
KEYS = [
    f"log/{DIGEST}-hello-2.12.drv",
    f"realisations/sha256:{'a' * 64}!out.doi",
    f"build-trace-v2/{DIGEST}-hello.drv/out.doi",
    f"debuginfo/{'0f' * 20}",
    f"debuginfo/{'0f' * 20}.debug",
    f"{DIGEST}.ls",
]


@pytest.mark.parametrize("key", KEYS)
async def test_what_was_put_is_there_also_after_a_restart(tmp_path: Path, key: str) -> None:
    body = b'{"archive": "../nar/x"}'
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.get(key))[0] == 404
        assert (await pusher.request("HEAD", key))[0] == 404
        assert await pusher.put(key, b"{}") == (201, "")
        assert await pusher.put(key, body) == (201, "")
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert await pusher.get(key) == (200, body.decode())
        async with pusher.session.head(f"{pusher.url}/{key}") as response:
            assert response.status == 200
            assert response.content_length == len(body)
            assert response.content_type == ("text/plain" if key.startswith("log/") else "application/json")


async def test_a_compressed_log_comes_back_as_it_was(tmp_path: Path) -> None:
    log = b"building\n" * 100_000
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        body = await compress(log, "br")
        assert await pusher.put(KEYS[0], body, headers={"Content-Encoding": "br"}) == (201, "")
        assert await pusher.get(KEYS[0]) == (200, log.decode())


async def test_a_log_may_be_anything(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.put(KEYS[0], bytes(range(256))))[0] == 201
        async with pusher.session.get(f"{pusher.url}/{KEYS[0]}") as response:
            assert await response.read() == bytes(range(256))


@pytest.mark.parametrize("key", KEYS[1:])
@pytest.mark.parametrize("body", [b"", b"[]", b"hello", b"\xff"])
async def test_json_has_to_be_an_object(tmp_path: Path, key: str, body: bytes) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        status, text = await pusher.put(key, body)
        assert (status, text.count("\n")) == (400, 1)
        assert (await pusher.get(key))[0] == 404


@pytest.mark.parametrize("body", [b"[" * 500_000, b'{"a":' * 100_000])
async def test_deep_json_is_refused(tmp_path: Path, body: bytes) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.put(KEYS[1], body))[0] == 400


async def test_documents_that_are_too_long_are_refused(tmp_path: Path) -> None:
    async with opened_site(tmp_path, max_document_bytes=1000) as site, pushing(site) as pusher:
        assert (await pusher.put(KEYS[0], bytes(1001)))[0] == 413
        body = await compress(bytes(1001), "zstd")
        assert (await pusher.put(KEYS[0], body, headers={"Content-Encoding": "zstd"}))[0] == 413
        assert (await pusher.put(KEYS[0], bytes(1000)))[0] == 201


@pytest.mark.parametrize(
    "path",
    [
        "log/../state",
        "log/%2e%2e/%2e%2e/etc/passwd",
        "log/..%2f..%2fetc%2fpasswd",
        f"log/{DIGEST}-a%2fb",
        f"log/{DIGEST}-a%00",
        f"log/{DIGEST}-a%0a",
        f"log/{DIGEST}-" + "x" * 1000,
        "log/x",
        "realisations/sha256:xyz!out.doi",
        f"realisations/sha256:{'a' * 64}!..%2fout.doi",
        f"build-trace-v2/{DIGEST}-x.drv/a/b.doi",
        "debuginfo/../x",
        f"debuginfo/{'0F' * 20}",
    ],
)
async def test_other_names_are_refused(tmp_path: Path, path: str) -> None:
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        assert (await pusher.put(path, b"{}"))[0] in (400, 404, 405)
        assert (await pusher.get(path))[0] == 404


async def test_a_listing_gives_way_to_what_follows_from_the_contents(tmp_path: Path) -> None:
    nar = file_nar(b"content")
    narinfo = narinfo_for(nar)
    key = f"{narinfo.metadata.store_path.hash_part}.ls"
    async with opened_site(tmp_path) as site, pushing(site) as pusher:
        await pusher.put(key, b'{"version": 0}')
        assert await pusher.get(key) == (200, '{"version": 0}')
        await pusher.push(nar, narinfo)
        status, text = await pusher.get(key)
        assert (status, '"size"' in text) == (200, True)
