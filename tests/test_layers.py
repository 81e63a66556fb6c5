"""Imports go one way: a plugin knows the core and no other plugin, the core knows no plugin."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted([ROOT / "core" / "tvix_store", *(path for path in ROOT.glob("plugins/*") if path.is_dir())])


def imported(package: Path) -> Iterator[tuple[str, str]]:
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    yield from ((path.name, name.name) for name in names)
                case ast.ImportFrom(module=str(module)):
                    yield path.name, module


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_package_imports_a_plugin_but_itself(package: Path) -> None:
    found = [(file, name) for file, name in imported(package) if name.startswith("tvix_store_")]
    assert [(file, name) for file, name in found if name.partition(".")[0] != package.name] == []
