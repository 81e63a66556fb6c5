"""The cache keeps what every service promises, as long as nothing is far."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tvix_store.path_info import PathInfoService
from tvix_store.testing import PathInfoServiceSuite, run_path_info_state_machine
from tvix_store_cache.path_info import CachePathInfoService
from tvix_store_memory.path_info import MemoryPathInfoService


@asynccontextmanager
async def cache() -> AsyncIterator[PathInfoService]:
    async with CachePathInfoService("test", MemoryPathInfoService(), MemoryPathInfoService()) as service:
        yield service


class TestCachePathInfoService(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        async with cache() as service:
            yield service


def test_path_infos_answer_as_a_dict_does() -> None:
    run_path_info_state_machine(cache)
