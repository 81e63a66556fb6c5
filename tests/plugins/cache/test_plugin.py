"""The tags of this plugin in a configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.composition import Composition
from tvix_store.config import EntryConfig, Kind
from tvix_store.digest import HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import ConfigError
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.store_config import SERVICE_KINDS, StoreConfig
from tvix_store.testing.blob_access import read_blob
from tvix_store.testing.directory_uploads import leaf
from tvix_store.testing.fixtures import HELLOWORLD_BLOB, PATH_INFO
from tvix_store_cache.blob import CacheBlobService
from tvix_store_cache.directory import CacheDirectoryService
from tvix_store_cache.exists_blob import ExistsBlobService
from tvix_store_cache.path_info import CachePathInfoService

MEMORY: dict[str, Any] = {"type": "memory"}
SIDES = {"near": MEMORY, "far": MEMORY}
BLOB = HashedBlob(HELLOWORLD_BLOB.data)
CACHE: dict[str, Any] = {"type": "cache", "near": "near", "far": "far"}

every_kind = pytest.mark.parametrize("kind", SERVICE_KINDS, ids=lambda kind: kind.value)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def composed(registry: Registry, root: dict[str, Any], **others: dict[str, Any]) -> Composition:
    """The same root in each kind."""
    tables = {kind.value: {"root": root, **SIDES, **others} for kind in SERVICE_KINDS}
    return Composition(StoreConfig.parse(tables, registry, "test"), registry)


async def counts(composition: Composition, *names: str) -> list[list[int]]:
    """How many objects the entries with these names hold, kind by kind."""
    services = {(entry.entry_id.kind, entry.entry_id.name): entry.service for entry in await composition.entries()}
    return [[(await services[kind, name].stats()).objects for name in names] for kind in SERVICE_KINDS]


async def put(composition: Composition) -> None:
    services = await composition.services()
    await services.blobs.put_many([BLOB])
    await services.directories.put(leaf(1))
    await services.path_infos.put(PATH_INFO)


async def assert_found(composition: Composition) -> None:
    services = await composition.services()
    assert await read_blob(services.blobs, HELLOWORLD_BLOB.digest) == HELLOWORLD_BLOB.data
    assert await services.directories.get(leaf(1).digest) == leaf(1)
    assert await services.path_infos.get(PATH_INFO.store_path.digest) == PATH_INFO


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "n_objects"), [({}, [1, 0]), ({"write": "far"}, [0, 1]), ({"write": "both"}, [1, 1])]
)
async def test_puts_go_where_the_configuration_says(
    registry: Registry, options: dict[str, str], n_objects: list[int]
) -> None:
    async with composed(registry, CACHE | options) as composition:
        await put(composition)
        assert await counts(composition, "near", "far") == [n_objects] * 3
        await assert_found(composition)


@pytest.mark.anyio
@pytest.mark.parametrize("names", [("near", "far"), ("local", "remote"), ("near", "remote")])
async def test_combined_does_not_fill(registry: Registry, names: tuple[str, str]) -> None:
    root = {"type": "combined", names[0]: "near", names[1]: "below"}
    async with composed(registry, root, below=CACHE | {"write": "far", "near": "other"}, other=MEMORY) as composition:
        entries = {(entry.entry_id.kind, entry.entry_id.name): entry.service for entry in await composition.entries()}
        blobs = entries[Kind.BLOB, "far"]
        assert isinstance(blobs, BlobService)
        await blobs.put_many([BLOB])
        services = await composition.services()
        assert await read_blob(services.blobs, HELLOWORLD_BLOB.digest) == HELLOWORLD_BLOB.data
        assert (await counts(composition, "near", "other", "far"))[0] == [0, 1, 1]


@pytest.mark.anyio
async def test_memory_over_disk_over_far(registry: Registry) -> None:
    outer = {"type": "cache", "near": "memory", "far": "disk", "write": "far"}
    others = {"memory": {"type": "lru", "max_bytes": 1 << 20}, "disk": CACHE}
    async with composed(registry, outer, **others) as composition:
        await put(composition)
        await assert_found(composition)
        assert await counts(composition, "memory", "near", "far") == [[1, 1, 0]] * 3


@pytest.mark.anyio
async def test_urls_work_in_all_kinds(registry: Registry) -> None:
    url = "cache://?near=lru%3A%2F%2F%3Fcapacity%3D5&far=memory://&write=both&negative_ttl_s=1.5&skip_near_errors=true"
    config = StoreConfig.from_urls(url, url, url, registry, "test")
    async with Composition(config, registry) as composition:
        await put(composition)
        await assert_found(composition)
        assert await counts(composition, "root.near", "root.far") == [[1, 1]] * 3
        roots = [entry.config for entry in await composition.entries() if entry.entry_id.name == "root"]
    expected = {"write": "both", "negative_ttl_s": 1.5, "skip_near_errors": True, "far": "memory://"}
    assert all(root.model_dump(include=set(expected)) == expected for root in roots)


@pytest.mark.anyio
async def test_remembered_answers_are_those_of_the_configuration(registry: Registry) -> None:
    root = {"type": "exists", "inner": "far", "negative_ttl_s": 3600}
    async with composed(registry, root) as composition:
        services = await composition.services()
        assert isinstance(services.blobs, ExistsBlobService)
        assert await services.blobs.has(HELLOWORLD_BLOB.digest) is False
        assert HELLOWORLD_BLOB.digest.raw in services.blobs.answers.absent
        await put(composition)
        await assert_found(composition)


@every_kind
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("cache://?near=memory://", "far"),
        ("cache://?near=a&far=b&write=none", "write"),
        ("cache://?near=a&far=b&negative_ttl_s=-1", "negative_ttl_s"),
        ("cache://?near=a&far=b&unknown=1", "unknown"),
        ("cache://host?near=a&far=b", "expected cache://"),
        ("cache:///path?near=a&far=b", "expected cache://"),
        ("cache+x://?near=a&far=b", "expected cache://"),
        ("combined://?near=a", "far"),
        ("lru://?capacity=0", "capacity"),
        ("lru://?max_bytes=10", "max_bytes"),
        ("exists://?inner=a&negative_ttl_s=never", "negative_ttl_s"),
    ],
)
def test_urls_that_are_refused(registry: Registry, kind: Kind, url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        registry.from_url(kind, url)


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        (CACHE | {"write": "none"}, "write: "),
        (CACHE | {"near": "nowhere"}, "'nowhere'"),
        (CACHE | {"far": "root"}, "in a circle"),
        ({"type": "combined", "near": "near", "local": "near", "far": "far"}, "local"),
        ({"type": "exists", "inner": "far", "positive_ttl_s": -1, "negative_ttl_s": 1}, "positive_ttl_s"),
    ],
)
def test_what_is_refused(registry: Registry, root: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        composed(registry, root)


@pytest.mark.parametrize("kind", [Kind.DIRECTORY, Kind.PATH_INFO])
def test_exists_without_anything_to_remember_is_refused(registry: Registry, kind: Kind) -> None:
    with pytest.raises(ConfigError, match="negative_ttl_s"):
        registry.from_url(kind, "exists://?inner=a")
    with pytest.raises(ConfigError, match="positive_ttl_s"):
        registry.from_url(kind, "exists://?inner=a&negative_ttl_s=1&positive_ttl_s=1")


# Capabilities


def entry(registry: Registry, kind: Kind, url: str) -> EntryConfig:
    return registry.from_url(kind, url)


TAKES = Capabilities(list=True, delete=True)
REFUSES = Capabilities(put=False)


@pytest.mark.anyio
@pytest.mark.parametrize("tag", ["cache", "combined", "exists", "lru"])
async def test_what_is_known_beforehand_is_what_the_services_state(registry: Registry, tag: str) -> None:
    roots: dict[str, dict[str, Any]] = {
        "cache": CACHE,
        "combined": {"type": "combined", "near": "near", "far": "far"},
        "exists": {"type": "exists", "inner": "far", "negative_ttl_s": 1},
        "lru": {"type": "lru"},
    }
    async with composed(registry, roots[tag]) as composition:
        for built in await composition.entries():
            if built.entry_id.name == "root":
                inner = {reference.key: TAKES for reference in built.config.references()}
                assert built.config.capabilities(inner) == built.service.capabilities == TAKES


@every_kind
def test_durability_is_that_of_where_puts_go(registry: Registry, kind: Kind) -> None:
    inner = {"near": TAKES, "far": replace(TAKES, durability=Durability.COMMIT)}
    for write, durability in (("near", "none"), ("far", "commit"), ("both", "commit")):
        found = entry(registry, kind, f"cache://?near=a&far=b&write={write}").capabilities(inner)
        assert found is not None
        assert found.durability is Durability(durability)


@every_kind
@pytest.mark.parametrize("url", ["cache://?near=a&far=b", "combined://?near=a&far=b"])
def test_what_is_not_known_of_a_side_is_not_known(registry: Registry, kind: Kind, url: str) -> None:
    config = entry(registry, kind, url)
    for unknown in ("near", "far"):
        inner = {"near": TAKES, "far": TAKES, unknown: None}
        assert config.capabilities(inner) is None
        assert list(config.misfits(inner)) == []


@every_kind
@pytest.mark.parametrize(
    ("write", "near", "far", "keys"),
    [
        ("near", TAKES, REFUSES, []),
        ("far", TAKES, REFUSES, ["far"]),
        ("both", TAKES, REFUSES, ["far"]),
        ("near", REFUSES, TAKES, ["near"]),
        ("far", REFUSES, TAKES, ["near"]),
    ],
)
def test_a_side_that_takes_no_puts_does_not_fit_where_they_go(
    registry: Registry, kind: Kind, write: str, near: Capabilities, far: Capabilities, keys: list[str]
) -> None:
    config = entry(registry, kind, f"cache://?near=a&far=b&write={write}")
    assert [key for key, _ in config.misfits({"near": near, "far": far})] == keys


@every_kind
@pytest.mark.parametrize(
    ("url", "is_shared"),
    [
        ("cache://?near=a&far=b&write=far", True),
        ("cache://?near=a&far=b&negative_ttl_s=1", True),
        ("cache://?near=a&far=b&negative_ttl_s=1&write=far", False),
        ("combined://?near=a&far=b", True),
        ("exists://?inner=a&negative_ttl_s=1", False),
        ("lru://", False),
    ],
)
def test_what_processes_can_share(registry: Registry, kind: Kind, url: str, is_shared: bool) -> None:
    assert entry(registry, kind, url).is_shared_between_processes is is_shared


def test_blobs_that_are_remembered_to_be_there_can_be_shared(registry: Registry) -> None:
    assert entry(registry, Kind.BLOB, "exists://?inner=a").is_shared_between_processes is True


@pytest.mark.parametrize(
    ("interface", "service"),
    [
        (BlobService, CacheBlobService),
        (DirectoryService, CacheDirectoryService),
        (PathInfoService, CachePathInfoService),
    ],
)
def test_every_method_is_forwarded(interface: type, service: type) -> None:
    public = {name for name in vars(interface) if not name.startswith("_")}
    assert public - {"explainer"} <= set(vars(service))  # a composition explains its own entries
