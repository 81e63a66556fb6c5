"""The example of a proxy, with a real Nix in front of it and what a real Nix wrote behind it."""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from plugins.http.nix_client import Nix, NixFailed
from plugins.nix.binary_caches import RealCache
from plugins.nix.upstream_server import UpstreamServer, status
from tvix_store.composition import Composition
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[3] / "examples" / "proxy.toml"


def document(real: RealCache, upstream_url: str, folder: Path) -> dict[str, Any]:
    """The example, with its files in ``folder`` and another upstream."""
    text = EXAMPLE.read_text().replace("/var/lib/tvix-store", str(folder)).replace("localhost:9000", "127.0.0.1:0")
    document = tomllib.loads(text)
    document["pathinfoservices"]["upstream"].update(
        base_url=upstream_url, public_keys=[str(real.public_key)], retries=0, negative_ttl_s=0
    )
    return document


@asynccontextmanager
async def proxy(real: RealCache, upstream_url: str, folder: Path) -> AsyncIterator[str]:
    registry = Registry.load()
    config = StoreConfig.parse(document(real, upstream_url, folder), registry, "proxy.toml")
    async with Composition(config, registry) as composition:
        frontend = (await composition.frontends())["http"]
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(frontend.serve(ready.set_result))
        try:
            yield await ready
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def nix(tmp_path: Path) -> Nix:
    return Nix(tmp_path / "client")


def signed_only(real: RealCache, server: UpstreamServer) -> None:
    """No path stands for itself any more."""
    for path in (real.tree, real.referring, real.referred):
        server.files.change_metadata(path, lambda m: replace(m, ca=None, signatures=(real.secret_key.sign(m),)))


async def test_nix_substitutes_through_it(real: RealCache, server: UpstreamServer, nix: Nix, tmp_path: Path) -> None:
    signed_only(real, server)
    keys = ("--option", "trusted-public-keys", str(real.public_key))
    async with proxy(real, server.url, tmp_path) as url:
        for path in (real.tree, real.referring):
            await nix.substitute(url, path.absolute(), *keys)
    assert await nix.run("nix-store", "--dump", nix.read(real.tree.absolute())) == real.nar
    assert nix.read(real.referred.absolute()).exists()
    assert server.nar_requests() == 3


async def test_what_was_asked_for_once_is_there_without_the_upstream(
    real: RealCache, server: UpstreamServer, nix: Nix, tmp_path: Path
) -> None:
    async with proxy(real, server.url, tmp_path) as url, aiohttp.ClientSession() as client:
        narinfo = await _get(client, f"{url}/{real.tree.hash_part}.narinfo")
        nar_url = narinfo.split(b"URL: ")[1].split(b"\n")[0].decode()
        assert await _get(client, f"{url}/{nar_url}") == real.nar
    server.instead.update(dict.fromkeys(server.files, status(500)))
    async with proxy(real, server.url, tmp_path) as url, aiohttp.ClientSession() as client:
        assert await _get(client, f"{url}/{real.tree.hash_part}.narinfo") == narinfo
        assert await _get(client, f"{url}/{nar_url}") == real.nar
    assert server.nar_requests() == 1


async def _get(client: aiohttp.ClientSession, url: str) -> bytes:
    async with client.get(url) as response:
        assert response.status == 200
        return await response.read()


@pytest.mark.parametrize("is_narinfo_right", [True, False])
async def test_nix_gets_nothing_wrong_through_it(
    real: RealCache, server: UpstreamServer, nix: Nix, tmp_path: Path, is_narinfo_right: bool
) -> None:
    if is_narinfo_right:
        server.files.change_nar(real.tree, lambda data: data[:-100] + bytes(100))
    else:
        server.files.change_metadata(real.tree, lambda m: replace(m, ca=None, signatures=()))
    async with proxy(real, server.url, tmp_path) as url:
        with pytest.raises(NixFailed):
            await nix.substitute(url, real.tree.absolute(), "--option", "require-sigs", "false")
    with pytest.raises(NixFailed, match="is not valid"):
        await nix.run("nix-store", "--store", nix.store, "--check-validity", real.tree.absolute())


async def test_a_client_that_goes_away_leaves_nothing_and_the_next_one_gets_it(
    real: RealCache, server: UpstreamServer, tmp_path: Path
) -> None:
    async with proxy(real, server.url, tmp_path) as url, aiohttp.ClientSession() as client:
        narinfo = await _get(client, f"{url}/{real.tree.hash_part}.narinfo")
        nar_url = narinfo.split(b"URL: ")[1].split(b"\n")[0].decode()
        async with client.get(f"{url}/{nar_url}") as response:
            assert response.status == 200
            response.close()
        assert await _get(client, f"{url}/{nar_url}") == real.nar
