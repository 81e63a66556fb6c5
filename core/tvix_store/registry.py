"""Which tag comes from which package: plugins found through entry points, loaded one at a time."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import pluggy
from pydantic import BaseModel, ValidationError

from tvix_store import hookspecs
from tvix_store.config import (
    BlobServiceConfig,
    DirectoryServiceConfig,
    EntryConfig,
    FrontendConfig,
    Kind,
    PathInfoServiceConfig,
    ServiceUrl,
)
from tvix_store.errors import ConfigError

__all__ = ["Claim", "Plugin", "Registry", "did_you_mean", "problems"]

logger = logging.getLogger(__name__)

_HOOKS: Mapping[str, tuple[Kind, type[EntryConfig]]] = {
    "tvix_store_blob_services": (Kind.BLOB, BlobServiceConfig),
    "tvix_store_directory_services": (Kind.DIRECTORY, DirectoryServiceConfig),
    "tvix_store_path_info_services": (Kind.PATH_INFO, PathInfoServiceConfig),
    "tvix_store_frontends": (Kind.FRONTEND, FrontendConfig),
}


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them."""
    known = sorted(words)
    if near := difflib.get_close_matches(word, known, n=1):
        return f"did you mean {near[0]!r}? There are: {', '.join(known)}"
    return f"there are: {', '.join(known)}" if known else "there are none"


def problems(exc: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with an entry, as keys and reasons on one line; values are left out, they may be secrets."""
    return "; ".join(" ".join(reason.split()) for reason in _problems(exc, model))


def _problems(exc: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    for error in exc.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in error["loc"])
        reason = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            known = f"; {did_you_mean(key, model.model_fields)}" if key in map(str, error["loc"]) else ""
            yield f"unknown key {key!r}{known}"
        elif error["type"] == "missing":
            yield f"{key} is missing"
        elif error["type"] == "too_short":
            yield f"{key}: at least {error['ctx']['min_length']} needed, not {error['ctx']['actual_length']}"
        elif key:
            yield f"{key}: {reason[0].lower()}{reason[1:]}"
        else:
            yield reason


@dataclass(frozen=True, slots=True)
class Claim:
    """One tag of one interface, claimed by a plugin."""

    kind: Kind
    tag: str
    model: type[EntryConfig]


@dataclass(slots=True)
class Plugin:
    """One entry point and what came of it.

    Args:
        name: Of the entry point.
        package: The distribution that brings it.
        version: Of that distribution.
        claims: Its tags.
        problem: Why it adds nothing, one line; ``None`` if it is fine.
    """

    name: str
    package: str
    version: str
    claims: list[Claim] = field(default_factory=list)
    problem: str | None = None


class Registry:
    """The tags that can be used. ``Registry.load()`` finds the installed plugins."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self._claims: dict[tuple[Kind, str], list[tuple[Plugin, Claim]]] = {}

    @classmethod
    def load(cls, points: Iterable[EntryPoint] | None = None) -> Registry:
        """A registry of what the entry points add, of the installed distributions by default.

        A plugin that cannot be imported, or does not keep to the hooks, is noted with its reason and adds nothing;
        the others are not affected.
        """
        registry = cls()
        if points is None:
            points = entry_points(group=hookspecs.ENTRY_POINT_GROUP)
        for point in sorted(points, key=lambda point: (point.name, point.value)):
            registry._add_entry_point(point)
        return registry

    def _add_entry_point(self, point: EntryPoint) -> None:
        plugin = Plugin(point.name, "unknown", "unknown")
        self.plugins.append(plugin)
        try:
            if point.dist is not None:
                plugin.package, plugin.version = point.dist.name, point.dist.version
            plugin.claims = _claims(point.load())
        except (Exception, SystemExit) as exc:  # a plugin may fail in any way, and must not take the others with it
            logger.debug("plugin %s of %s", plugin.name, plugin.package, exc_info=True)
            plugin.problem = _one_line(exc)
            return
        self._register(plugin)

    def add(self, module: ModuleType, package: str = "this program", version: str = "") -> Plugin:
        """Register a plugin module that is not installed; errors in it are raised."""
        plugin = Plugin(module.__name__, package, version, _claims(module))
        self.plugins.append(plugin)
        self._register(plugin)
        return plugin

    def _register(self, plugin: Plugin) -> None:
        for claim in plugin.claims:
            self._claims.setdefault((claim.kind, claim.tag), []).append((plugin, claim))

    def tags(self, kind: Kind) -> list[str]:
        """The tags of one interface, sorted."""
        return sorted(tag for found, tag in self._claims if found is kind)

    def model(self, kind: Kind, tag: str) -> type[EntryConfig]:
        """The config model behind a tag.

        Raises:
            ConfigError: No plugin claims it, or two do.
        """
        claims = self._claims.get((kind, tag))
        if claims is None:
            raise ConfigError(f"unknown type {tag!r} of {kind.label}; {did_you_mean(tag, self.tags(kind))}")
        if conflict := self.conflict(kind, tag):
            raise ConfigError(conflict)
        return claims[0][1].model

    def conflict(self, kind: Kind, tag: str) -> str | None:
        """Which packages claim this tag of this interface, if more than one does."""
        claims = self._claims.get((kind, tag), [])
        if len(claims) < 2:
            return None
        packages = " and ".join(f"{plugin.package} ({plugin.name})" for plugin, _ in claims)
        return f"type {tag!r} of {kind.label} is claimed by {packages}; uninstall one of them"

    def from_url(self, kind: Kind, text: str) -> EntryConfig:
        """The entry that a URL stands for.

        Raises:
            ConfigError: Not a URL, or of an unknown type, or not of the form that its type wants.
        """
        url = ServiceUrl(text)
        try:
            model = self.model(kind, url.tag)
        except ConfigError as exc:
            raise url.refuse(str(exc)) from exc
        try:
            return model.from_url(url)
        except ValidationError as exc:
            raise url.refuse(problems(exc, model)) from None  # it may quote a secret


def _one_line(exc: BaseException) -> str:
    try:
        message = " ".join(str(exc).split())
    except Exception:
        message = ""
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__


def _claims(module: object) -> list[Claim]:
    """What a plugin module adds.

    Raises:
        ConfigError: A hook returns something else than config models, or is misspelt.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)  # one for each: a misspelt hook is then this plugin's alone
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    claims: list[Claim] = []
    for hook, (kind, base) in _HOOKS.items():
        for models in getattr(manager.hook, hook)():
            if not isinstance(models, Iterable):
                raise ConfigError(f"{hook} returned {models!r}, which is not a list of {base.__name__} classes")
            for model in models:
                if not (isinstance(model, type) and issubclass(model, base)):
                    raise ConfigError(f"{hook} returned {model!r}, which is not a {base.__name__} class")
                if inspect.isabstract(model):
                    raise ConfigError(f"{hook} returned {model.__qualname__}, which does not implement build")
                claims.append(Claim(kind, model.tag(), model))
    if not claims:
        raise ConfigError("it implements no hook; are its functions marked with tvix_store.hookspecs.hookimpl?")
    return claims
