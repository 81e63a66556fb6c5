"""The tags in a configuration: what they build, state, and refuse."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.spread.cells import KINDS, OBJECTS, key, put
from plugins.spread.spreading import BLOBS, DIRECTORIES, PATH_INFOS
from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.directory import DirectoryService
from tvix_store.errors import ConfigError, Unsupported
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store_spread.route_config import RouteBlobServiceConfig

TABLES = {"blob": "blobservices", "directory": "directoryservices", "path_info": "pathinfoservices"}
MEMORY = {"type": "memory"}
COMBINATORS: dict[str, dict[str, Any]] = {
    "fallback": {"type": "fallback", "services": ["a", "b"], "skip_errors": True},
    "mirror": {"type": "mirror", "replicas": ["a", "b"], "min_writes": 1, "spread_reads": "round-robin"},
    "shard": {"type": "shard", "shards": {"x": "a", "y": "b"}, "weights": {"x": 2}},
    "route": {"type": "route", "read": "a", "write": "a"},
}
OF_ONE_KIND: dict[str, tuple[str, dict[str, Any]]] = {
    "sizes": ("blob", {"type": "route", "small": "a", "large": "b", "max_small_bytes": 100}),
    "patterns": ("path_info", {"type": "route", "patterns": {"*.drv": "a", "*-source": "b"}, "default": "memory://"}),
}
ALL = [(kind, tag) for kind in KINDS for tag in COMBINATORS] + [(kind, tag) for tag, (kind, _) in OF_ONE_KIND.items()]


def settings_of(tag: str) -> dict[str, Any]:
    return {**COMBINATORS, **{tag: settings for tag, (_, settings) in OF_ONE_KIND.items()}}[tag]


def config(kind: str, settings: dict[str, Any]) -> StoreConfig:
    document: dict[str, Any] = {table: {"root": MEMORY} for table in TABLES.values()}
    document[TABLES[kind]] = {"root": settings, "a": MEMORY, "b": MEMORY}
    return StoreConfig.parse(document, Registry.load(), "test")


def entry(kind: str, settings: dict[str, Any]) -> Any:
    return config(kind, settings).entries[Kind(TABLES[kind])]["root"]


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "tag"), ALL)
async def test_what_is_built_keeps_what_is_put(kind: str, tag: str) -> None:
    async with Composition(config(kind, settings_of(tag)), Registry.load()) as composition:
        services = {built.entry_id: built.service for built in await composition.entries()}
        (service,) = [each for at, each in services.items() if (at.kind.value, at.name) == (TABLES[kind], "root")]
        await put(kind, service)
        found: Any = await service.get_many([key(kind, OBJECTS[kind])])
        assert found[0] is not None
        assert service.relays  # so nothing is hashed twice


CAPABILITIES = [
    Capabilities(put=put, list=list_, delete=list_, chunks=chunks, verifies=chunks, compact=put, durability=durability)
    for put, list_, chunks, durability in [
        (True, True, True, Durability.COMMIT),
        (True, False, False, Durability.BATCHED),
        (False, True, False, Durability.NONE),
    ]
]


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "tag"), ALL)
@pytest.mark.parametrize("first", CAPABILITIES)
@pytest.mark.parametrize("second", CAPABILITIES)
async def test_the_configuration_states_what_the_service_states(
    kind: str, tag: str, first: Capabilities, second: Capabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = entry(kind, settings_of(tag))
    stated = {"a": first, "b": second, "memory://": Capabilities()}
    inner = {reference.key: stated[reference.target] for reference in model.references()}
    async with Composition(config(kind, settings_of(tag)), Registry.load()) as composition:
        services = {built.entry_id: built.service for built in await composition.entries()}
        found: Any = None
        for at, service in services.items():
            if at.kind.value != TABLES[kind]:
                continue
            if at.name == "root":
                found = service
            else:
                state: Any = stated["memory://"] if at.owner else stated[at.name]
                service.__class__ = type("Stating", (type(service),), {"capabilities": state})
        assert model.capabilities(inner) == found.capabilities


@pytest.mark.parametrize(("kind", "tag"), ALL)
def test_what_is_not_known_of_one_is_not_known(kind: str, tag: str) -> None:
    model = entry(kind, settings_of(tag))
    keys = [reference.key for reference in model.references()]
    assert model.capabilities(dict.fromkeys(keys, Capabilities())) is not None
    for unknown in keys:
        assert model.capabilities({**dict.fromkeys(keys, Capabilities()), unknown: None}) is None
    assert list(model.misfits(dict.fromkeys(keys))) == []


NO_PUTS = Capabilities(put=False)


@pytest.mark.parametrize(
    ("kind", "tag", "without", "misfits"),
    [
        ("blob", "fallback", ["services[0]", "services[1]"], []),
        ("blob", "mirror", ["replicas[1]"], ["replicas[1]"]),
        ("blob", "shard", ["shards.y"], ["shards.y"]),
        ("blob", "shard", ["shards.x", "shards.y"], []),
        ("blob", "route", ["read"], []),
        ("directory", "route", ["write"], ["write"]),
        ("blob", "sizes", ["small", "large"], ["small", "large"]),
        ("path_info", "patterns", ["patterns.*.drv"], ["patterns.*.drv"]),
    ],
)
def test_what_has_to_take_puts(kind: str, tag: str, without: list[str], misfits: list[str]) -> None:
    model = entry(kind, settings_of(tag))
    inner = {reference.key: Capabilities() for reference in model.references()} | dict.fromkeys(without, NO_PUTS)
    assert list(model.misfits(inner)) == [(each, "it does not take puts") for each in misfits]


@pytest.mark.parametrize(
    ("kind", "settings", "in_order"),
    [
        ("blob", COMBINATORS["fallback"], True),
        ("blob", COMBINATORS["mirror"], False),
        ("blob", {**COMBINATORS["mirror"], "spread_reads": "first"}, True),
        ("directory", COMBINATORS["shard"], False),
        ("path_info", COMBINATORS["route"], False),
        ("blob", settings_of("sizes"), True),
        ("path_info", settings_of("patterns"), True),
    ],
)
def test_who_answers_first(kind: str, settings: dict[str, Any], in_order: bool) -> None:
    assert entry(kind, settings).reads_in_order is in_order


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("blob", {"type": "fallback", "services": []}, "services: "),
        ("blob", {"type": "fallback", "services": ["a", "a"]}, "'a' is there twice"),
        ("blob", {"type": "fallback", "services": ["a", "nowhere"]}, r"services\[1\]: .*'nowhere'"),
        ("blob", {"type": "mirror", "replicas": ["a", "b", "a"]}, "'a' is there twice"),
        ("blob", {"type": "mirror", "replicas": ["a"], "min_writes": 2}, "min_writes: there are only 1 replicas"),
        ("blob", {"type": "mirror", "replicas": ["a"], "min_writes": 0}, "min_writes: "),
        ("blob", {"type": "mirror", "replicas": ["a"], "spread_reads": "random"}, "spread_reads: "),
        ("blob", {"type": "shard", "shards": {}}, "shards: "),
        ("blob", {"type": "shard", "shards": {"x": "a", "y": "a"}}, "'a' is there twice"),
        ("blob", {"type": "shard", "shards": {"x": "a"}, "weights": {"y": 1.0}}, "weights: there is no shard 'y'"),
        ("blob", {"type": "shard", "shards": {"x": "a"}, "weights": {"x": 0.0}}, "weights.x: "),
        ("blob", {"type": "shard", "shards": {"x": "gone"}}, r"shards\.x: .*'gone'"),
        ("directory", {"type": "shard", "shards": {"x": "a"}, "spool_dir": "/"}, "unknown key 'spool_dir'"),
        ("blob", {"type": "route"}, "give small and large, or read and write"),
        ("blob", {"type": "route", "small": "a"}, "give small and large, or read and write"),
        ("blob", {"type": "route", "small": "a", "large": "b", "read": "a"}, "give small and large, or read and"),
        ("blob", {"type": "route", "small": "a", "large": "a"}, "small and large are the same service"),
        ("blob", {"type": "route", "read": "a", "write": "b", "max_small_bytes": 1}, "it goes with small and large"),
        ("blob", {"type": "route", "small": "a", "large": "b", "max_small_bytes": 2**21}, "max_small_bytes: "),
        ("directory", {"type": "route", "read": "a"}, "write is missing"),
        ("path_info", {"type": "route", "patterns": {"*": "a"}}, "give patterns and default, or read and write"),
        ("path_info", {"type": "route", "patterns": {"*": "gone"}, "default": "a"}, r"patterns\.\*: .*'gone'"),
        ("path_info", {"type": "route", "patterns": {}, "default": "a"}, "patterns: "),
        ("path_info", {"type": "route", "small": "a", "large": "b"}, "unknown key 'small'"),
    ],
)
def test_what_is_refused(kind: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Composition(config(kind, settings), Registry.load())
    assert "\n" not in str(caught.value)


@pytest.mark.anyio
async def test_a_folder_to_wait_in_has_to_be_there() -> None:
    settings = {"type": "shard", "shards": {"x": "a"}, "spool_dir": "/nowhere/at/all"}
    async with Composition(config("blob", settings), Registry.load()) as composition:
        with pytest.raises(ConfigError, match="spool_dir /nowhere/at/all is no folder"):
            await composition.services()


@pytest.mark.parametrize(
    ("interface", "makers"), [(BlobService, BLOBS), (DirectoryService, DIRECTORIES), (PathInfoService, PATH_INFOS)]
)
def test_every_method_is_forwarded(interface: type[Any], makers: Any) -> None:
    public = {name for name in vars(interface) if not name.startswith("_")}
    public.discard("explainer")  # whoever made the combinator explains what it is made of
    for make in makers.values():
        service = make()
        inherited = {name for name in public if getattr(type(service), name) is vars(interface)[name]}
        assert inherited == set(), type(service)


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "makers"), [("blob", BLOBS), ("directory", DIRECTORIES), ("path_info", PATH_INFOS)])
async def test_nothing_is_deleted_or_listed_if_not_everything_can_be(kind: str, makers: Any) -> None:
    for name, make in makers.items():
        if name == "route-read-write":
            continue
        service = make()
        await put(kind, service)
        member = list(service.members.values())[-1]
        unable = Capabilities()
        member.__class__ = type("Unable", (type(member),), {"capabilities": unable})
        with pytest.raises(Unsupported):
            await service.delete([key(kind, OBJECTS[kind])])
        with pytest.raises(Unsupported):
            service.list()
        assert None not in await service.get_many([key(kind, OBJECTS[kind])])


def test_the_default_of_what_is_small_may_be_said_where_it_says_nothing() -> None:
    assert RouteBlobServiceConfig(type="route", read="a", write="b", max_small_bytes=64 * 1024).small is None


def test_small_is_at_most_what_is_held_in_memory_anyway() -> None:
    assert RouteBlobServiceConfig.model_fields["max_small_bytes"].default == 64 * 1024
