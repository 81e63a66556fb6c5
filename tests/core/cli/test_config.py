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
    assert mermaid[0] == "flowchart TB"
    assert '        n0["main (grpc)"]' in mermaid
    assert '    n0 -->|"serves"| n1' in mermaid
    dot = program("config", "graph", "--format", "dot", path).lines
    assert (dot[0], dot[-1]) == ("digraph {", "}")
    assert '    n0 -> n2 [label="serves"];' in dot


def test_config_check_names_what_is_not_used(program: Program, toml: Toml) -> None:
    path = toml(GOOD + '[blobservices.spare]\ntype = "memory"\n')
    assert program("config", "check", path).lines == [
        f"{path}: [blobservices.spare] is not used: no root or frontend refers to it",
        f"{path}: 4 entries, 0 references, no mistakes",
    ]


def test_config_check_says_that_memory_is_not_for_many_processes(program: Program, toml: Toml) -> None:
    path = toml(GOOD + '[frontends.main]\ntype = "grpc"\nworkers = 2\n')
    assert "[frontends.main]: workers: each would have [blobservices.root]" in program("config", "check", path).error(2)


def test_a_preset_is_shown_as_a_file_that_means_the_same(program: Program, toml: Toml) -> None:
    shown = program("config", "show", toml('preset = "proxy"\noptions.dir = "/var/lib/x"')).text
    assert "preset" not in shown
    assert program("config", "show", toml(shown)).text == shown
    assert program("config", "check", toml(shown)).code == 0


SECRETIVE = """
[blobservices.root]
type = "sqlite"
path = "${FOLDER}/a.sqlite"
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "nix"
base_url = { file = "%s" }
proxy = "http://user:${PASSWORD}@proxy.example"
"""


@pytest.fixture
def secretive(toml: Toml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with values that are not in it."""
    monkeypatch.setenv("FOLDER", "/srv/hunter2")
    monkeypatch.setenv("PASSWORD", "hunter6")
    (tmp_path / "url").write_text("https://hunter3:hunter4@hunter5.example/\n")
    return toml(SECRETIVE % (tmp_path / "url"))


def test_what_is_shown_has_references_as_they_were_written(program: Program, secretive: Path, tmp_path: Path) -> None:
    shown = tomllib.loads(program("config", "show", secretive).text)
    assert shown["blobservices"]["root"]["path"] == "${FOLDER}/a.sqlite"
    assert shown["pathinfoservices"]["root"]["base_url"] == {"file": str(tmp_path / "url")}
    assert shown["pathinfoservices"]["root"]["proxy"] == "http://user:${PASSWORD}@proxy.example"


@pytest.mark.parametrize("command", [["show"], ["graph"], ["graph", "--format", "dot"], ["check"]])
def test_values_from_outside_are_not_printed(program: Program, secretive: Path, command: list[str]) -> None:
    assert "hunter" not in program("config", *command, secretive).text


@pytest.mark.parametrize("command", [["config", "check", "--build"], ["run"]])
def test_values_from_outside_are_not_in_errors(
    program: Program, secretive: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("FOLDER", "/proc/hunter2")  # where nobody can make a folder
    result = program(*command, secretive)
    assert result.code != 0
    assert "hunter" not in result.err


def test_values_under_the_older_names_of_keys_are_not_printed(
    program: Program, toml: Toml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKEND", "grpc+http://hunter2")
    path = toml(GOOD.replace('"memory"', '"combined"\nlocal = "memory://"\nremote = "${BACKEND}"', 1))
    assert tomllib.loads(program("config", "show", path).text)["blobservices"]["root"]["far"] == "${BACKEND}"
    for command in ("show", "graph", "check"):
        result = program("config", command, path)
        assert (result.code, "hunter" in result.text) == (0, False)


def test_a_composition_of_snix_loads_unchanged(program: Program, toml: Toml) -> None:
    path = toml(GOOD + '[blobservices.remote]\nurl = "grpc+unix:///run/snix.sock"\ntype = "grpc"\n')
    assert program("config", "check", path).code == 0


def test_a_composition_of_tvix_loads_unchanged(program: Program, toml: Toml) -> None:
    assert program("config", "check", toml(GOOD.replace(".root]", ".default]"))).code == 0
