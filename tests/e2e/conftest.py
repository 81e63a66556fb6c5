"""Fixtures for tests of the whole program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from e2e.fuse_mount import add, local_store, require_fuse
from e2e.fuse_trees import make_large_tree


@pytest.fixture(scope="session")
def needs_fuse() -> None:
    """For tests that mount: they are skipped where nothing can be mounted, which is a failure in CI."""
    require_fuse()


@pytest.fixture(scope="session")
def large_tree(needs_fuse: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The configuration of a store with what `make_large_tree` makes, and its name there. It is not to be changed."""
    folder = tmp_path_factory.mktemp("large")
    make_large_tree(folder / "tree")
    config = local_store(folder / "store")
    [name] = add(config, folder / "tree")
    shutil.rmtree(folder / "tree")
    return config, name
