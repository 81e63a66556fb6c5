"""What signs keeps what every path info service promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tvix_store.capabilities import Durability
from tvix_store.path_info import PathInfoService
from tvix_store.signing import SecretKey
from tvix_store.testing import PathInfoServiceSuite, run_path_info_state_machine
from tvix_store_memory.path_info import MemoryPathInfoService
from tvix_store_signing.path_info import SigningPathInfoService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.path_info import SqlitePathInfoService

KEYS = [SecretKey.generate("one"), SecretKey.generate("two")]


@asynccontextmanager
async def over_memory() -> AsyncIterator[PathInfoService]:
    async with MemoryPathInfoService() as inner, SigningPathInfoService(inner, KEYS) as service:
        yield service


@asynccontextmanager
async def over_sqlite(path: Path | None = None) -> AsyncIterator[PathInfoService]:
    async with (
        await Database.open(None if path is None else str(path), durability=Durability.NONE) as database,
        SqlitePathInfoService("test", database) as inner,
        SigningPathInfoService(inner, KEYS) as service,
    ):
        yield service


class TestOverMemory(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> AsyncIterator[PathInfoService]:
        async with over_memory() as service:
            yield service


class TestOverSqlite(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[PathInfoService]:
        async with over_sqlite(tmp_path / "store.sqlite") as service:
            yield service


@pytest.mark.parametrize("factory", [over_memory, over_sqlite])
def test_path_infos_answer_as_a_dict_does(factory: Callable[[], AbstractAsyncContextManager[PathInfoService]]) -> None:
    run_path_info_state_machine(factory)
