"""``plugins new``: what it writes, and what it refuses. `tests/e2e/test_third_party_new.py` installs and tests it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from fakes.program import Program
from tvix_store.errors import ConfigError
from tvix_store.scaffold import KINDS, MAX_NAME_LENGTH, package_files

LONGEST = "a" * (MAX_NAME_LENGTH // 2) + "-" + "b" * (MAX_NAME_LENGTH - MAX_NAME_LENGTH // 2 - 1)


def test_a_package_is_written_and_its_files_are_named(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "below" / "shelf"
    result = program("plugins", "new", "shelf", folder)
    assert result.code == 0, result.err
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    assert sorted(map(Path, result.lines[: result.lines.index("")])) == written
    assert {str(path.relative_to(folder)) for path in written} >= {
        *("pyproject.toml", "README.md", "store.toml", "tvix_store_shelf/plugin.py", "tvix_store_shelf/py.typed"),
        "tests/test_shelf.py",
    }


def test_the_folder_is_named_for_the_package_otherwise(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert program("plugins", "new", "swift-two", "--kind", "frontend").code == 0
    project = tomllib.loads(Path("tvix-store-swift-two/pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"tvix_store": {"swift-two": "tvix_store_swift_two.plugin"}}


def test_an_empty_folder_will_do(program: Program, tmp_path: Path) -> None:
    assert program("plugins", "new", "shelf", tmp_path).code == 0


def test_a_folder_with_something_in_it_is_left_alone(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    assert program("plugins", "new", "shelf", tmp_path).error() == f"{tmp_path} is not empty, and is not written to"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_its_place_is_named(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert program("plugins", "new", "shelf", path).error() == f"{path}: File exists"


@pytest.mark.parametrize("name", ["", "Shelf", "2d", "a--b", "a-", "-a", "a_b", "a.b", "a/b", "ä", "a" * 29])
def test_names_that_do_not_do(program: Program, tmp_path: Path, name: str) -> None:
    error = program("plugins", "new", "--", name, tmp_path).error(2)
    assert error.startswith(f"{name!r} cannot be the name of a type: at most 28 lower-case letters and digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "what"),
    [
        ("backend", "memory", "blob service"),
        ("combinator", "nix", "path info service"),
        ("frontend", "http", "frontend"),
    ],
)
def test_a_type_that_is_there_is_refused(program: Program, tmp_path: Path, kind: str, name: str, what: str) -> None:
    error = program("plugins", "new", "--kind", kind, name, tmp_path / "new").error()
    assert error == f"there is a {what} of the type {name!r} already: see tvix-store plugins"
    assert not (tmp_path / "new").exists()


def test_a_package_that_is_there_is_not_hidden(program: Program, tmp_path: Path) -> None:
    """There is no frontend of the type fs, but whoever imports tvix_store_fs means the one that comes with us."""
    error = program("plugins", "new", "--kind", "frontend", "fs", tmp_path).error()
    assert error == "there is a package tvix_store_fs already, which this one would hide"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x", "a-1", LONGEST])
def test_every_name_gives_sound_files(kind: str, name: str) -> None:
    files = package_files(kind, name)
    assert [path for path, text in files.items() if "{{" in text or "}}" in text] == []
    for path, text in files.items():
        if path.endswith(".py"):
            ast.parse(text, path)
            assert max(map(len, text.splitlines())) <= 120
        elif path.endswith(".toml"):
            tomllib.loads(text)


def test_one_letter_more_is_too_long() -> None:
    assert package_files("backend", LONGEST)
    with pytest.raises(ConfigError):
        package_files("backend", LONGEST + "c")
