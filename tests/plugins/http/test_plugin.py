"""The ``http`` tag in a configuration."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from plugins.http.pushing import Pusher, file_nar, narinfo_for, path_of
from plugins.http.reading import serving_frontend
from tvix_store.composition import Composition
from tvix_store.errors import ConfigError
from tvix_store.registry import Registry
from tvix_store.signing import SecretKey
from tvix_store.store_config import StoreConfig
from tvix_store_http.frontend import HttpFrontend

pytestmark = pytest.mark.anyio

KEY = SecretKey.generate("key-1").public
MEMORY = "".join(f'[{kind}services.root]\ntype = "memory"\n' for kind in ("blob", "directory", "pathinfo"))


@asynccontextmanager
async def composed(*frontends: str) -> AsyncIterator[list[HttpFrontend]]:
    """The frontends with these settings."""
    entries = "".join(f'[frontends.f{i}]\ntype = "http"\n{settings}\n' for i, settings in enumerate(frontends))
    registry = Registry.load()
    config = StoreConfig.parse(tomllib.loads(MEMORY + entries), registry, "store.toml")
    async with Composition(config, registry) as composition:
        built = (await composition.frontends()).values()
        assert all(isinstance(frontend, HttpFrontend) for frontend in built)
        yield [frontend for frontend in built if isinstance(frontend, HttpFrontend)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ('listen = "example.org:80"', r"f0.*listen.*not an IP address"),
        ('nar_url = "x"', r"f0.*nar_url"),
        ('encodings = ["zstd", "lz4"]', r"f0.*encodings"),
        ('public_keys = ["key-1:xxx"]', r"f0.*public_keys.*key-1"),
        ('store_dir = "nix/store/"', r"f0.*store_dir.*absolute path"),
        ("require_signatures = true", r"f0.*require_signatures without public_keys"),
        ('credentials_file = "/nonexistent"', r"f0.*/nonexistent: no such file"),
        ("prioritaet = 1", r"f0.*prioritaet"),
    ],
)
async def test_what_cannot_work_is_refused_by_its_key(settings: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){reason}"):
        async with composed(settings):
            pass


async def test_all_settings_together(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("somebody:secret\n")
    settings = f"""
        listen = "{tmp_path}/socket"
        unix_listen_chmod = "group"
        nar_url = "snix-castore"
        encodings = ["zstd", "gzip"]
        state = "{tmp_path}/state.sqlite"
        credentials_file = "{credentials}"
        require_signatures = true
        public_keys = ["{KEY}"]
    """
    async with composed(settings) as (frontend,), serving_frontend(frontend) as url:
        assert url == f"http+unix:{tmp_path}/socket"
        assert (tmp_path / "state.sqlite").exists()


async def test_frontends_with_one_state_know_of_each_others_uploads(tmp_path: Path) -> None:
    nar = file_nar(b"x")
    narinfo = narinfo_for(nar)
    settings = f'listen = "127.0.0.1:0"\nstate = "{tmp_path}/state.sqlite"'
    async with (
        composed(settings, settings) as (first, second),
        serving_frontend(first) as one,
        serving_frontend(second) as other,
        ClientSession() as session,
    ):
        assert await Pusher(one, session).put(narinfo.url, nar) == (201, "")
        assert await Pusher(other, session).put(path_of(narinfo), narinfo.render()) == (200, "")


async def test_nothing_is_taken_without_a_place_for_the_state() -> None:
    nar = file_nar(b"x")
    async with (
        composed('listen = "127.0.0.1:0"') as (frontend,),
        serving_frontend(frontend) as url,
        ClientSession() as session,
    ):
        status, _ = await Pusher(url, session).put(narinfo_for(nar).url, nar)
    assert status == 405
