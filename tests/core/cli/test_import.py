"""``import``: what it prints, which names it takes, what it goes on after."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.program import SOURCE_PATHS, Program, Result
from vectors.nar import TREES, materialise


@pytest.mark.parametrize("name", TREES)
def test_import_prints_the_store_path(program: Program, config: Path, tmp_path: Path, name: str) -> None:
    result = program("import", "--config", config, materialise(TREES[name], tmp_path / name))
    assert (result.code, result.text, result.err) == (0, f"{SOURCE_PATHS[name]}\n", "")


def test_import_of_several_paths_keeps_their_order(program: Program, config: Path, tmp_path: Path) -> None:
    names = ["mixed", "hello", "link", "empty-dir"]
    paths = [materialise(TREES[name], tmp_path / name) for name in names]
    assert program("import", "--config", config, *paths).lines == [SOURCE_PATHS[name] for name in names]


def test_import_of_nothing(program: Program, config: Path) -> None:
    assert program("import", "--config", config) == Result(0, b"", "")


def test_import_under_another_name(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(TREES["hello"], tmp_path / "not a good name")
    assert program("import", "--config", config, "--name", "hello", path).lines == [SOURCE_PATHS["hello"]]


@pytest.mark.parametrize("end", ["hello", "hello/", "x/../hello", "./hello"])
def test_import_takes_the_name_from_the_last_component(
    program: Program, config: Path, tmp_path: Path, end: str
) -> None:
    (tmp_path / "x").mkdir()
    materialise(TREES["hello"], tmp_path / "hello")
    assert program("import", "--config", config, f"{tmp_path}/{end}").lines == [SOURCE_PATHS["hello"]]


@pytest.mark.parametrize("path", [".", "..", "/", "a/..", "a b", "a\udcff", "x" * 212])
def test_import_of_a_path_without_a_good_name_stores_nothing(
    program: Program, config: Path, tmp_path: Path, path: str
) -> None:
    good = materialise(TREES["hello"], tmp_path / "hello")
    assert "name" in program("import", "--config", config, good, path).error()
    assert not (tmp_path / "state").exists()


def test_import_with_one_name_for_two_paths_is_wrong_usage(program: Program, config: Path) -> None:
    result = program("import", "--config", config, "--name", "x", "a", "b")
    assert result.code == 2
    assert "--name goes with exactly one PATH" in result.err


def test_import_goes_on_after_a_path_that_cannot_be_stored(program: Program, config: Path, tmp_path: Path) -> None:
    hello = materialise(TREES["hello"], tmp_path / "hello")
    result = program("import", "--config", config, tmp_path / "absent", "/dev/null", hello)
    assert (result.code, result.lines) == (1, [SOURCE_PATHS["hello"]])
    assert result.err.splitlines() == [
        f'error: cannot import "{tmp_path}/absent": No such file or directory',
        'error: cannot import "/dev/null": devices are not supported',
    ]
