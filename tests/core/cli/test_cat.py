"""``cat``: files, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.program import MIXED, Program
from vectors.nar import File, materialise


def test_cat(stored: Program) -> None:
    assert stored("cat", f"{MIXED}/bin/tool").out == b"#!/bin/sh\nexit 0\n"
    assert stored("cat", f"{MIXED}/zero").out == b""


@pytest.mark.parametrize("below", ["", "/share", "/share/link"])
def test_cat_of_what_is_no_file(stored: Program, below: str) -> None:
    assert stored("cat", f"{MIXED}{below}").error() == f"{MIXED}{below}: not a regular file"


def test_a_file_alone(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(File(b"data"), tmp_path / "file")
    location = program("import", "--config", config, path).lines[0]
    assert program("cat", "--config", config, location).out == b"data"
