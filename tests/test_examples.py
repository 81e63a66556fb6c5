"""What the documentation shows works: examples, configurations, commands and links."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from tvix_store.cli.main import cli
from tvix_store.config import Kind
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md")])
TABLES = {kind.value for kind in Kind}


def _configurations(page: Path) -> list[str]:
    blocks = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if TABLES & tomllib.loads(block).keys()]


CONFIGURATIONS = [(page, block) for page in PAGES for block in _configurations(page)]


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.toml")), ids=lambda path: path.name)
def test_an_example_can_be_run(path: Path, tmp_path: Path) -> None:
    registry = Registry.load()
    (tmp_path / "cache-url").write_text("https://cache.example")
    environment = {"CACHE_PASSWORD": "secret", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = StoreConfig.load(path, registry, environment)
    config.check(registry)
    assert config.entries[Kind.FRONTEND]
    for kind in (Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO):
        config.root(kind)


@pytest.mark.parametrize(
    ("page", "block"), CONFIGURATIONS, ids=[str(page.relative_to(ROOT)) for page, _ in CONFIGURATIONS]
)
def test_a_configuration_on_a_page_is_right(page: Path, block: str) -> None:
    registry = Registry.load()
    StoreConfig.parse(tomllib.loads(block), registry, page.name).check(registry)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_names_every_command() -> None:
    rows = re.findall(r"^\| (`.*?) \| [a-z]", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = {word.split()[0] for row in rows for word in re.findall(r"`([^`]+)`", row)}
    assert set(cli.list_commands(click.Context(cli))) <= named


def test_the_readme_names_every_type() -> None:
    registry = Registry.load()
    readme = (ROOT / "README.md").read_text()
    tags = {tag for kind in Kind for tag in registry.tags(kind)}
    assert {tag for tag in tags if f"| `{tag}` |" not in readme} == set()
