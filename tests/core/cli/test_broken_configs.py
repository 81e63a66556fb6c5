"""Configurations that cannot work: each is answered by one line, which is the first of the file, and exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.program import Program
from tvix_store.config import Kind
from tvix_store.registry import Registry

FILES = sorted((Path(__file__).parents[2] / "broken_configs").glob("*.toml"))

TYPES = ", ".join(Registry.load().tags(Kind.BLOB))
"""What ``{types}`` stands for: the types of blob services, of which there are more from time to time."""


@pytest.fixture(autouse=True)
def _without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKEND_HOST", raising=False)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_broken_configuration_is_answered_by_one_line(program: Program, path: Path) -> None:
    expected = path.read_text().splitlines()[0].removeprefix("# ").replace("{types}", TYPES)
    assert program("config", "check", path).error(2) == f"{path}: {expected}"


def test_there_are_enough() -> None:
    assert len(FILES) >= 20
