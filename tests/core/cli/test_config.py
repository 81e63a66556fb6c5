"""``config``: check, show, schema and graph."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from fakes.program import GOOD, Program, Toml
from tvix_store.cli import config as config_command


def test_config_check_of_a_good_file(program: Program, toml: Toml) -> None:
    path = toml(GOOD)
    assert program("config", "check", path).text == f"{path}: 3 entries, 0 references, no mistakes\n"


def test_config_check_can_open_the_stores(program: Program, config: Path, tmp_path: Path) -> None:
    assert program("config", "check", "--build", config).code == 0
    assert (tmp_path / "state" / "store.sqlite").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"memory"', '"memroy"', "[blobservices.root]: unknown type 'memroy' of blob service; did you mean 'memory'?"),
        ("[blobservices", "[blobservice", "unknown table [blobservice]; did you mean 'blobservices'?"),
        ("url =", "ulr =", "[pathinfoservices.root]: url is missing; unknown key 'ulr'; did you mean 'url'?"),
        ("[blobservices.root]", "[blobservices.rot]", "no [blobservices.root]; did you mean 'rot'"),
        ("grpc+http", "http", "[pathinfoservices.root]: url: "),
    ],
)
def test_config_check_of_a_mistake(program: Program, toml: Toml, old: str, new: str, message: str) -> None:
    path = toml(GOOD.replace(old, new, 1))
    assert program("config", "check", path).error(2).startswith(f"{path}: {message}")


def test_config_show_fills_in_the_defaults(program: Program, config: Path) -> None:
    shown = tomllib.loads(program("config", "show", config).text)
    assert shown["blobservices"]["root"]["durability"] == "none"
    assert shown["blobservices"]["root"]["max_readers"] == 4


def test_what_config_show_prints_means_the_same(program: Program, toml: Toml) -> None:
    shown = program("config", "show", toml(GOOD)).text
    assert program("config", "show", toml(shown)).text == shown


def test_config_show_without_a_file_shows_the_embedded_default(program: Program, tmp_path: Path) -> None:
    shown = tomllib.loads(program("config", "show").text)
    assert shown["blobservices"]["root"]["type"] == "fs"
    assert shown["pathinfoservices"]["root"]["path"] == str(tmp_path / "xdg" / "tvix-store" / "metadata.sqlite")
    assert shown["frontends"]["grpc"]["listen"] == "localhost:8000"


def test_config_show_masks_secrets() -> None:
    masked = config_command._masked({"urls": ["s3://a:b@c"], "n": 1})
    assert masked == {"urls": ["s3://a:***@c"], "n": 1}


def test_config_schema_is_json(program: Program) -> None:
    schema = json.loads(program("config", "schema").text)
    assert {"MemoryBlobServiceConfig", "GrpcFrontendConfig"} <= set(schema["$defs"])


def test_config_graph(program: Program, toml: Toml) -> None:
    path = toml(GOOD + '[frontends.main]\ntype = "grpc"\n')
    mermaid = program("config", "graph", path).lines
    assert mermaid[0] == "flowchart LR"
    assert '        n0["root (memory)"]' in mermaid
    assert "    n3 -->|serves| n0" in mermaid
    dot = program("config", "graph", "--format", "dot", path).lines
    assert (dot[0], dot[-1]) == ("digraph {", "}")
    assert '    n3 -> n2 [label="serves"];' in dot


def test_a_composition_of_snix_loads_unchanged(program: Program, toml: Toml) -> None:
    path = toml(GOOD + '[blobservices.remote]\nurl = "grpc+unix:///run/snix.sock"\ntype = "grpc"\n')
    assert program("config", "check", path).code == 0


def test_a_composition_of_tvix_loads_unchanged(program: Program, toml: Toml) -> None:
    assert program("config", "check", toml(GOOD.replace(".root]", ".default]"))).code == 0
