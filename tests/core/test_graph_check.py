"""Whether services fit together is seen before any of them is built."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tvix_store.capabilities import Capabilities, Durability
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.errors import ConfigError, Unsupported
from tvix_store.registry import Registry
from tvix_store.store_config import EntryId, Graph, StoreConfig
from tvix_store.testing.fixtures import PATH_INFO

REGISTRY = Registry.load()


def parse(text: str) -> StoreConfig:
    return StoreConfig.parse(tomllib.loads(text), REGISTRY, "store.toml")


def check(text: str) -> Graph:
    return parse(text).check(REGISTRY)


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(text)
    return str(caught.value).removeprefix("store.toml: ")


READONLY_NEAR = """
[blobservices.root]
type = "cache"
near = "fixed"
far = "memory://"
[blobservices.fixed]
type = "readonly"
inner = "memory://"
"""


def test_a_misfit_names_entry_and_key() -> None:
    assert error(READONLY_NEAR).startswith("[blobservices.root] near: it does not take puts")


def test_a_misfit_further_down_is_found() -> None:
    outer = '[blobservices.outer]\ntype = "readonly"\ninner = "root"\n'
    assert error(outer + READONLY_NEAR).startswith("[blobservices.root] near: ")


def test_a_misfit_in_a_url_is_named_with_the_keys_that_lead_to_it() -> None:
    far = "cache://?near=fixed&far=memory://"
    text = READONLY_NEAR.replace('near = "fixed"', 'near = "memory://"').replace('far = "memory://"', f'far = "{far}"')
    assert error(text).startswith("[blobservices.root] far near: it does not take puts")


def test_what_is_not_known_is_no_misfit() -> None:
    text = READONLY_NEAR.replace('type = "readonly"\ninner = "memory://"', 'type = "grpc"\nurl = "grpc+http://x"')
    graph = check(text)
    assert graph.capabilities[EntryId(Kind.BLOB, "fixed")] is None
    assert graph.capabilities[EntryId(Kind.BLOB, "root")] is None


def test_capabilities_go_up_through_every_entry() -> None:
    graph = check('[blobservices.a]\ntype = "readonly"\ninner = "b"\n[blobservices.b]\ntype = "fs"\npath = "/srv/a"')
    stated = Capabilities(put=False, list=True, delete=False, chunks=True, verifies=True, durability=Durability.COMMIT)
    assert graph.capabilities[EntryId(Kind.BLOB, "a")] == stated


def test_an_upstream_needs_somewhere_to_put_what_it_fetches() -> None:
    text = """
    [pathinfoservices.root]
    type = "nix"
    base_url = "https://cache.example"
    blob_service = "fixed"
    directory_service = "memory://"
    [blobservices.fixed]
    type = "readonly"
    inner = "memory://"
    """
    assert error(text) == (
        "[pathinfoservices.root] blob_service: it does not take puts, and what is fetched is put there"
    )


def test_what_takes_no_puts_cannot_be_signed() -> None:
    inner = "nix+https://cache.example?blob_service=memory://&directory_service=memory://"
    text = f'[pathinfoservices.root]\ntype = "keyfile-signing"\nkeyfile = "/k"\ninner = "{inner}"'
    assert error(text) == "[pathinfoservices.root] inner: it does not take puts, so nothing would ever be signed"


@pytest.mark.anyio
async def test_an_upstream_takes_no_puts() -> None:
    url = "nix+https://cache.example?blob_service=memory://&directory_service=memory://"
    config = StoreConfig.from_urls("memory://", "memory://", url, REGISTRY, "test")
    async with Composition(config, REGISTRY) as composition:
        path_infos = (await composition.services()).path_infos
        assert not path_infos.capabilities.put
        with pytest.raises(Unsupported):
            await path_infos.put(PATH_INFO)


# --- entries that nobody needs ---


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ('[blobservices.root]\ntype = "memory"', []),
        ('[blobservices.default]\ntype = "memory"', []),
        ('[blobservices.root]\ntype = "memory"\n[blobservices.default]\ntype = "memory"', ["[blobservices.default]"]),
        (
            '[blobservices.root]\ntype = "memory"\n[blobservices.a]\ntype = "readonly"\ninner = "b"\n'
            '[blobservices.b]\ntype = "memory"',
            ["[blobservices.a]", "[blobservices.b]"],
        ),
        (
            '[blobservices.root]\ntype = "readonly"\ninner = "readonly://?inner=a"\n[blobservices.a]\ntype = "memory"',
            [],
        ),
        ('[blobservices.a]\ntype = "memory"\n[pathinfoservices.root]\ntype = "nix"\nbase_url = "https://x"\n'
         'blob_service = "a"\ndirectory_service = "memory://"', []),
        ('[frontends.a]\ntype = "grpc"', []),
    ],
)  # fmt: skip
def test_entries_that_are_not_used_are_found(text: str, unused: list[str]) -> None:
    if "readonly://" in text:
        text = text.replace("readonly://?inner=a", "cache://?near=memory://&far=a")
    config = parse(text)
    assert [str(entry_id) for entry_id in config.unused(config.check(REGISTRY))] == unused


# --- names of other kinds ---


def test_a_name_of_another_kind_is_said_to_be_one() -> None:
    text = """
    [pathinfoservices.root]
    type = "nix"
    base_url = "https://cache.example"
    blob_service = "disk"
    [directoryservices.disk]
    type = "memory"
    [pathinfoservices.disk]
    type = "memory"
    """
    assert error(text) == (
        "[pathinfoservices.root] blob_service: there is no blob service 'disk'; there is a directory service and a "
        "path info service of that name; this key wants a blob service"
    )


def test_all_examples_fit_together(tmp_path: Path) -> None:
    (tmp_path / "cache-url").write_text("https://cache.example")
    environment = {"CACHE_PASSWORD": "secret", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.toml")):
        config = StoreConfig.load(path, REGISTRY, environment)
        assert config.unused(config.check(REGISTRY)) == [], path


# --- who answers a read ---


@pytest.mark.parametrize(
    ("settings", "in_order"),
    [
        ('type = "memory"', False),
        ('type = "cache"\nnear = "memory://"\nfar = "memory://"', True),
        ('type = "verify"\ninner = "memory://"\nrefetch = "memory://"', True),
        ('type = "fallback"\nservices = ["memory://", "memory://"]', True),
        ('type = "mirror"\nreplicas = ["memory://", "memory://"]', False),
        ('type = "mirror"\nreplicas = ["memory://", "memory://"]\nspread_reads = "first"', True),
        ('type = "shard"\nshards = { a = "memory://", b = "memory://" }', False),
        ('type = "route"\nsmall = "memory://"\nlarge = "memory://"', True),
        ('type = "route"\nread = "memory://"\nwrite = "memory://"', False),
    ],
)
def test_whether_reads_go_in_order_is_known(settings: str, in_order: bool) -> None:
    assert parse(f"[blobservices.root]\n{settings}").entries[Kind.BLOB]["root"].reads_in_order is in_order
