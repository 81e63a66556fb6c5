"""A cache that a real Nix wrote, once for all tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from plugins.nix.binary_caches import CacheFiles, RealCache
from plugins.nix.upstream_server import Store, UpstreamServer


@pytest.fixture(scope="session")
def real(nix_store: str, tmp_path_factory: pytest.TempPathFactory) -> RealCache:
    return RealCache.make(tmp_path_factory.mktemp("nix"))


@pytest.fixture
async def server(real: RealCache) -> AsyncIterator[UpstreamServer]:
    """Serves the cache with xz."""
    async with UpstreamServer.serving(CacheFiles.of(real.written("xz"))) as server:
        yield server


@pytest.fixture
async def store(server: UpstreamServer) -> AsyncIterator[Store]:
    """In front of ``server``; without keys."""
    async with Store(server.url) as store:
        yield store
