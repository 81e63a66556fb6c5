"""What configurations state of services before they are built is what the services state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.registry import Registry
from tvix_store.signing import SecretKey
from tvix_store.store_config import SERVICE_KINDS, StoreConfig

pytestmark = pytest.mark.anyio

Settings = dict[str, object]

REGISTRY = Registry.load()
TYPES = [(kind, tag) for kind in SERVICE_KINDS for tag in REGISTRY.tags(kind)]

LEAVES: dict[str, Settings] = {
    "memory": {"type": "memory"},
    "disk": {"type": "sqlite", "path": "{tmp_path}/a.sqlite"},
    "none": {"type": "sqlite", "path": "{tmp_path}/b.sqlite", "durability": "none"},
    "fixed": {"type": "readonly", "inner": "disk"},
}
"""What combinators are tried over."""

INNER: list[Settings] = [{"inner": name} for name in LEAVES]
SIDES: list[Settings] = [
    {"near": near, "far": far} for near in LEAVES for far in LEAVES if near != "fixed" and near != far
]
PAIRS = [(a, b) for a in LEAVES for b in LEAVES if a != b]

ON_DISK: list[Settings] = [{"path": "{tmp_path}/c", "durability": name} for name in ("commit", "batched", "none")]

SETTINGS: dict[str, list[Settings]] = {
    "memory": [{}],
    "lru": [{"capacity": 3}],
    "sqlite": [*ON_DISK, {"is_temporary": True}],
    "fs": ON_DISK,
    "grpc": [{"url": "grpc+http://localhost:1"}],
    "nix": [{"base_url": "https://cache.example"}],
    "keyfile-signing": [{"inner": name, "keyfile": "{tmp_path}/key"} for name in LEAVES if name != "fixed"],
    "cache": [
        *SIDES,
        *({**sides, "write": write} for sides in SIDES if sides["far"] != "fixed" for write in ("far", "both")),
    ],
    "combined": SIDES,
    "exists": [{**inner, "negative_ttl_s": 1.0} for inner in INNER],
    "fallback": [{"services": [a, b]} for a, b in PAIRS],
    "mirror": [
        {"replicas": [a, b], "min_writes": min_writes}
        for a, b in PAIRS
        if "fixed" not in (a, b)
        for min_writes in (1, 2)
    ],
    "shard": [{"shards": {"a": a, "b": b}} for a, b in PAIRS if "fixed" not in (a, b)],
    "route": [{"read": a, "write": b} for a, b in PAIRS if b != "fixed"],
    "limit": [{**inner, "concurrency": 1} for inner in INNER],
    "timeout": [{**inner, "seconds": 1.0} for inner in INNER],
    **dict.fromkeys(("readonly", "verify", "singleflight", "retry", "breaker", "observe", "fault"), INNER),
}
"""For each type, entries of it to try."""


def case(kind: Kind, tag: str) -> list[Settings]:
    found = [{"type": tag, **settings} for settings in SETTINGS[tag]]
    if kind is Kind.BLOB and tag == "route":
        found += [{"type": tag, "small": a, "large": b} for a, b in PAIRS if "fixed" not in (a, b)]
    return found


def filled(value: object, tmp_path: Path) -> object:
    match value:
        case str():
            return value.replace("{tmp_path}", str(tmp_path))
        case dict():
            return {key: filled(item, tmp_path) for key, item in value.items()}
    return value


@pytest.mark.parametrize(("kind", "tag"), TYPES, ids=lambda value: value.value if isinstance(value, Kind) else value)
async def test_a_service_can_do_what_its_settings_say(kind: Kind, tag: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(str(SecretKey.generate("test-1")))
    (tmp_path / "key").chmod(0o600)
    memory: Settings = {"type": "memory"}
    entries = {f"tried{number}": settings for number, settings in enumerate(case(kind, tag))}
    document = {other.value: {"root": memory} for other in SERVICE_KINDS}
    document[kind.value] = {"root": memory, **LEAVES, **entries}
    config = StoreConfig.parse(filled(document, tmp_path), REGISTRY, "test")  # type: ignore[arg-type]  # it is a table
    async with Composition(config, REGISTRY) as composition:
        stated = {str(entry_id): found for entry_id, found in composition.graph.capabilities.items()}
        built = {str(entry.entry_id): entry.service.capabilities for entry in await composition.entries()}
    different = {name: (stated[name], found) for name, found in built.items() if stated[name] not in (None, found)}
    assert different == {}
    unknown = {name for name in built if stated[name] is None}
    assert unknown == ({f"[{kind.value}.tried0]"} if tag == "grpc" else set())
