"""The ``cache`` tag in a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tvix_store.composition import Composition
from tvix_store.errors import ConfigError
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store_cache.path_info import CachePathInfoService


def composed(**options: Any) -> Composition:
    registry = Registry.load()
    memory = {"root": {"type": "memory"}}
    path_infos = {
        "root": {"type": "cache", "near": "near", "far": "far", **options},
        "near": {"type": "memory"},
        "far": {"type": "memory"},
    }
    document = {"blobservices": memory, "directoryservices": memory, "pathinfoservices": path_infos}
    return Composition(StoreConfig.parse(document, registry, "test"), registry)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "n_objects"), [({}, [1, 0]), ({"write": "far"}, [0, 1]), ({"write": "both"}, [1, 1])]
)
async def test_puts_go_where_the_configuration_says(options: dict[str, str], n_objects: list[int]) -> None:
    async with composed(**options) as composition:
        await (await composition.services()).path_infos.put(PATH_INFO)
        services = {entry.entry_id.name: entry.service for entry in await composition.entries()}
        found = [(await services[name].stats()).objects for name in ("near", "far")]
    assert found == n_objects


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"write": "none"}, "write: "), ({"near": "nowhere"}, "'nowhere'"), ({"far": "root"}, "in a circle")],
)
def test_what_is_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        composed(**options)


def test_every_method_is_forwarded() -> None:
    public = {name for name in vars(PathInfoService) if not name.startswith("_")} | {"aclose"}
    assert public <= set(vars(CachePathInfoService))
