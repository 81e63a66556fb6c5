"""The guards in a configuration: what they are built from, what they state, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tvix_store.capabilities import Capabilities
from tvix_store.composition import Composition
from tvix_store.config import EntryConfig, Kind
from tvix_store.errors import ConfigError
from tvix_store.registry import Registry
from tvix_store.store_config import EntryId, StoreConfig

KINDS = [Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO]
KEYS: dict[str, dict[str, Any]] = {
    "readonly": {},
    "verify": {"refetch": "copy", "quarantine": "/nowhere"},
    "singleflight": {},
    "limit": {"concurrency": 4, "rate": 100.5, "burst": 10, "queue": 0},
    "retry": {"attempts": 2, "backoff_s": 1, "max_backoff_s": 2.5, "max_elapsed_s": 60},
    "timeout": {"seconds": 10, "write_s": 60, "upkeep_s": 3600},
    "breaker": {"failures": 1, "open_s": 1, "max_open_s": 60},
}


def composed(entry: Mapping[str, Any]) -> Composition:
    registry = Registry.load()
    memory = {"type": "memory"}
    document = {kind.value: {"root": {**entry, "inner": "inner"}, "inner": memory, "copy": memory} for kind in KINDS}
    return Composition(StoreConfig.parse(document, registry, "test"), registry)


def model(tag: str, kind: Kind = Kind.BLOB, **keys: Any) -> EntryConfig:
    document = {kind.value: {"root": {"type": tag, "inner": "inner", **keys}}}
    return StoreConfig.parse(document, Registry.load(), "test").entries[kind]["root"]


@pytest.mark.anyio
@pytest.mark.parametrize("tag", KEYS)
async def test_it_is_built_and_states_what_its_settings_tell(tag: str) -> None:
    async with composed({"type": tag, **KEYS[tag]}) as composition:
        built = {entry.entry_id: entry for entry in await composition.entries()}
        for kind in KINDS:
            root, inner = built[EntryId(kind, "root")], built[EntryId(kind, "inner")]
            assert type(root.service).relays
            known = {"inner": inner.service.capabilities, "refetch": None}
            assert root.config.capabilities(known) == root.service.capabilities
            assert root.service.capabilities.put is (tag != "readonly")


@pytest.mark.parametrize("tag", KEYS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_what_is_not_known_of_the_inner_is_not_known(tag: str, kind: Kind) -> None:
    assert model(tag, kind, **KEYS[tag]).capabilities({"inner": None}) is None


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"type": "timeout"}, "seconds is missing"),
        ({"type": "timeout", "seconds": 0}, "seconds: "),
        ({"type": "timeout", "seconds": 1, "write_s": -1}, "write_s: "),
        ({"type": "retry", "attempts": 0}, "attempts: "),
        ({"type": "retry", "timeout": 1}, "unknown key 'timeout'"),
        ({"type": "limit"}, "nothing is limited: give concurrency or rate"),
        ({"type": "limit", "concurrency": 0}, "concurrency: "),
        ({"type": "limit", "concurrency": 1, "burst": 2}, "burst says nothing without rate"),
        ({"type": "breaker", "open_s": 20, "max_open_s": 10}, "max_open_s, 10 s, is less than open_s, 20 s"),
        ({"type": "verify", "on_put": False, "on_get": False}, "nothing is verified"),
        ({"type": "verify", "quarantine": ""}, "quarantine: "),
        ({"type": "verify", "refetch": "nowhere"}, "'nowhere'"),
        ({"type": "singleflight", "far": "inner"}, "unknown key 'far'"),
    ],
)
def test_what_is_refused(entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        composed(entry)


def test_the_default_of_burst_may_be_said_without_a_rate() -> None:
    assert model("limit", concurrency=1, burst=1) == model("limit", concurrency=1)


def test_what_takes_no_puts_cannot_be_healed() -> None:
    read_only = Capabilities(put=False)
    entry = model("verify", refetch="copy")
    assert list(entry.misfits({"inner": read_only, "refetch": None})) == [
        ("inner", "it does not take puts, so that nothing can be replaced by what refetch has")
    ]
    assert list(entry.misfits({"inner": Capabilities(), "refetch": None})) == []
    assert list(entry.misfits({"inner": None, "refetch": read_only})) == []
    assert list(model("verify").misfits({"inner": read_only})) == []


@pytest.mark.parametrize("tag", KEYS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_every_key_is_described(tag: str, kind: Kind) -> None:
    fields = type(model(tag, kind, **KEYS[tag])).model_fields
    assert [name for name, field in fields.items() if name != "type" and not field.description] == []
