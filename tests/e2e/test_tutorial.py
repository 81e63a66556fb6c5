"""The tutorial, followed literally: every command, every file and every output, in a new folder and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from e2e.environment import fast_folder, see_outer_packages
from e2e.tutorial import Command, Edit, Shell, do, output_matches, steps

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-backend.md"
PROJECT = "tvix-store-shelf"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


def _be_offline(venv: Path) -> None:
    """What ``pip install 'tvix-store[testing]'`` then has nothing left to do for: our packages and their programs."""
    see_outer_packages(venv)
    for point in entry_points(group="console_scripts"):
        if point.name in ("tvix-store", "pytest"):
            script = venv / "bin" / point.name
            script.write_text(f"#!{venv}/bin/python\nimport sys\nfrom {point.module} import {point.attr}\n")
            with script.open("a") as file:
                file.write(f"sys.exit({point.attr}())\n")
            script.chmod(0o755)


def _variables(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ}
    (folder / "tmp").mkdir()
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "COLUMNS": "250",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which is how pip spells "no isolation" here
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def test_what_it_says_is_so(folder: Path) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("/tmp/", f"{folder}/")
    done = list(steps(page))
    assert {type(step) for step in done} == {Command, Edit}
    with Shell(folder, _variables(folder)) as shell:
        for step in done:
            if isinstance(step, Edit):
                do(step, folder / PROJECT)
                continue
            code, output = shell.run(step.line)
            assert code == 0, f"{step.line}\n{output}"
            assert output_matches(step.output, output), f"{step.line}\n{step.output}\n--- but:\n{output}"
            if step.line.startswith("python3 -m venv"):
                _be_offline(folder / "venv")


def test_linters_are_content_with_the_result(folder: Path) -> None:
    for tool in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        command = [sys.executable, "-m", *tool, "."]
        result = subprocess.run(command, cwd=folder / PROJECT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("expected", "actual", "is_so"),
    [
        ("", "", True),
        ("", "something\n", False),
        ("a  b\n", "a b\n", True),
        ("a b\n", "ab\n", False),
        ("a\n", "b\n", False),
        ("...\n... passed in ...\n", "..... [100%]\n12 passed in 3 s\n", True),
        ("...\n... passed in ...\n", "..... [100%]\n12 failed in 3 s\n", False),
        ("a...b\n", "axyb\n", True),
        ("a\n", "a\nb\n", False),
    ],
)
def test_outputs_are_compared(expected: str, actual: str, is_so: bool) -> None:
    assert output_matches(expected, actual) is is_so


@pytest.mark.parametrize("page", ["```python\nx = 1\n```\n", "```\nx\n```\n"])
def test_a_block_that_nobody_knows_what_to_do_with_is_an_error(page: str) -> None:
    with pytest.raises(AssertionError):
        list(steps(page))


def test_a_replacement_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(AssertionError, match=r"not in a\.py just once"):
        do(Edit("replace", "a.py", "y = 1\n", "y = 2\n"), tmp_path)
