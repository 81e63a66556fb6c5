"""What ``plugins new`` writes works as it stands: it can be installed and configured, and passes tests and linters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.environment import Environment, fast_folder
from tvix_store.scaffold import KINDS

TVIX_STORE = ["-c", "from tvix_store.cli.main import main; main()"]
NAMES = {kind: f"my-{kind}" for kind in KINDS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def environment(folder: Path) -> Environment:
    """An environment in which a package of each kind is installed."""
    made = Environment(folder / "venv")
    for kind, name in NAMES.items():
        result = made.run(*TVIX_STORE, "plugins", "new", name, kind, "--kind", kind, cwd=folder)
        assert result.returncode == 0, result.stderr
        made.install(folder / kind)
    return made


def test_they_are_listed(environment: Environment, folder: Path) -> None:
    result = environment.run(*TVIX_STORE, "plugins", cwd=folder)
    assert result.returncode == 0, result.stdout
    tags = [line.split()[0] for line in result.stdout.splitlines() if "tvix-store-my-" in line]
    assert sorted(tags) == ["my-backend"] * 3 + ["my-combinator"] * 3 + ["my-frontend"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_beside_it_is_right(environment: Environment, folder: Path, kind: str) -> None:
    result = environment.run(*TVIX_STORE, "config", "check", "store.toml", cwd=folder / kind)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_its_tests_pass(environment: Environment, folder: Path, kind: str) -> None:
    with fast_folder() as memory:
        result = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder / kind, TMPDIR=str(memory))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "skipped" not in result.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("environment")
def test_linters_are_content(folder: Path, kind: str) -> None:
    """With the settings in its own pyproject.toml."""
    for tool in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--cache-dir", str(folder / "cache")]):
        command = [sys.executable, "-m", *tool, "."]
        result = subprocess.run(command, cwd=folder / kind, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
