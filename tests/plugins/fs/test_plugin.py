"""The ``fs`` tag in a configuration."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from tvix_store.config import Context, Kind, ServiceUrl
from tvix_store.errors import ConfigError
from tvix_store.registry import Registry
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.plugin import FsBlobServiceConfig


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("fs:///var/lib/store", {"path": "/var/lib/store"}),
        ("fs:/var/lib/store", {"path": "/var/lib/store"}),
        ("fs:///var/lib/store/", {"path": "/var/lib/store/"}),
        ("fs:///a%20b/%3Fc", {"path": "/a b/?c"}),
        ("fs:///x?durability=batched", {"path": "/x", "durability": "batched"}),
        ("fs:///x?durability=none", {"path": "/x", "durability": "none"}),
    ],
)
def test_urls(url: str, options: dict[str, Any]) -> None:
    assert FsBlobServiceConfig.from_url(ServiceUrl(url)) == FsBlobServiceConfig.model_validate(
        {"type": "fs", **options}
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("fs:///", "no place"),
        ("fs:////", "no place"),
        ("fs:///x/..", "no place"),
        ("fs://", "not absolute"),
        ("fs:x", "not absolute"),
        ("fs:///x%00y", "not absolute"),
        ("fs://host/x", "expected fs:///absolute/path"),
        ("fs+file:///x", "expected fs:///absolute/path"),
        ("fs:///x#y", "expected fs:///absolute/path"),
        ("fs:///x?durability=maybe", "durability is commit, batched or none"),
        ("fs:///x?sync=1", "unknown parameter 'sync'"),
        ("fs:///x?durability=none&durability=none", "given twice"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        FsBlobServiceConfig.from_url(ServiceUrl(url))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "path"),
        ({"path": ""}, "no place"),
        ({"path": "/"}, "no place"),
        ({"path": "/x/.."}, "no place"),
        ({"path": "a\0b"}, "no place"),
        ({"path": "/x", "durability": "yes"}, "durability"),
        ({"path": "/x", "avg_chunk_size": 4095}, "avg_chunk_size"),
        ({"path": "/x", "avg_chunk_size": 2097153}, "avg_chunk_size"),
        ({"path": "/x", "pth": "/x"}, "pth"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        FsBlobServiceConfig.model_validate({"type": "fs", **options})


async def built(stack: AsyncExitStack, **options: Any) -> FsBlobService:
    """The service that an entry describes."""
    config = FsBlobServiceConfig.model_validate({"type": "fs", **options})
    service = await config.build("root", cast(Context, None))  # it refers to no other
    assert isinstance(service, FsBlobService)
    return await stack.enter_async_context(service)


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["commit", "batched", "none"])
async def test_a_service_is_built_as_it_is_described(tmp_path: Path, durability: str) -> None:
    path = str(tmp_path / "a" / "b")
    async with AsyncExitStack() as stack:
        service = await built(stack, path=path, durability=durability, avg_chunk_size=65536)
        assert service.name == "root"
        assert service.capabilities.durability.value == durability
        assert service.store.parameters.avg_chunk_size == 65536


@pytest.mark.anyio
async def test_two_entries_may_name_one_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    async with AsyncExitStack() as stack:
        one = await built(stack, path=str(tmp_path / "store"))
        two = await built(stack, path=str(tmp_path / "link" / "store"))
        assert one.store.layout.path == two.store.layout.path


@pytest.mark.anyio
async def test_another_average_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path)
    async with AsyncExitStack() as stack:
        await built(stack, path=path)
    with pytest.raises(ConfigError, match="made with avg_chunk_size = 262144, not 65536"):
        async with AsyncExitStack() as stack:
            await built(stack, path=path, avg_chunk_size=65536)


def test_it_adds_blob_services_alone() -> None:
    registry = Registry.load()
    assert {kind for kind in Kind if "fs" in registry.tags(kind)} == {Kind.BLOB}
