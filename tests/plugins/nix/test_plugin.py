"""The ``nix`` tag in a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from plugins.nix.binary_caches import RealCache
from plugins.nix.upstream_server import UpstreamServer
from tvix_store.composition import Composition
from tvix_store.config import Kind, ServiceUrl
from tvix_store.errors import ConfigError
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store_nix.plugin import NixPathInfoServiceConfig

KEY = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
PLUS = "a_key:MKQUM5MUcUCF0hsiWz+AzLk2TGh5QeM09Ax2dndiIu8="


def config(**options: Any) -> NixPathInfoServiceConfig:
    return NixPathInfoServiceConfig.model_validate({"type": "nix", "base_url": "https://host", **options})


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("nix+https://cache.nixos.org", {"base_url": "https://cache.nixos.org"}),
        ("nix+http://[::1]:8080/foo", {"base_url": "http://[::1]:8080/foo"}),
        ("nix+http://me:word@host/", {"base_url": "http://me:word@host/"}),
        ("nix+file:///cache", {"base_url": "file:///cache"}),
        ("nix+https://host?blob_service=b&directory_service=d", {"blob_service": "b", "directory_service": "d"}),
        (f"nix+https://host?trusted-public-keys={KEY}", {"public_keys": [KEY]}),
        (f"nix+https://host?trusted-public-keys={KEY}%20{KEY}", {"public_keys": [KEY, KEY]}),
        (f"nix+https://host?trusted-public-keys={KEY}+{KEY}", {"public_keys": [KEY, KEY]}),
        (f"nix+https://host?trusted-public-keys={KEY}&trusted-public-keys={KEY}", {"public_keys": [KEY, KEY]}),
        (f"nix+https://host?trusted-public-keys={PLUS.replace('+', '%2B')}", {"public_keys": [PLUS]}),
        ("nix+https://host?trusted-public-keys=", {"public_keys": []}),
    ],
)
def test_urls(url: str, options: dict[str, Any]) -> None:
    assert NixPathInfoServiceConfig.from_url(ServiceUrl(url)) == config(**options)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nix://host", "expected nix"),
        ("nix+ftp://host", "expected nix"),
        ("nix+https://", "the host is missing"),
        ("nix+https:///path", "the host is missing"),
        ("nix+file://host/x", "expected file:///absolute/path"),
        ("nix+https://host#x", "a fragment has no meaning"),
        ("nix+https://host?keys=x", "unknown parameter 'keys'"),
        ("nix+https://host?blob_service=a&blob_service=b", "blob_service is given twice"),
        (f"nix+https://host?trusted-public-keys={PLUS}", "in a URL \\+ means a space, write %2B"),
        ("nix+https://host?trusted-public-keys=nonsense", "nonsense"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Registry.load().from_url(Kind.PATH_INFO, url)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"base_url": "cache.nixos.org"}, "begins with none of"),
        ({"base_url": "https://host?priority=1"}, "a query or a fragment"),
        ({"base_url": "https://host:port"}, "is not a URL"),
        ({"base_url": "file:cache"}, "expected file:///absolute/path"),
        ({"public_keys": ["nonsense"]}, "public_keys"),
        ({"public_keys": KEY}, "public_keys"),
        ({"netrc": "/x", "bearer_token": "/y"}, "netrc and bearer_token exclude each other"),
        ({"base_url": "https://me:s3cret@host", "netrc": "/x"}, "netrc and credentials in base_url exclude"),
        ({"base_url": "file:///x", "netrc": "/x"}, "netrc has no meaning for a file"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"retries": -1}, "retries"),
        ({"max_nar_bytes": 0}, "max_nar_bytes"),
        ({"timeout": 1}, "timeout"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        config(**options)


def document(**options: Any) -> dict[str, Any]:
    """A store in memory in front of an upstream."""
    return {
        "blobservices": {"root": {"type": "memory"}},
        "directoryservices": {"root": {"type": "memory"}},
        "pathinfoservices": {
            "root": {"type": "cache", "near": "memory://", "far": "upstream"},
            "upstream": {"type": "nix", **options},
        },
    }


def composed(**options: Any) -> Composition:
    registry = Registry.load()
    return Composition(StoreConfig.parse(document(**options), registry, "test"), registry)


@pytest.mark.anyio
async def test_a_composition_reads_through(real: RealCache, server: UpstreamServer, tmp_path: Path) -> None:
    async with composed(
        base_url=server.url, public_keys=[str(real.public_key)], spool_dir=str(tmp_path)
    ) as composition:
        path_infos = (await composition.services()).path_infos
        stream = await path_infos.open_nar(real.tree.digest)
        assert stream is not None
        assert b"".join([piece async for piece in stream.pieces]) == real.nar
        assert [path_info.store_path async for path_info in path_infos.list()] == [real.tree]
        assert await path_infos.open_nar(real.tree.digest) is None
        assert server.nar_requests() == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"spool_dir": "/nothing/here"}, "spool_dir /nothing/here is no folder"),
        ({"netrc": "/nothing/here"}, "netrc /nothing/here: No such file"),
        ({"bearer_token": "/nothing/here"}, "bearer_token /nothing/here: No such file"),
        ({"ca_file": "/nothing/here"}, "ca_file /nothing/here"),
    ],
)
async def test_what_cannot_work_fails_when_it_is_built(options: dict[str, Any], reason: str) -> None:
    async with composed(base_url="https://host.invalid", **options) as composition:
        with pytest.raises(ConfigError, match=rf"\[pathinfoservices.upstream\]: {reason}"):
            await composition.services()


@pytest.mark.anyio
async def test_building_asks_nobody() -> None:
    async with composed(base_url="https://host.invalid", public_keys=[KEY]) as composition:
        path_infos = (await composition.services()).path_infos
        assert path_infos.capabilities.list
