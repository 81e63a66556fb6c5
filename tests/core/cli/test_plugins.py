"""``plugins``, also where one is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.program import Program


def test_plugins(program: Program) -> None:
    result = program("plugins")
    rows = [line.split("  ") for line in result.lines]
    assert result.code == 0
    assert result.lines[0].split() == ["TAG", "INTERFACE", "PACKAGE", "VERSION", "STATE"]
    assert {row[0] for row in rows[1:]} >= {"grpc", "memory", "sqlite"}
    assert {row[-1] for row in rows[1:]} == {"ok"}


def test_a_broken_plugin_is_listed(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tvix_store]\nbroken = a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = program("plugins")
    (line,) = [line for line in result.lines if "broken-store" in line]
    assert result.code == 1
    assert line.endswith("broken: broken: ModuleNotFoundError: No module named 'a_module_that_nobody_has'")
