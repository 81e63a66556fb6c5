from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tvix_store.cli.stores import embedded_default
from tvix_store.config import Kind
from tvix_store.config_schema import json_schema
from tvix_store.errors import ConfigError
from tvix_store.presets import PRESETS
from tvix_store.registry import Registry
from tvix_store.store_config import SERVICE_KINDS, StoreConfig

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def load(registry: Registry, folder: Path, text: str, environment: dict[str, str] | None = None) -> StoreConfig:
    path = folder / "store.toml"
    path.write_text(text)
    return StoreConfig.load(path, registry, environment or {})


def error(registry: Registry, folder: Path, text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(registry, folder, text, environment)
    return str(caught.value).removeprefix(f"{folder}/store.toml: ")


def test_proxy_is_the_example(registry: Registry, tmp_path: Path) -> None:
    config = load(registry, tmp_path, 'preset = "proxy"\n[options]\ndir = "/var/lib/tvix-store"')
    assert config.entries == StoreConfig.load(EXAMPLES / "proxy.toml", registry).entries


def test_local_is_the_embedded_default(registry: Registry, tmp_path: Path) -> None:
    config = load(registry, tmp_path, f'preset = "local"\n[options]\ndir = "{tmp_path}"')
    assert config.entries == embedded_default(registry, tmp_path).entries


SMALLEST: dict[str, dict[str, Any]] = {
    "local": {"dir": "/srv/a"},
    "proxy": {"dir": "/srv/a"},
    "ci-cache": {"dir": "/srv/a", "upstream": "grpc+http://store.example:8000"},
    "mirror": {"dirs": ["/srv/a", "/srv/b"]},
}
"""What has to be said of each preset."""


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_works_with_the_least_that_has_to_be_said(registry: Registry, tmp_path: Path, name: str) -> None:
    options = "\n".join(f"{key} = {value!r}" for key, value in SMALLEST[name].items())
    config = load(registry, tmp_path, f"preset = '{name}'\n[options]\n{options}")
    graph = config.check(registry)
    assert all(config.root(kind) for kind in SERVICE_KINDS)
    assert config.entries[Kind.FRONTEND]
    assert config.unused(graph) == []


EVERYTHING: dict[str, dict[str, Any]] = {
    "local": {"grpc_listen": "/run/a", "listen": "/run/b"},
    "proxy": {"upstream": "https://x", "public_keys": [], "listen": "/run/b", "grpc_listen": "/run/a"},
    "ci-cache": {
        "write": "far",
        "timeout_s": 1.0,
        "attempts": 7,
        "negative_ttl_s": 2.0,
        "grpc_listen": "/run/a",
        "listen": "/run/b",
    },
    "mirror": {
        "urls": ["grpc+http://x"],
        "min_writes": 2,
        "state": "/srv/a/state",
        "grpc_listen": "/run/a",
        "listen": "/run/b",
    },
}
"""The options that have a default."""


def values(value: object) -> Iterator[object]:
    """All that is in a document, but for its keys."""
    match value:
        case dict():
            for item in value.values():
                yield from values(item)
        case list():
            for item in value:
                yield from values(item)
        case _:
            yield value


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_option_reaches_the_entries(registry: Registry, name: str) -> None:
    preset = PRESETS[name]
    options = {**SMALLEST[name], **EVERYTHING[name]}
    assert set(options) == set(preset.model_fields)
    document = preset(**options).expand()
    StoreConfig.parse(document, registry, "test").check(registry)
    found = list(values(document))
    assert [value for value in values(EVERYTHING[name]) if value not in found] == []


def test_the_entries_of_a_mirror_are_its_folders_and_urls(registry: Registry, tmp_path: Path) -> None:
    options = 'dirs = ["/srv/a", "/srv/b"]\nurls = ["grpc+http://x"]'
    config = load(registry, tmp_path, f'preset = "mirror"\n[options]\n{options}')
    for kind in SERVICE_KINDS:
        targets = [reference.target for reference in config.entries[kind]["root"].references()]
        assert targets == ["disk1", "disk2", "grpc+http://x"]


def test_what_a_build_machine_asks_of_the_shared_store_is_bounded(registry: Registry, tmp_path: Path) -> None:
    options = 'dir = "/srv/a"\nupstream = "grpc+http://x"'
    config = load(registry, tmp_path, f'preset = "ci-cache"\n[options]\n{options}')
    for kind in SERVICE_KINDS:
        types = [config.entries[kind][name].type for name in ("root", "shared", "shared-in-time", "upstream")]
        assert types == ["cache", "retry", "timeout", "grpc"]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_options_are_described(name: str) -> None:
    assert PRESETS[name].__doc__
    assert all(field.description for field in PRESETS[name].model_fields.values())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_schema_knows_presets(registry: Registry, name: str) -> None:
    schema = json_schema(registry)
    assert name in schema["properties"]["preset"]["enum"]
    (options,) = [one["then"] for one in schema["allOf"] if one["if"]["properties"]["preset"]["const"] == name]
    model = schema["$defs"][options["properties"]["options"]["$ref"].removeprefix("#/$defs/")]
    assert set(model["properties"]) == set(PRESETS[name].model_fields)


def test_an_entry_of_the_file_is_added_or_replaces_that_of_the_preset(registry: Registry, tmp_path: Path) -> None:
    text = """
    preset = "proxy"
    options.dir = "/srv/a"
    blobservices.root = { type = "memory" }
    frontends.daemon = { type = "grpc", listen = "/run/a.sock" }
    """
    config = load(registry, tmp_path, text)
    assert config.entries[Kind.BLOB]["root"].type == "memory"
    assert set(config.entries[Kind.FRONTEND]) == {"daemon", "http"}
    assert set(config.entries[Kind.PATH_INFO]) == {"root", "disk", "upstream"}


def test_options_may_refer_to_what_is_outside_of_the_file(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://user:hunter2@cache.example\n")
    text = f"""
    preset = "proxy"
    [options]
    dir = "${{HERE}}/store"
    upstream = {{ file = "{tmp_path}/url" }}
    public_keys = []
    """
    config = load(registry, tmp_path, text, {"HERE": "/srv/a"})
    upstream = config.entries[Kind.PATH_INFO]["upstream"].model_dump()
    assert upstream["base_url"] == "https://user:hunter2@cache.example"
    document = {"blobservices": {"root": config.entries[Kind.BLOB]["root"].model_dump()}}
    assert config.references.as_written(document)["blobservices"]["root"]["path"] == "${HERE}/store/blobs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "porxy"', "unknown preset 'porxy'; did you mean 'proxy'? There are: "),
        ("preset = 3", "preset must be a string; there are: "),
        ('presets = "proxy"', "unknown key 'presets'; did you mean 'preset'? There are: "),
        ("[options]\ndir = '/a'", '[options] without a preset; add preset = "local"'),
        ('preset = "local"\noptions = 3', "options must be a table"),
        ('preset = "local"', "[options]: dir is missing"),
        ('preset = "local"\noptions.dri = "/a"', "[options]: dir is missing; unknown key 'dri'; did you mean 'dir'?"),
        ('preset = "local"\noptions.dir = 3', "[options]: dir: input should be a valid string"),
        (
            'preset = "proxy"\noptions.dir = "/a"\noptions.upstream = "https://x"',
            "[options]: public_keys is missing: whose signatures count in what comes from upstream",
        ),
        (
            'preset = "mirror"\noptions.dirs = ["/a"]',
            "[options]: dirs and urls: there are 1 of them, and it takes two to mirror anything",
        ),
        (
            'preset = "mirror"\noptions.dirs = ["/a", "/b"]\noptions.min_writes = 3',
            "[options]: min_writes: there are only 2 dirs and urls",
        ),
        ('preset = "local"\noptions.dir = "${A}"', "[options] dir: the environment variable A is not set"),
        ('preset = "local"\noptions.dir = "/a"\nfrontends = 3', "[frontends] must be a table of entries"),
    ],
)
def test_a_mistake_is_named(registry: Registry, tmp_path: Path, text: str, message: str) -> None:
    assert error(registry, tmp_path, text).startswith(message)


def test_a_file_cannot_be_a_part_of_a_path(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "dir").write_text("/srv/a")
    message = error(registry, tmp_path, f'preset = "local"\noptions.dir = {{ file = "{tmp_path}/dir" }}')
    assert message.endswith("cannot be part of a path or a URL; write a string")


def test_values_are_not_in_errors_about_options(registry: Registry, tmp_path: Path) -> None:
    text = 'preset = "proxy"\noptions.dir = "/a"\noptions.public_keys = ["${KEY}"]'
    assert "hunter2" not in error(registry, tmp_path, text, {"KEY": "hunter2"})


def test_the_presets_of_the_page_work(registry: Registry, tmp_path: Path) -> None:
    page = (EXAMPLES.parent / "docs" / "configuration.md").read_text()
    blocks = re.findall(r"^```toml\n(preset.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        load(registry, tmp_path, block).check(registry)
    options = {option for preset in PRESETS.values() for option in preset.model_fields}
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (?:`|all)", page, re.MULTILINE)
    assert {option for row in rows for option in re.findall(r"\w+", row)} - set(PRESETS) == options
