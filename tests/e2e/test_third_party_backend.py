"""A package by a third party, installed beside the store: it is found, can be configured, and its own suite passes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_backend"
TVIX_STORE = ["-c", "from tvix_store.cli.main import main; main()"]


class Environment:
    """A new virtual environment which sees the packages of this one, so that nothing is downloaded."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        outer = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        # A line of a .pth file alone would not read the .pth files there, such as that of an editable install.
        lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(outer))
        (site_packages / "outer.pth").write_text(lines, encoding="utf-8")

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "250"}
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, outside of the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    return Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("example") / "dirtree", ignore=ignored))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Environment:
    """An environment in which the example is installed."""
    made = Environment(tmp_path_factory.mktemp("environment") / "venv")
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "--python", str(made.python), *install, str(project)]
    result = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return made


def test_its_tag_is_listed(environment: Environment, tmp_path: Path) -> None:
    result = environment.run(*TVIX_STORE, "plugins", cwd=tmp_path)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["dirtree", "blob", "service", "tvix-store-dirtree", "0.1.0", "ok"] in rows, result.stdout + result.stderr


def test_its_configuration_is_accepted(environment: Environment, project: Path) -> None:
    result = environment.run(*TVIX_STORE, "config", "check", "store.toml", cwd=project)
    assert result.returncode == 0, result.stdout + result.stderr


def test_its_wrong_configuration_is_explained(environment: Environment, project: Path, tmp_path: Path) -> None:
    text = (project / "store.toml").read_text(encoding="utf-8").replace("path =", "pathh =")
    (tmp_path / "store.toml").write_text(text, encoding="utf-8")
    result = environment.run(*TVIX_STORE, "config", "check", "store.toml", cwd=tmp_path)
    assert result.returncode == 2
    assert "unknown key 'pathh'; did you mean 'path'?" in result.stderr


def test_its_own_suite_passes(environment: Environment, project: Path) -> None:
    """With the settings of its own pyproject.toml, which know nothing of the suite it subclasses."""
    result = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    summary = result.stdout.splitlines()[-1]
    assert int(summary.split()[0]) > 100, summary
    assert "skipped" not in summary
