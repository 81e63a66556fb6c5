from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from enum import Enum
from importlib.metadata import entry_points
from types import ModuleType

import click
import pytest

import tvix_store
from tvix_store import hookspecs

NO_ALL = {"tvix_store.testing.pytest_plugin"}
"""Modules whose names pytest looks up."""


def packages() -> Iterator[ModuleType]:
    """The core, and the packages of all plugins that come with it."""
    yield tvix_store
    for point in entry_points(group=hookspecs.ENTRY_POINT_GROUP):
        if point.dist is not None and point.dist.name == "tvix-store":
            yield importlib.import_module(point.value.partition(".")[0])


def module_names() -> Iterator[str]:
    for package in packages():
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith("tvix_store.proto"):
                yield module.name


MODULES = sorted(module_names())
every_module = pytest.mark.parametrize("name", MODULES)


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """What the module offers, and the methods of its classes."""
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        yield name, thing
        if inspect.isclass(thing) and not issubclass(thing, Enum):
            for member in vars(thing):
                if not member.startswith(("_", "test_")) and is_documentable(getattr(thing, member)):
                    yield f"{name}.{member}", getattr(thing, member)


def is_documentable(thing: object) -> bool:
    return inspect.isroutine(thing) or inspect.isclass(thing) or isinstance(thing, property)


def is_documented(thing: object) -> bool:
    if isinstance(thing, click.Command):
        return bool(thing.help)
    if inspect.isclass(thing):  # of its own, and not what a dataclass makes up
        return bool(thing.__doc__) and not (thing.__doc__ or "").startswith(f"{thing.__name__}(")
    return bool(inspect.getdoc(thing)) if is_documentable(thing) else True


def test_all_plugins_are_looked_at() -> None:
    assert {"tvix_store.cli.main", "tvix_store_memory.blob", "tvix_store_grpc.plugin"} < set(MODULES)


@every_module
def test_a_module_begins_with_a_sentence(name: str) -> None:
    text = importlib.import_module(name).__doc__ or ""
    assert text.split("\n\n")[0].rstrip().endswith((".", "::", ":", ")"))


@every_module
def test_a_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    if not hasattr(module, "__path__") and name not in NO_ALL:
        assert module.__all__
        assert not [offered for offered in module.__all__ if not hasattr(module, offered)]


@every_module
def test_what_a_module_offers_is_documented(name: str) -> None:
    offered = public(importlib.import_module(name))
    assert [qualified for qualified, thing in offered if not is_documented(thing)] == []
