"""The ``observe`` type in a configuration, and a composition that observes all of its services."""

from __future__ import annotations

import pytest

from plugins.observe.scraping import scraped
from tvix_store.capabilities import Capabilities
from tvix_store.composition import Composition
from tvix_store.config import BlobServiceConfig, Kind
from tvix_store.digest import HashedBlob
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store.telemetry_observer import observed

pytestmark = pytest.mark.anyio

A = HashedBlob(b"a")


def config(name: str | None = None) -> StoreConfig:
    labelled = {} if name is None else {"name": name}
    document = {
        kind.value: {
            "root": {"type": "observe", "inner": f"leaf-{kind.value}", **labelled},
            f"leaf-{kind.value}": {"type": "memory"},
        }
        for kind in (Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO)
    }
    return StoreConfig.parse(document, Registry.load(), "test")


def written(entry: str) -> float | None:
    return scraped().get("tvix_store_objects_total", entry=entry, kind="blob", method="put_many", result="written")


async def test_the_label_is_the_name_that_is_given() -> None:
    async with Composition(config("given"), Registry.load()) as composition:
        services = await composition.services()
        before = written("given")
        await services.blobs.put_many([A])
        assert before is not None
        assert written("given") == before + 1
    for kind in ("blob", "directory", "path_info"):
        assert scraped().get("tvix_store_corrupt_objects_total", entry="given", kind=kind) == 0


async def test_the_label_is_else_the_name_of_the_entry() -> None:
    async with Composition(config(), Registry.load()) as composition:
        await composition.services()
    assert written("root") is not None


async def test_all_services_can_be_observed_each_once() -> None:
    async with Composition(config("each"), Registry.load(), observed) as composition:
        services = await composition.services()
        before = [written("each") or 0, written("leaf-blobservices") or 0]
        await services.blobs.put_many([A])
        assert [written("each"), written("leaf-blobservices")] == [before[0] + 1, before[1] + 1]


async def test_it_can_do_what_the_other_can() -> None:
    entry = config().entries[Kind.BLOB]["root"]
    assert isinstance(entry, BlobServiceConfig)
    capabilities = Capabilities(list=True, delete=True)
    assert entry.capabilities({"inner": capabilities}) == capabilities
    assert entry.capabilities({"inner": None}) is None
