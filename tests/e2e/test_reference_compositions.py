"""Compositions and URLs of the reference: they load here, and where ours differ, the tests say how."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from e2e.composed import METADATA, composed, parsed
from plugins.grpc.loopback import memory_services, serving
from tvix_store.composition import Composition
from tvix_store.digest import HashedBlob
from tvix_store.errors import ConfigError, StoreError, Unavailable
from tvix_store.ingest import ingest_path
from tvix_store.registry import Registry
from tvix_store.store_config import SERVICE_KINDS, StoreConfig
from tvix_store.testing.blob_access import list_blobs, read_blob, write_blob
from tvix_store.testing.fixtures import HELLOWORLD_BLOB, PATH_INFO
from vectors.compositions import EXAMPLE, URLS
from vectors.nar import TREES, materialise
from vectors.nix_keys import KEYS

pytestmark = pytest.mark.anyio

HELLO = HashedBlob(HELLOWORLD_BLOB.data)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def with_types_that_we_have(folder: Path) -> dict[str, Any]:
    """The example of the spec, with ``fs`` for ``objectstore`` and ``sqlite`` for ``redb``."""
    document = tomllib.loads(EXAMPLE)
    document["blobservices"]["root"] = {"type": "fs", "path": f"{folder}/blobs"}
    for entry in (document["directoryservices"]["root"], document["pathinfoservices"]["local"]):
        entry["type"] = "sqlite"  # whose keys are those of redb
        entry["path"] = f"{folder}/{Path(entry['path']).name}"
    return document


# The example


def test_a_type_that_we_do_not_have_is_one_line_with_what_there_is(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(EXAMPLE, registry)
    message = str(caught.value)
    assert message.startswith("store.toml: [blobservices.root]: unknown type 'objectstore' of blob service")
    assert "\n" not in message
    for tag in ("cache", "combined", "fs", "grpc", "memory", "sqlite"):
        assert f" {tag}," in f"{message},"


async def test_the_example_keeps_what_is_put(registry: Registry, tmp_path: Path) -> None:
    document = with_types_that_we_have(tmp_path)
    tree = materialise(TREES["complicated"], tmp_path / "tree")
    async with composed(document, registry) as store:
        services = await store.services()
        ingested = await ingest_path(tree, services.blobs, services.directories)
        await services.path_infos.put(PATH_INFO)
    async with composed(document, registry) as store:
        services = await store.services()
        assert await services.nar_calculation.calculate_nar(ingested.node) == ingested.nar
        assert await services.path_infos.get(PATH_INFO.store_path.digest) == PATH_INFO
        assert store.asked["upstream"].calls == []


async def test_the_same_document_may_come_from_json(registry: Registry, tmp_path: Path) -> None:
    document = with_types_that_we_have(tmp_path)
    again = json.loads(json.dumps(document))
    assert parsed(again, registry).entries == parsed(document, registry).entries


@pytest.mark.parametrize("name", ["root", "default"])
async def test_the_served_entry_has_either_name(registry: Registry, name: str) -> None:
    tables = {kind.value: {name: {"type": "memory"}} for kind in SERVICE_KINDS}
    async with composed(tables, registry) as store:
        services = await store.services()
        await services.blobs.put_many([HELLO])
        assert await (await store.blobs(name)).has(HELLO.digest)


async def test_a_file_that_says_default_can_be_referred_to_as_root(registry: Registry) -> None:
    """What ``nix`` refers to if nothing is said is ``default`` in older files."""
    tables: dict[str, Any] = {kind.value: {"default": {"type": "memory"}} for kind in SERVICE_KINDS}
    tables["pathinfoservices"]["default"] = {"type": "nix", "base_url": "https://cache.nixos.org"}
    async with composed(tables, registry) as store:
        await store.services()


@pytest.mark.parametrize(("near", "far"), [("near", "far"), ("local", "remote")])
async def test_both_names_of_the_sides_of_combined_are_known(registry: Registry, near: str, far: str) -> None:
    text = f"""
        [blobservices.root]
        {far} = "b"
        {near} = "a"
        type = "combined"
        [blobservices.a]
        type = "memory"
        [blobservices.b]
        type = "memory"
    """
    async with composed(text, registry) as store:
        await (await store.blobs()).put_many([HELLO])
        assert await (await store.blobs("a")).has(HELLO.digest)
        assert not await (await store.blobs("b")).has(HELLO.digest)


async def test_every_type_that_both_have_is_built_of_the_keys_of_the_reference(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEYS[0][0]}\n")
    text = f"""
        [blobservices]
        root = {{ type = "combined", near = "near", far = "far" }}
        near = {{ type = "memory" }}
        far = {{ type = "grpc", url = "grpc+unix://{tmp_path}/far.sock" }}
        [directoryservices]
        root = {{ type = "cache", near = "near", far = "far" }}
        near = {{ type = "memory" }}
        far = {{ type = "grpc", url = "grpc+unix://{tmp_path}/far.sock" }}
        [pathinfoservices]
        root = {{ type = "keyfile-signing", inner = "cache", keyfile = "{tmp_path}/key" }}
        cache = {{ type = "cache", near = "near", far = "far" }}
        near = {{ type = "lru", capacity = 10 }}
        far = {{ type = "grpc", url = "grpc+unix://{tmp_path}/far.sock" }}
    """
    far = memory_services()
    async with serving(far, tmp_path / "far.sock"), composed(text, registry) as store:
        services = await store.services()
        await far.blobs.put_many([HELLO])
        await far.path_infos.put(PATH_INFO)
        assert await read_blob(services.blobs, HELLO.digest) == HELLO.data
        assert await services.path_infos.get(PATH_INFO.store_path.digest) == PATH_INFO


async def test_names_may_be_any_text(registry: Registry) -> None:
    text = """
        [blobservices.root]
        type = "combined"
        near = "a disk, büro.1"
        far = "memory://"
        [blobservices."a disk, büro.1"]
        type = "memory"
    """
    async with composed(text, registry) as store:
        await (await store.blobs()).put_many([HELLO])
        assert await (await store.blobs("a disk, büro.1")).has(HELLO.digest)


# Sharing


async def test_concurrent_builds_give_the_identical_service(registry: Registry) -> None:
    text = """
        [blobservices.root]
        type = "combined"
        near = "memory://"
        far = "memory://"
    """
    async with composed(text, registry) as store, asyncio.TaskGroup() as group:
        first, second = (group.create_task(store.blobs()) for _ in range(2))
    assert first.result() is second.result()


async def test_two_references_to_one_name_are_one_service(registry: Registry) -> None:
    text = """
        [blobservices.root]
        type = "combined"
        near = "a"
        far = "b"
        [blobservices.a]
        type = "readonly"
        inner = "disk"
        [blobservices.b]
        type = "combined"
        near = "disk"
        far = "disk"
        [blobservices.disk]
        type = "memory"
    """
    async with composed(text, registry) as store:
        await (await store.blobs("b")).put_many([HELLO])
        assert await (await store.blobs("a")).has(HELLO.digest)
        assert len([entry for entry in await store.composition.entries() if entry.config.type == "memory"]) == 1


async def test_each_occurrence_of_a_url_is_a_service_of_its_own(registry: Registry) -> None:
    text = """
        [blobservices.root]
        type = "cache"
        near = "memory://"
        far = "memory://"
    """
    async with composed(text, registry) as store:
        await (await store.blobs()).put_many([HELLO])
        held = {
            str(entry.entry_id): await list_blobs(entry.service)  # type: ignore[arg-type]
            for entry in await store.composition.entries()
            if entry.entry_id.owner is not None
        }
    assert held == {"[blobservices.root] near": [HELLO.digest], "[blobservices.root] far": []}


async def test_occurrences_of_the_url_of_a_file_hold_the_same(registry: Registry, tmp_path: Path) -> None:
    """There, the second would wait for the lock of the first, or fail."""
    url = f"sqlite://{tmp_path}/with%20space.sqlite"
    text = f"""
        [blobservices]
        root = {{ type = "combined", near = "{url}", far = "{url}" }}
        other = {{ type = "combined", near = "{url}", far = "memory://" }}
    """
    async with composed(text, registry) as store:
        await (await store.blobs()).put_many([HELLO])
        assert await (await store.blobs("other")).has(HELLO.digest)
    assert (tmp_path / "with space.sqlite").exists()  # escapes are decoded, there they are not


async def test_entries_that_are_not_used_are_checked_and_not_built(registry: Registry, tmp_path: Path) -> None:
    spare = f'\n[blobservices.spare]\ntype = "fs"\npath = "{tmp_path}/spare"\n'
    text = '[blobservices.root]\ntype = "memory"' + spare + METADATA
    async with composed(text, registry) as store:
        await store.services()
    assert not (tmp_path / "spare").exists()
    with pytest.raises(ConfigError, match=r"\[blobservices.spare\]: .*unknown key 'pat'"):
        parsed(text.replace("path", "pat"), registry)


async def test_a_build_that_failed_fails_again_in_the_same_way(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = f"""
        [blobservices.root]
        type = "cache"
        near = "disk"
        far = "memory://"
        [blobservices.disk]
        type = "fs"
        path = "{tmp_path}/file/below"
    """
    async with composed(text, registry) as store:
        errors = []
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                await store.blobs()
            errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert errors[0].startswith("store.toml: [blobservices.disk]: ")
    assert errors[0].count("store.toml") == 1


# Circles and names that lead nowhere


def combined(**sides: tuple[str, str]) -> str:
    return "\n".join(
        f'[blobservices.{name}]\ntype = "combined"\nnear = "{near}"\nfar = "{far}"'
        for name, (near, far) in sides.items()
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (
            combined(root=("other", "other"), other=("root", "root")),
            "[blobservices.root] -> [blobservices.other] -> [blobservices.root]",
        ),
        (  # where the reference waits for ever
            combined(root=("a", "b"), a=("memory://", "b"), b=("memory://", "a")),
            "[blobservices.a] -> [blobservices.b] -> [blobservices.a]",
        ),
        (
            combined(root=("combined://?near=root&far=memory://", "memory://")),
            "[blobservices.root] -> [blobservices.root] near -> [blobservices.root]",
        ),
    ],
    ids=["the reference's", "where it waits", "through a URL"],
)
def test_a_circle_is_an_error_that_shows_all_of_it(registry: Registry, text: str, path: str) -> None:
    config = parsed(text, registry)
    with pytest.raises(ConfigError) as caught:
        config.check(registry)
    assert str(caught.value) == f"store.toml: entries refer to each other in a circle: {path}"


def test_a_name_that_leads_nowhere_is_shown_with_kind_and_key(registry: Registry) -> None:
    text = combined(root=("disk", "dsk")) + '\n[blobservices.disk]\ntype = "memory"'
    with pytest.raises(ConfigError) as caught:
        parsed(text, registry).check(registry)
    message = "[blobservices.root] far: there is no blob service 'dsk'; did you mean 'disk'? There are: disk, root"
    assert str(caught.value) == f"store.toml: {message}"


async def test_the_root_of_one_kind_may_need_that_of_another(registry: Registry) -> None:
    text = """
        [blobservices.root]
        type = "memory"
        [directoryservices.root]
        type = "memory"
        [pathinfoservices.root]
        type = "nix"
        base_url = "https://cache.nixos.org"
        blob_service = "root"
        directory_service = "root"
    """
    async with composed(text, registry) as store:
        await store.services()
        assert {str(entry.entry_id) for entry in await store.composition.entries()} == {
            f"[{kind.value}.root]" for kind in SERVICE_KINDS
        }


# Strictness


@pytest.mark.parametrize(
    ("table", "entry"),
    [
        ("pathinfoservices", {"type": "nix", "base_url": "https://cache.nixos.org"}),
        ("pathinfoservices", {"type": "cache", "near": "memory://", "far": "memory://"}),
        ("pathinfoservices", {"type": "keyfile-signing", "inner": "memory://", "keyfile": "/key"}),
    ],
)
def test_keys_that_the_reference_lets_pass_are_errors(registry: Registry, table: str, entry: dict[str, object]) -> None:
    document = {table: {"root": entry}}
    parsed(document, registry)
    with pytest.raises(ConfigError, match=rf"\[{table}.root\]: unknown key 'other'"):
        parsed({table: {"root": {**entry, "other": 1}}}, registry)


def test_tables_that_the_reference_lets_pass_are_errors(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"unknown table \[blobservice\]; did you mean 'blobservices'"):
        parsed('[blobservice.root]\ntype = "memory"', registry)


async def test_a_table_may_be_left_out_as_long_as_nobody_needs_it(registry: Registry) -> None:
    async with composed('[blobservices.root]\ntype = "memory"', registry) as store:
        assert [entry.config.type for entry in await store.composition.entries()] == ["memory"]
        with pytest.raises(ConfigError, match=r"no \[directoryservices.root\]"):
            await store.services()


@pytest.mark.parametrize(
    ("table", "entry"),
    [
        ("pathinfoservices", {"type": "nix", "base_url": "https://cache.nixos.org"}),  # both services have to be said
        ("pathinfoservices", {"type": "lru"}),  # so does capacity
    ],
)
def test_keys_that_the_reference_asks_for_may_be_left_out(
    registry: Registry, table: str, entry: dict[str, object]
) -> None:
    assert parsed({table: {"root": entry}}, registry).entries


@pytest.mark.parametrize(
    ("root", "key"),
    [
        ({"type": "cache", "near": "upstream", "far": "memory://"}, "near"),
        ({"type": "keyfile-signing", "inner": "upstream", "keyfile": "/key"}, "inner"),
    ],
)
def test_what_cannot_work_is_an_error_before_anything_is_asked_for(
    registry: Registry, root: dict[str, object], key: str
) -> None:
    """There, at the first put."""
    tables: dict[str, Any] = {kind.value: {"root": {"type": "memory"}} for kind in SERVICE_KINDS}
    tables["pathinfoservices"] = {"root": root, "upstream": {"type": "nix", "base_url": "https://cache.nixos.org"}}
    with pytest.raises(ConfigError, match=rf"\[pathinfoservices.root\] {key}: it does not take puts"):
        parsed(tables, registry).check(registry)


# URLs

UNKNOWN = ("unknown", "unknown", "unknown")
OURS = {
    "cache://?near=memory://&far=memory://": ("yes", "yes", "yes"),
    "combined://?near=memory://&far=memory://": ("yes", "yes", "yes"),
    "lru://?capacity=10": ("yes", "yes", "yes"),
    "nix://host": ("unknown", "unknown", "no"),
}
"""Where ours differ, but for types that we do not have."""


async def verdicts(registry: Registry, url: str) -> tuple[str, ...]:
    return tuple([await _verdict(registry, position, url) for position in range(len(SERVICE_KINDS))])


async def _verdict(registry: Registry, position: int, url: str) -> str:
    urls = ["memory://"] * len(SERVICE_KINDS)
    urls[position] = url
    blobs, directories, path_infos = urls
    try:
        config = StoreConfig.from_urls(blobs, directories, path_infos, registry, "test")
    except ConfigError as exc:
        return "unknown" if "unknown type" in str(exc) else "no"
    try:
        async with Composition(config, registry) as composition:
            await composition.services()
    except Unavailable:
        return "no"
    return "yes"


@pytest.mark.parametrize("url", URLS)
async def test_urls(registry: Registry, url: str) -> None:
    is_ours = not url.startswith(("redb:", "objectstore", "bigtable:"))
    assert await verdicts(registry, url) == (OURS.get(url, URLS[url]) if is_ours else UNKNOWN)


@pytest.mark.parametrize("url", [url for url in URLS if url.startswith("redb:")])
async def test_urls_of_sqlite_are_those_of_redb(registry: Registry, tmp_path: Path, url: str) -> None:
    _, *expected = URLS[url]
    ours = url.replace("redb:", "sqlite:").replace("/path/file", f"{tmp_path}/made/for/it")
    assert list(await verdicts(registry, ours)) == [expected[0], *expected]  # it is one of blobs, too


async def test_services_given_as_urls_are_the_roots_that_nix_refers_to(registry: Registry) -> None:
    config = StoreConfig.from_urls("memory://", "memory://", "nix+https://cache.nixos.org", registry, "test")
    graph = config.check(registry)
    assert {(str(reference.key), str(target)) for _, reference, target in graph.edges} == {
        ("blob_service", "[blobservices.root]"),
        ("directory_service", "[directoryservices.root]"),
    }


async def test_a_url_in_a_url_that_has_parameters_is_encoded(registry: Registry) -> None:
    text = """
        [blobservices.root]
        type = "combined"
        near = "memory://"
        far = "cache://?near=lru%3A%2F%2F%3Fcapacity%3D1%26max_bytes%3D65536&far=disk&write=far"
        [blobservices.disk]
        type = "memory"
    """
    async with composed(text, registry) as store:
        digest = await write_blob(await store.blobs("disk"), b"far")
        assert await read_blob(await store.blobs(), digest) == b"far"
        names = {str(entry.entry_id): entry.config for entry in await store.composition.entries()}
    assert names["[blobservices.root] far near"].model_dump() == {"type": "lru", "capacity": 1, "max_bytes": 65536}


async def test_parameters_that_nix_does_not_know_are_errors(registry: Registry) -> None:
    assert await verdicts(registry, "nix+https://cache.nixos.org?priority=1") == ("unknown", "unknown", "no")


def test_a_password_in_a_url_is_not_shown(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed('[pathinfoservices.root]\ntype = "nix"\nbase_url = "ftp://user:hidden@host"', registry)
    assert "hidden" not in str(caught.value)
