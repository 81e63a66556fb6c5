"""``ls``: store paths, directories, and what is no directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.program import MIXED, SOURCE_PATHS, Program
from vectors.nar import TREES, Dir, Link, materialise


def test_ls_lists_the_store_paths(stored: Program) -> None:
    assert stored("ls").lines == [MIXED]
    assert stored("ls", "-l").lines == [f"{1416:>14}  {MIXED}"]


@pytest.mark.parametrize("start", [MIXED, MIXED.removeprefix("/nix/store/"), MIXED[11:43], f"{MIXED}/"])
def test_ls_lists_a_directory(stored: Program, start: str) -> None:
    assert stored("ls", start).lines == ["bin", "share", "zero"]


def test_ls_lists_kinds_sizes_and_targets(stored: Program) -> None:
    assert stored("ls", "-l", f"{MIXED}/share").lines == [
        "dr-x              2  doc",
        "l---             11  link -> ../bin/tool",
    ]
    assert stored("ls", "-l", f"{MIXED}/bin").lines == ["-r-x             17  tool"]


def test_ls_lists_everything_below(stored: Program) -> None:
    expected = ["bin", "bin/tool", "share", "share/doc", "share/doc/README", "share/link", "zero"]
    assert stored("ls", "-R", MIXED).lines == expected
    assert stored("ls", "-R", f"{MIXED}/share").lines == ["doc", "doc/README", "link"]


@pytest.mark.parametrize("below", ["zero", "share/link", "bin/tool"])
def test_ls_of_what_is_no_directory_names_it(stored: Program, below: str) -> None:
    assert stored("ls", f"{MIXED}/{below}").lines == [f"{MIXED}/{below}"]


def test_ls_of_names_that_are_not_text(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(TREES["sorting"], tmp_path / "sorting")
    program("import", "--config", config, path)
    tree = TREES["sorting"]
    assert isinstance(tree, Dir)
    assert program("ls", "--config", config, SOURCE_PATHS["sorting"]).out == b"".join(b"%b\n" % n for n in tree.entries)


def test_link_alone(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(Link(b"target"), tmp_path / "link")
    location = program("import", "--config", config, path).lines[0]
    assert program("ls", "-l", "--config", config, location).lines == [f"l---              6  {location} -> target"]
