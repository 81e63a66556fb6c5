"""Packages by third parties, installed beside the store: each is found, can be configured, and its own suite passes."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.environment import Environment, fast_folder

EXAMPLES = Path(__file__).parents[2] / "examples"
TVIX_STORE = ["-c", "from tvix_store.cli.main import main; main()"]


@dataclass(frozen=True)
class Example:
    """One package.

    Args:
        folder: Below ``examples``.
        rows: What ``plugins`` says of it.
        key: One that its store.toml has.
        n_tests: How many its suite has at least.
    """

    folder: str
    rows: list[list[str]]
    key: str
    n_tests: int


def _rows(tag: str, *labels: str) -> list[list[str]]:
    return [[tag, *label.split(), f"tvix-store-{tag}", "0.1.0", "ok"] for label in labels]


SERVICES = ("blob service", "directory service", "path info service")


@pytest.fixture(
    scope="module",
    params=[
        Example("third_party_backend", _rows("dirtree", "blob service"), "path", 100),
        Example("third_party_combinator", _rows("audit", *SERVICES), "who", 200),
        Example("third_party_frontend", _rows("tar", "frontend"), "drain_s", 15),
    ],
    ids=lambda example: example.folder,
)
def example(request: pytest.FixtureRequest) -> Example:
    assert isinstance(request.param, Example)
    return request.param


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, example: Example) -> Path:
    """A copy of the example, outside of the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    folder = tmp_path_factory.mktemp("example") / "project"
    return Path(shutil.copytree(EXAMPLES / example.folder, folder, ignore=ignored))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Environment:
    """An environment in which the example is installed."""
    made = Environment(tmp_path_factory.mktemp("environment") / "venv")
    made.install(project)
    return made


def test_its_tags_are_listed(environment: Environment, example: Example, tmp_path: Path) -> None:
    result = environment.run(*TVIX_STORE, "plugins", cwd=tmp_path)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row for row in rows if row[0] == example.rows[0][0]] == example.rows, result.stdout + result.stderr


def test_its_configuration_is_accepted(environment: Environment, project: Path) -> None:
    result = environment.run(*TVIX_STORE, "config", "check", "store.toml", cwd=project)
    assert result.returncode == 0, result.stdout + result.stderr


def test_its_wrong_configuration_is_explained(
    environment: Environment, example: Example, project: Path, tmp_path: Path
) -> None:
    text = (project / "store.toml").read_text(encoding="utf-8")
    wrong, n_keys = re.subn(f"^{example.key} =", f"{example.key}x =", text, flags=re.MULTILINE)
    assert n_keys
    (tmp_path / "store.toml").write_text(wrong, encoding="utf-8")
    result = environment.run(*TVIX_STORE, "config", "check", "store.toml", cwd=tmp_path)
    assert result.returncode == 2
    assert f"unknown key '{example.key}x'; did you mean '{example.key}'?" in result.stderr


def test_its_own_suite_passes(environment: Environment, example: Example, project: Path) -> None:
    """With the settings of its own pyproject.toml, which know nothing of the suite it subclasses."""
    with fast_folder() as memory:
        result = environment.run(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project, TMPDIR=str(memory)
        )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    summary = result.stdout.splitlines()[-1]
    assert int(summary.split()[0]) >= example.n_tests, summary
    assert "skipped" not in summary
