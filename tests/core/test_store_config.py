from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fakes import plugin as fake_plugin
from fakes.plugin import PlainBlobs
from tvix_store.config import Kind, Reference
from tvix_store.config_schema import json_schema
from tvix_store.errors import ConfigError
from tvix_store.registry import Registry
from tvix_store.store_config import EntryId, StoreConfig


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(fake_plugin)
    return registry


def parse(registry: Registry, text: str) -> StoreConfig:
    return StoreConfig.parse(tomllib.loads(textwrap.dedent(text)), registry, "store.toml")


def error(registry: Registry, text: str) -> str:
    """What is said about a document that cannot work."""
    with pytest.raises(ConfigError) as caught:
        parse(registry, text).check(registry)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("store.toml: ")
    return message.removeprefix("store.toml: ")


# --- reading the file ---


def test_a_file_becomes_entries(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "store.toml"
    path.write_text('[blobservices.root]\nmax_bytes = 3\ntype = "plain"\n')
    config = StoreConfig.load(path, registry)
    assert config.source == str(path)
    assert list(config) == [(EntryId(Kind.BLOB, "root"), PlainBlobs(type="plain", max_bytes=3))]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[blobservices", "not a TOML file: Expected ']'"),
        (b"[a]\n[a]\n", "not a TOML file: Cannot declare"),
        (b"# \xff\n", "not a TOML file: 'utf-8' codec can't decode"),
    ],
)
def test_what_is_not_toml(registry: Registry, tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "store.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        StoreConfig.load(path, registry)
    assert str(caught.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize(("name", "reason"), [("absent", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(registry: Registry, tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{reason}$"):
        StoreConfig.load(tmp_path / name, registry)


# --- tables, types and keys ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[blobservice.root]", "unknown table [blobservice]; did you mean 'blobservices'? There are: "),
        (
            "x = 1",
            "unknown key 'x'; there are: blobservices, directoryservices, frontends, options, pathinfoservices, preset",
        ),
        ("blobservices = 3", "[blobservices] must be a table of entries, such as [blobservices.root]"),
        ("[[blobservices]]", "[blobservices] must be a table of entries"),
        ("[blobservices]\nroot = 'plain://'", "[blobservices.root] must be a table with a type"),
        (
            "[blobservices.root]",
            "[blobservices.root]: type is missing; there are: bottomless, endless, hiding, many, pair",
        ),
        ("[blobservices.root]\ntype = 3", "[blobservices.root]: type must be a string; there are: "),
        (
            "[blobservices.root]\ntype = 'plian'",
            "[blobservices.root]: unknown type 'plian' of blob service; did you mean 'plain'?",
        ),
        (
            "[directoryservices.root]\ntype = 'many'",
            "[directoryservices.root]: unknown type 'many' of directory service; there are: plain",
        ),
        (
            "[blobservices.root]\ntype = 'plain'\nmaxbytes = 1",
            "[blobservices.root]: unknown key 'maxbytes'; did you mean 'max_bytes'? There are: ",
        ),
        ("[blobservices.root]\ntype = 'pair'\nnear = 'a'", "[blobservices.root]: far is missing"),
        (
            "[blobservices.root]\ntype = 'plain'\nmax_bytes = 'many'",
            "[blobservices.root]: max_bytes: input should be a valid integer",
        ),
        ("[blobservices.root]\ntype = 'plain'\nmax_bytes = 0", "max_bytes: input should be greater than or equal to 1"),
        ("[blobservices.root]\ntype = 'many'\nmembers = ['a', 3]", "members.1: input should be a valid string"),
        ('[blobservices."a b.c"]\ntype = 3', '[blobservices."a b.c"]: type must be'),
        ('[blobservices."a\\nb"]\ntype = 3', '[blobservices."a\\nb"]: type must be'),
    ],
)
def test_a_mistake_is_named_with_section_and_key(registry: Registry, text: str, message: str) -> None:
    assert message in error(registry, text)


def test_all_mistakes_of_an_entry_are_named(registry: Registry) -> None:
    message = error(registry, "[blobservices.root]\ntype = 'pair'\nnaer = 'a'\nfar = 3")
    assert message.startswith("[blobservices.root]: near is missing; far: input should be a valid string; unknown key")


@pytest.mark.parametrize("line", ["secret = 12345678", "max_bytes = 'hunter12345678'", "unknown = 'hunter12345678'"])
def test_values_are_not_repeated(registry: Registry, line: str) -> None:
    assert "12345678" not in error(registry, f"[blobservices.root]\ntype = 'plain'\n{line}")


def test_frontends_are_entries_too(registry: Registry) -> None:
    config = parse(registry, "[frontends.main]\ntype = 'stub'")
    assert config.entries[Kind.FRONTEND]["main"].type == "stub"


# --- roots ---


@pytest.mark.parametrize(
    ("names", "root"), [(["root"], "root"), (["default"], "default"), (["default", "root"], "root")]
)
def test_root_or_the_older_default_is_served(registry: Registry, names: list[str], root: str) -> None:
    config = parse(registry, "\n".join(f"[blobservices.{name}]\ntype = 'plain'" for name in names))
    assert config.root(Kind.BLOB) == EntryId(Kind.BLOB, root)


def test_a_missing_root_says_what_there_is(registry: Registry) -> None:
    config = parse(registry, "[blobservices.rot]\ntype = 'plain'")
    with pytest.raises(ConfigError, match=r"store.toml: no \[blobservices.root\]; did you mean 'rot'\?"):
        config.root(Kind.BLOB)
    with pytest.raises(ConfigError, match=r"no \[directoryservices.root\]; the table \[directoryservices\] is missing"):
        config.root(Kind.DIRECTORY)


def test_root_as_a_reference_means_default_where_there_is_no_root(registry: Registry) -> None:
    config = parse(
        registry,
        """
        [blobservices.default]
        type = "plain"
        [pathinfoservices.default]
        type = "fetching"
        blob_service = "root"
        directory_service = "plain://"
        """,
    )
    targets = [str(target) for _, _, target in config.check(registry).edges]
    assert targets == ["[blobservices.default]", "[pathinfoservices.default] directory_service"]


# --- URLs ---


def test_three_urls_are_three_roots(registry: Registry) -> None:
    blobs = "pair://?near=plain://&far=plain://"
    config = StoreConfig.from_urls(blobs, "plain://", "plain://", registry, "command line")
    assert [str(entry_id) for entry_id, _ in config] == [
        "[blobservices.root]",
        "[directoryservices.root]",
        "[pathinfoservices.root]",
    ]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("plain", "'plain' is not a URL: it has no scheme"),
        ("palin://", "'palin://': unknown type 'palin' of blob service; did you mean 'plain'?"),
        ("many://", "'many://': type 'many' has no URL form"),
        ("pair://?near=a", "'pair://?near=a': far is missing"),
        ("plain://?max_bytes=x", "'plain://?max_bytes=x': max_bytes: input should be a valid integer"),
        ("plain://?colour=red", "unknown key 'colour'; there are: max_bytes, secret, type"),
        ("plain://u:hunter2@h?max_bytes=1", "'plain://u:***@h?max_bytes=1': "),
    ],
)
def test_a_wrong_url_says_why(registry: Registry, url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StoreConfig.from_urls(url, "plain://", "plain://", registry, "command line")
    assert str(caught.value).startswith("command line: ")
    assert message in str(caught.value)


# --- references ---


def test_references_by_name_and_url_are_followed(registry: Registry) -> None:
    config = parse(
        registry,
        """
        [blobservices.root]
        type = "pair"
        near = "disk"
        far = "pair://?near=disk&far=plain://"
        [blobservices.disk]
        type = "plain"
        """,
    )
    assert [f"{owner} {reference.key} -> {target}" for owner, reference, target in config.check(registry).edges] == [
        "[blobservices.root] near -> [blobservices.disk]",
        "[blobservices.root] far -> [blobservices.root] far",
        "[blobservices.root] far near -> [blobservices.disk]",
        "[blobservices.root] far far -> [blobservices.root] far far",
    ]


def test_entries_of_equal_names_have_anonymous_entries_of_their_own(registry: Registry) -> None:
    owners = EntryId(Kind.BLOB, "root"), EntryId(Kind.PATH_INFO, "root"), EntryId(Kind.BLOB, "root.near")
    config = StoreConfig("x")
    reference = Reference("near", Kind.BLOB, "plain://")
    found = {config.resolve(owner, reference, registry)[0] for owner in owners}
    assert len({*found, *owners}) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[blobservices.root]\ntype = 'pair'\nnear = 'dsik'\nfar = 'disk'\n[blobservices.disk]\ntype = 'plain'",
            "[blobservices.root] near: there is no blob service 'dsik'; did you mean 'disk'?",
        ),
        (
            "[blobservices.root]\ntype = 'many'\nmembers = ['root2', 'x']\n[blobservices.root2]\ntype = 'plain'",
            "[blobservices.root] members[1]: there is no blob service 'x'; there are: root, root2",
        ),
        (
            "[pathinfoservices.root]\ntype = 'fetching'\nblob_service = 'root'",
            "[pathinfoservices.root] blob_service: there is no blob service 'root'; the table [blobservices] is",
        ),
        (
            "[blobservices.root]\ntype = 'pair'\nnear = 'plain://'\nfar = 'palin://'",
            "[blobservices.root] far: 'palin://': unknown type 'palin' of blob service; did you mean 'plain'?",
        ),
        (
            "[blobservices.root]\ntype = 'many'\nfallback = 'pair://?near=nobody&far=nobody'",
            "[blobservices.root] fallback near: there is no blob service 'nobody'",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(registry: Registry, text: str, message: str) -> None:
    assert message in error(registry, text)


def test_entries_that_are_not_used_are_checked_as_well(registry: Registry) -> None:
    text = "[blobservices.root]\ntype = 'plain'\n[blobservices.spare]\ntype = 'many'\nmembers = ['nobody']"
    assert "[blobservices.spare] members[0]: there is no" in error(registry, text)


# --- circles ---


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (
            "[blobservices.root]\ntype = 'many'\nmembers = ['root']",
            "[blobservices.root] -> [blobservices.root]",
        ),
        (
            "[blobservices.root]\ntype = 'pair'\nnear = 'other'\nfar = 'other'\n"
            "[blobservices.other]\ntype = 'pair'\nnear = 'root'\nfar = 'root'",
            "[blobservices.root] -> [blobservices.other] -> [blobservices.root]",
        ),
        (
            "[blobservices.root]\ntype = 'many'\nmembers = ['a']\n[blobservices.a]\ntype = 'many'\nmembers = ['b']\n"
            "[blobservices.b]\ntype = 'many'\nfallback = 'a'",
            "[blobservices.a] -> [blobservices.b] -> [blobservices.a]",
        ),
        (
            "[blobservices.root]\ntype = 'many'\nfallback = 'pair://?near=root&far=plain://'",
            "[blobservices.root] -> [blobservices.root] fallback -> [blobservices.root]",
        ),
        (
            "[blobservices.root]\ntype = 'many'\nfallback = 'pair://?near=pair%3A%2F%2F%3Fnear%3Droot%26far%3Dx&far=x'",
            "[blobservices.root] -> [blobservices.root] fallback -> [blobservices.root] fallback near "
            "-> [blobservices.root]",
        ),
        (
            "[pathinfoservices.root]\ntype = 'fetching'\nblob_service = 'plain://'\ndirectory_service = 'plain://'\n"
            "then = 'fetching://?blob_service=plain://&directory_service=plain://&then=root'",
            "[pathinfoservices.root] -> [pathinfoservices.root] then -> [pathinfoservices.root]",
        ),
        (
            "[blobservices.root]\ntype = 'endless'",
            "[blobservices.root] then -> [blobservices.root] then then",
        ),
    ],
)
def test_a_circle_is_refused_with_its_path(registry: Registry, text: str, path: str) -> None:
    assert error(registry, text) == f"entries refer to each other in a circle: {path}"


def test_a_circle_among_entries_that_are_not_used_is_refused(registry: Registry) -> None:
    text = "[blobservices.root]\ntype = 'plain'\n[blobservices.x]\ntype = 'many'\nmembers = ['x']"
    assert "circle: [blobservices.x] -> [blobservices.x]" in error(registry, text)


def test_one_entry_may_be_referred_to_often(registry: Registry) -> None:
    config = parse(
        registry,
        """
        [blobservices.root]
        type = "many"
        members = ["a", "b", "disk", "disk"]
        [blobservices.a]
        type = "many"
        members = ["b", "disk"]
        [blobservices.b]
        type = "many"
        members = ["disk"]
        [blobservices.disk]
        type = "plain"
        """,
    )
    assert len(config.check(registry).edges) == 7


# --- the schema ---


def accepts(schema: Any, value: object, root: Any) -> bool:
    """As much of JSON Schema as ours uses."""
    types: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root)
    if "oneOf" in schema and sum(accepts(one, value, root) for one in schema["oneOf"]) != 1:
        return False
    if "anyOf" in schema and not any(accepts(one, value, root) for one in schema["anyOf"]):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(accepts(schema.get("items", True), item, root) for item in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return set(schema.get("required", ())) <= set(value) and all(
            accepts(properties.get(key, schema.get("additionalProperties", True)), item, root)
            for key, item in value.items()
        )
    return True


@pytest.mark.parametrize(
    ("document", "good"),
    [
        ({}, True),
        ({"blobservices": {"root": {"type": "plain", "max_bytes": 3}}}, True),
        ({"blobservices": {"root": {"type": "many", "members": ["a"], "fallback": None}}}, True),
        ({"frontends": {"x": {"type": "stub"}}, "directoryservices": {"root": {"type": "plain"}}}, True),
        ({"blobservice": {}}, False),
        ({"blobservices": {"root": {}}}, False),
        ({"blobservices": {"root": {"type": "palin"}}}, False),
        ({"blobservices": {"root": {"type": "plain", "maxbytes": 3}}}, False),
        ({"blobservices": {"root": {"type": "plain", "max_bytes": "3"}}}, False),
        ({"directoryservices": {"root": {"type": "pair", "near": "a", "far": "b"}}}, False),
    ],
)
def test_the_schema_tells_good_documents_from_bad_ones(
    registry: Registry, document: dict[str, Any], good: bool
) -> None:
    schema = json_schema(registry)
    assert accepts(schema, document, schema) is good
    if good:
        StoreConfig.parse(document, registry, "x")


def test_the_schema_has_the_descriptions_of_the_models(registry: Registry) -> None:
    schema = json_schema(registry)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["PairBlobs"]["description"] == "Two blob services, built at the same time."


@pytest.mark.parametrize(
    ("entry", "good"),
    [
        ({"type": "plain", "secret": {"file": "/a"}}, True),
        ({"type": "plain", "secret": {"file": "/a", "more": 1}}, False),
        ({"type": {"file": "/a"}}, False),
        ({"type": "plain", "max_bytes": {"file": "/a"}}, False),
        ({"type": "many", "members": ["a", {"file": "/a"}], "fallback": {"file": "/b"}}, True),
        ({"type": "many", "by_name": {"file": "a"}}, True),
    ],
)
def test_the_schema_lets_files_stand_for_strings(registry: Registry, entry: dict[str, Any], good: bool) -> None:
    schema = json_schema(registry)
    assert accepts(schema, {"blobservices": {"root": entry}}, schema) is good


def test_an_interface_without_types_has_a_schema() -> None:
    schema = json_schema(Registry())
    assert accepts(schema, {"blobservices": {}}, schema)
    assert not accepts(schema, {"blobservices": {"root": {"type": "plain"}}}, schema)


def test_a_tag_that_two_claim_is_left_out_of_the_schema(registry: Registry) -> None:
    registry.add(fake_plugin, "another")
    schema = json_schema(registry)
    assert not accepts(schema, {"blobservices": {"root": {"type": "plain"}}}, schema)
