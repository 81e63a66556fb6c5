"""Which stores a command works with: flags, variables, a composition."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.program import MIXED, SOURCE_PATHS, Program
from vectors.nar import TREES, encode, materialise


def test_the_stores_are_chosen_by_one_url(program: Program, tmp_path: Path) -> None:
    hello = materialise(TREES["hello"], tmp_path / "hello")
    url = f"sqlite://{tmp_path}/x.sqlite"
    program("import", "--store", url, hello)
    assert program("ls", "--store", url).lines == [SOURCE_PATHS["hello"]]


def test_the_stores_are_chosen_by_the_flags_of_the_reference(program: Program, tmp_path: Path) -> None:
    hello = materialise(TREES["hello"], tmp_path / "hello")
    flags = [f"--{kind}-service-addr=sqlite://{tmp_path}/{kind}" for kind in ("blob", "directory", "path-info")]
    assert program("import", *flags, hello).code == 0
    assert program("nar", "dump", *flags, SOURCE_PATHS["hello"]).out == encode(TREES["hello"])
    assert {path.name for path in tmp_path.glob("*") if path.name in ("blob", "directory", "path-info")} == {
        "blob",
        "directory",
        "path-info",
    }


def test_the_stores_are_chosen_by_the_variables_of_the_reference(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("BLOB", "DIRECTORY", "PATH_INFO"):
        monkeypatch.setenv(f"{kind}_SERVICE_ADDR", f"sqlite://{tmp_path}/x.sqlite")
    program("import", materialise(TREES["hello"], tmp_path / "hello"))
    assert program("ls").lines == [SOURCE_PATHS["hello"]]


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_composition_wins_over_urls(
    stored: Program, program: Program, config: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "flag":
        result = program("ls", "--experimental-store-composition", config, "--store", "nonsense")
    else:
        monkeypatch.setenv("EXPERIMENTAL_STORE_COMPOSITION", str(config))
        result = program("ls", "--store", "nonsense")
    assert result.lines == [MIXED]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "command line: 'nonsense' is not a URL"),
        ("memroy://", "command line: 'memroy://': unknown type 'memroy' of blob service; did you mean 'memory'?"),
        ("memory://host", "command line: 'memory://host': "),
        ("grpc+http://localhost/path", "command line: 'grpc+http://localhost/path': a path has no meaning here"),
    ],
)
def test_a_wrong_url_is_a_configuration_error(program: Program, url: str, message: str) -> None:
    assert program("ls", "--store", url).error(2).startswith(message)
