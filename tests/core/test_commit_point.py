"""Path infos become visible after what they refer to is durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tvix_store.commit_point import CommitPointPathInfoService
from tvix_store.errors import Unavailable
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.testing import PathInfoServiceSuite
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio


class Blobs(MinimalBlobService):
    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.journal = journal
        self.failure: Exception | None = None

    async def sync(self) -> None:
        self.journal.append("blobs")
        if self.failure is not None:
            raise self.failure


class Directories(MinimalDirectoryService):
    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.journal = journal

    async def sync(self) -> None:
        self.journal.append("directories")


class PathInfos(MemoryPathInfoService):
    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.journal = journal
        self.closed = False

    async def put(self, path_info: PathInfo) -> PathInfo:
        self.journal.append("path info")
        return await super().put(path_info)

    async def aclose(self) -> None:
        self.closed = True


def made() -> tuple[CommitPointPathInfoService, Blobs, PathInfos]:
    journal: list[str] = []
    blobs, path_infos = Blobs(journal), PathInfos(journal)
    return CommitPointPathInfoService(path_infos, blobs, Directories(journal)), blobs, path_infos


@pytest.mark.parametrize(
    "put", [lambda store: store.put(PATH_INFO), lambda store: store.put_many([PATH_INFO])], ids=["put", "put_many"]
)
async def test_blobs_and_directories_come_first(put: Callable[[PathInfoService], Awaitable[object]]) -> None:
    store, blobs, _ = made()
    await put(store)
    assert sorted(blobs.journal[:2]) == ["blobs", "directories"]
    assert blobs.journal[2:] == ["path info"]


@pytest.mark.parametrize(
    "put", [lambda store: store.put(PATH_INFO), lambda store: store.put_many([PATH_INFO])], ids=["put", "put_many"]
)
async def test_what_is_not_durable_is_not_referred_to(put: Callable[[PathInfoService], Awaitable[object]]) -> None:
    store, blobs, path_infos = made()
    blobs.failure = Unavailable("disk gone")
    with pytest.raises(Unavailable, match="disk gone"):
        await put(store)
    assert path_infos.encodings == {}


async def test_only_the_path_infos_are_closed_with_it() -> None:
    store, _, path_infos = made()
    async with store:
        pass
    assert path_infos.closed


class TestCommitPointPathInfoService(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self) -> PathInfoService:
        return made()[0]
