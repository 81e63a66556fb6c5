from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from fakes import plugin as fake_plugin
from tvix_store.config import Kind
from tvix_store.errors import ConfigError
from tvix_store.hookspecs import ENTRY_POINT_GROUP
from tvix_store.registry import Plugin, Registry, did_you_mean

GOOD = """
from typing import Literal

from tvix_store.blob import BlobService
from tvix_store.config import BlobServiceConfig, Context
from tvix_store.hookspecs import hookimpl


class Config(BlobServiceConfig):
    type: Literal["TAG"]

    async def build(self, name: str, context: Context) -> BlobService:
        raise NotImplementedError


@hookimpl
def tvix_store_blob_services():
    return [Config]
"""

_numbers = itertools.count()


class Site:
    """A folder of fake installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: list[str] = []

    def install(self, package: str, source: str, *, metadata: bool = True) -> str:
        """A distribution with one plugin module; returns the name of its entry point."""
        module = f"fake_plugin_{next(_numbers)}"
        self.modules.append(module)
        (self.path / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.path / f"{package.replace('-', '_')}-2.5.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\npoint-{package} = {module}\n")
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
        return f"point-{package}"

    def load(self) -> Registry:
        """What is installed here, and nothing else."""
        found = (dist.entry_points for dist in distributions(path=[str(self.path)]))
        return Registry.load(itertools.chain.from_iterable(found))

    def load_one(self, source: str) -> Plugin:
        self.install("fake", source)
        (plugin,) = self.load().plugins
        return plugin


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)


def hook(body: str) -> str:
    return f"""
        from tvix_store.hookspecs import hookimpl

        @hookimpl
        def tvix_store_blob_services():
            {body}
    """


def test_an_installed_distribution_is_found_by_itself(site: Site) -> None:
    site.install("swift-store", GOOD.replace("TAG", "swift"))
    registry = Registry.load()
    assert registry.model(Kind.BLOB, "swift").tag() == "swift"
    (plugin,) = [plugin for plugin in registry.plugins if plugin.package == "swift-store"]
    assert (plugin.name, plugin.version, plugin.problem) == ("point-swift-store", "2.5", None)


def test_plugins_are_found_without_being_built(site: Site) -> None:
    plugin = site.load_one(GOOD.replace("TAG", "swift"))
    assert [(claim.kind, claim.tag) for claim in plugin.claims] == [(Kind.BLOB, "swift")]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("from json import nothing_of_the_sort", "ImportError: cannot import name 'nothing_of_the_sort'"),
        ("def (", "SyntaxError: "),
        ("raise RuntimeError('first\\n  second')", "RuntimeError: first second"),
        ("raise RuntimeError", "RuntimeError"),
        ("import sys; sys.exit('not today')", "SystemExit: not today"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        ("raise ExceptionGroup('several', [ValueError('one')])", "ExceptionGroup: several"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_reported_on_one_line(site: Site, source: str, problem: str) -> None:
    plugin = site.load_one(source)
    assert plugin.claims == []
    assert plugin.problem is not None
    assert plugin.problem.startswith(problem)
    assert "\n" not in plugin.problem


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return 3", "tvix_store_blob_services returned 3, which is not a list of BlobServiceConfig classes"),
        ("return [3]", "tvix_store_blob_services returned 3, which is not a BlobServiceConfig class"),
        ("return 'memory'", "tvix_store_blob_services returned 'm', which is not a BlobServiceConfig class"),
        ("return [int]", "returned <class 'int'>, which is not a BlobServiceConfig class"),
        ("return dict", "returned <class 'dict'>, which is not a list of"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("return None", "it implements no hook"),
        ("return []", "it implements no hook"),
    ],
)
def test_a_hook_that_returns_rubbish_is_reported(site: Site, body: str, problem: str) -> None:
    plugin = site.load_one(hook(body))
    assert problem in (plugin.problem or "")


def test_a_model_of_another_interface_is_refused(site: Site) -> None:
    plugin = site.load_one(GOOD.replace("def tvix_store_blob_services", "def tvix_store_frontends"))
    assert "Config'>, which is not a FrontendConfig class" in (plugin.problem or "")


def test_a_model_without_a_tag_is_refused(site: Site) -> None:
    plugin = site.load_one(GOOD.replace('Literal["TAG"]', "str"))
    assert "Config: type must be a Literal with one string" in (plugin.problem or "")


def test_a_model_that_cannot_build_is_refused(site: Site) -> None:
    plugin = site.load_one(GOOD.replace("async def build", "async def bulid"))
    assert "returned Config, which does not implement build" in (plugin.problem or "")


def test_a_misspelt_hook_is_reported(site: Site) -> None:
    plugin = site.load_one(GOOD.replace("def tvix_store_blob_services", "def tvix_store_blob_servces"))
    assert "tvix_store_blob_servces" in (plugin.problem or "")


def test_a_hook_with_arguments_of_its_own_is_reported(site: Site) -> None:
    plugin = site.load_one(GOOD.replace("blob_services()", "blob_services(config)"))
    assert "config" in (plugin.problem or "")


def test_a_module_without_marked_hooks_is_reported(site: Site) -> None:
    plugin = site.load_one(GOOD.replace("@hookimpl", ""))
    assert "hookimpl" in (plugin.problem or "")


def test_a_distribution_that_is_half_removed_is_reported(site: Site) -> None:
    site.install("ghost", GOOD.replace("TAG", "ghost"), metadata=False)
    site.install("swift-store", GOOD.replace("TAG", "swift"))
    registry = site.load()
    assert registry.tags(Kind.BLOB) in (["swift"], ["ghost", "swift"])


def test_a_broken_plugin_costs_its_own_tags_only(site: Site) -> None:
    site.install("a-broken", "import a_module_that_nobody_has")
    site.install("b-misspelt", GOOD.replace("blob_services", "blobs").replace("TAG", "lost"))
    site.install("c-good", GOOD.replace("TAG", "swift"))
    registry = site.load()
    assert registry.tags(Kind.BLOB) == ["swift"]
    assert [plugin.package for plugin in registry.plugins if plugin.problem] == ["a-broken", "b-misspelt"]


def test_two_packages_that_claim_one_tag_are_both_named(site: Site) -> None:
    site.install("first", GOOD.replace("TAG", "same"))
    site.install("second", GOOD.replace("TAG", "same"))
    with pytest.raises(ConfigError, match=r"'same' of blob service is claimed by first \(.*\) and second \(.*\)"):
        site.load().model(Kind.BLOB, "same")


def test_a_tag_that_two_claim_does_not_affect_others(site: Site) -> None:
    site.install("first", GOOD.replace("TAG", "same"))
    site.install("second", GOOD.replace('["TAG"]', '["same"]'))
    site.install("third", GOOD.replace("TAG", "other"))
    registry = site.load()
    assert registry.model(Kind.BLOB, "other").tag() == "other"
    assert registry.conflict(Kind.BLOB, "other") is None
    assert registry.conflict(Kind.DIRECTORY, "same") is None


def test_one_tag_may_be_used_for_each_interface() -> None:
    registry = Registry()
    registry.add(fake_plugin)
    assert [registry.model(kind, "plain").__name__ for kind in (Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO)] == [
        "PlainBlobs",
        "PlainDirectories",
        "PlainPathInfos",
    ]


def test_an_unknown_tag_is_answered_with_the_nearest(site: Site) -> None:
    site.install("swift-store", GOOD.replace("TAG", "swift"))
    with pytest.raises(ConfigError, match=r"unknown type 'swfit' of blob service; did you mean 'swift'\?"):
        site.load().model(Kind.BLOB, "swfit")


def test_an_unknown_tag_of_an_interface_without_any_says_so(site: Site) -> None:
    with pytest.raises(ConfigError, match="unknown type 'swift' of frontend; there are none"):
        site.load().model(Kind.FRONTEND, "swift")


def test_a_module_that_is_added_raises_what_is_wrong_with_it() -> None:
    with pytest.raises(ConfigError, match="implements no hook"):
        Registry().add(itertools)


def test_nothing_near_gives_the_whole_list() -> None:
    assert did_you_mean("xyz", ["memory", "grpc"]) == "there are: grpc, memory"
