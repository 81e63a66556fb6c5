"""The ``fault`` tag in a configuration."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tvix_store.capabilities import Capabilities
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.digest import HashedBlob
from tvix_store.errors import ConfigError, CorruptObject, StoreError
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store_fault.faults import FaultRates

TABLES = ("blobservices", "directoryservices", "pathinfoservices")


def composed(**options: Any) -> Composition:
    registry = Registry.load()
    document = {table: {"root": {"type": "fault", "inner": "kept"}, "kept": {"type": "memory"}} for table in TABLES}
    document["blobservices"]["root"].update(options)
    return Composition(StoreConfig.parse(document, registry, "test"), registry)


@pytest.mark.anyio
async def test_core_stands_between_a_fault_and_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    blob = HashedBlob(b"contents")
    with caplog.at_level(logging.WARNING):
        async with composed(corrupt_rate=1, seed=5) as composition:
            blobs = (await composition.services()).blobs
            await blobs.put_many([blob])
            with pytest.raises(CorruptObject, match=r"^root: blob"):
                await blobs.get_many([blob.digest])
    assert "root fails on purpose, seed = 5: corrupt_rate = 1\n" in caplog.text


@pytest.mark.anyio
async def test_every_rate_is_a_key_and_calls_can_be_named() -> None:
    async with composed(error_rate=1, methods=["has"]) as composition:
        blobs = (await composition.services()).blobs
        await blobs.put_many([HashedBlob(b"contents")])
        with pytest.raises(StoreError, match=r"has fails on purpose"):
            await blobs.has(HashedBlob(b"contents").digest)
    model = Registry.load().model(Kind.BLOB, "fault")
    assert FaultRates.__dataclass_fields__.keys() <= model.model_fields.keys()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"error_rate": 1.5}, "error_rate: "),
        ({"latency_s": -1.0}, "latency_s: "),
        ({"methods": ["gte_many"]}, "there is no method 'gte_many'"),
        ({"inner": "root"}, "in a circle"),
    ],
)
def test_what_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        composed(**options)


@pytest.mark.anyio
async def test_the_capabilities_are_those_of_inner_but_that_it_does_not_verify() -> None:
    composition = composed()
    entry = composition.config.entries[Kind.BLOB]["root"]
    assert entry.capabilities({"inner": None}) is None
    stated = Capabilities(list=True, delete=True, verifies=True)
    assert entry.capabilities({"inner": stated}) == Capabilities(list=True, delete=True)
    async with composition:
        services = await composition.services()
        assert services.blobs.capabilities == entry.capabilities({"inner": services.blobs.capabilities})
