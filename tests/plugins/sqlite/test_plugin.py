"""The ``sqlite`` tag in a configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import ValidationError

from tvix_store.blob import BlobService
from tvix_store.capabilities import Durability
from tvix_store.config import ServiceUrl
from tvix_store.directory import DirectoryService
from tvix_store.errors import ConfigError
from tvix_store.frontend import Services
from tvix_store.path_info import PathInfoService
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService
from tvix_store_sqlite.plugin import (
    SqliteBlobServiceConfig,
    SqliteDirectoryServiceConfig,
    SqlitePathInfoServiceConfig,
)

T = TypeVar("T")

MODELS = [SqliteBlobServiceConfig, SqliteDirectoryServiceConfig, SqlitePathInfoServiceConfig]

every_model = pytest.mark.parametrize("model", MODELS)


@every_model
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("sqlite:///var/lib/store.sqlite", {"path": "/var/lib/store.sqlite"}),
        ("sqlite:/var/lib/store.sqlite", {"path": "/var/lib/store.sqlite"}),
        ("sqlite:///a%20b/%3Fc", {"path": "/a b/?c"}),
        ("sqlite:///x?durability=batched", {"path": "/x", "durability": "batched"}),
        ("sqlite:///x?durability=none&max_readers=2", {"path": "/x", "durability": "none", "max_readers": 2}),
        ("sqlite://", {"is_temporary": True}),
        ("sqlite:", {"is_temporary": True}),
        ("sqlite://?max_readers=1", {"is_temporary": True, "max_readers": 1}),
    ],
)
def test_urls(model: type[SqliteBlobServiceConfig], url: str, options: dict[str, Any]) -> None:
    assert model.from_url(ServiceUrl(url)) == model.model_validate({"type": "sqlite", **options})


@every_model
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///", "no place"),
        ("sqlite:////", "no place"),
        ("sqlite:///x/..", "no place"),
        ("sqlite://host/x", "expected sqlite:///absolute/path"),
        ("sqlite://host", "expected sqlite:///absolute/path"),
        ("sqlite:x", "not absolute"),
        ("sqlite:///x%00y", "not absolute"),
        ("sqlite+file:///x", "expected sqlite:///absolute/path"),
        ("sqlite:///x#y", "expected sqlite:///absolute/path"),
        ("sqlite:///x?durability=maybe", "durability is commit, batched or none"),
        ("sqlite:///x?max_readers=0", "max_readers is a number"),
        ("sqlite:///x?max_readers=many", "max_readers is a number"),
        ("sqlite:///x?max_readers=99999999", "max_readers is a number"),
        ("sqlite:///x?sync=1", "unknown parameter 'sync'"),
        ("sqlite:///x?durability=none&durability=none", "given twice"),
    ],
)
def test_urls_that_are_refused(model: type[SqliteBlobServiceConfig], url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        model.from_url(ServiceUrl(url))


@every_model
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "path is missing"),
        ({"path": "/x", "is_temporary": True}, "a temporary database has no path"),
        ({"path": ""}, "no place"),
        ({"path": "/"}, "no place"),
        ({"path": "a\0b"}, "no place"),
        ({"path": "/x", "durability": "yes"}, "durability"),
        ({"path": "/x", "max_readers": 0}, "max_readers"),
        ({"path": "/x", "max_readers": 65}, "max_readers"),
        ({"path": "/x", "pth": "/x"}, "pth"),
    ],
)
def test_options_that_are_refused(model: type[SqliteBlobServiceConfig], options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        model.model_validate({"type": "sqlite", **options})


class FakeContext:
    """What a composition gives to ``build``: only what this plugin asks for."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.opened: dict[Hashable, Any] = {}

    async def shared(self, key: Hashable, open_: Callable[[], Awaitable[AbstractAsyncContextManager[T]]]) -> T:
        if key not in self.opened:
            self.opened[key] = await self.stack.enter_async_context(await open_())
        value: T = self.opened[key]
        return value

    async def blob_service(self, target: str) -> BlobService:
        raise NotImplementedError

    async def directory_service(self, target: str) -> DirectoryService:
        raise NotImplementedError

    async def path_info_service(self, target: str) -> PathInfoService:
        raise NotImplementedError

    async def services(self) -> Services:
        raise NotImplementedError


def exists(path: Path) -> bool:
    return path.exists()


@pytest.mark.anyio
async def test_services_on_one_file_share_its_database(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    async with AsyncExitStack() as stack:
        context = FakeContext(stack)
        file = str(tmp_path / "store.sqlite")
        through_link = str(tmp_path / "link" / "store.sqlite")
        blobs = await SqliteBlobServiceConfig(type="sqlite", path=file).build("b", context)
        directories = await SqliteDirectoryServiceConfig(type="sqlite", path=through_link).build("d", context)
        path_infos = await SqlitePathInfoServiceConfig(type="sqlite", path=file).build("p", context)
        assert isinstance(blobs, SqliteBlobService)
        assert isinstance(directories, SqliteDirectoryService)
        assert isinstance(path_infos, SqlitePathInfoService)
        assert blobs.database is directories.database is path_infos.database
        assert {s.capabilities.durability for s in (blobs, directories, path_infos)} == {Durability.COMMIT}


@pytest.mark.anyio
async def test_temporary_databases_are_private() -> None:
    async with AsyncExitStack() as stack:
        context = FakeContext(stack)
        config = SqliteBlobServiceConfig(type="sqlite", is_temporary=True)
        one, other = await config.build("one", context), await config.build("other", context)
        assert isinstance(one, SqliteBlobService)
        assert isinstance(other, SqliteBlobService)
        assert one.database.path != other.database.path
        assert one.capabilities.durability is Durability.NONE
        file = Path(one.database.path)
        assert exists(file)
    assert not exists(file.parent)


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["commit", "batched", "none"])
async def test_durability_is_what_sqlite_is_told(tmp_path: Path, durability: str) -> None:
    async with AsyncExitStack() as stack:
        config = SqliteBlobServiceConfig.model_validate(
            {"type": "sqlite", "path": str(tmp_path / "store.sqlite"), "durability": durability}
        )
        service = await config.build("b", FakeContext(stack))
        assert isinstance(service, SqliteBlobService)
        assert service.capabilities.durability.value == durability
        (synchronous,) = await service.database.write(lambda c: c.execute("PRAGMA synchronous").fetchone())
        assert synchronous == {"commit": 2, "batched": 1, "none": 0}[durability]
