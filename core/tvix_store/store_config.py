"""A whole configuration: the TOML file as entries by name, and the checks that need no service to be built."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tvix_store.address_check import same_address
from tvix_store.capabilities import Capabilities
from tvix_store.config import EntryConfig, FrontendConfig, Kind, Reference
from tvix_store.errors import ConfigError
from tvix_store.presets import OPTIONS_TABLE, PRESET_KEY, expand_preset
from tvix_store.registry import Registry, did_you_mean, problems
from tvix_store.secrets import References, Resolver

__all__ = ["ROOT_NAMES", "SERVICE_KINDS", "Edge", "EntryId", "Graph", "StoreConfig"]

ROOT_NAMES = ("root", "default")
"""Names of the entry that is served: the first that is there."""

SERVICE_KINDS = (Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO)


@dataclass(frozen=True, slots=True)
class EntryId:
    """Where an entry stands.

    Args:
        kind: Its table.
        name: Its name; for anonymous ones that of ``owner`` and the key, as in ``root.near``.
        owner: For anonymous ones, the entry that has the URL.
    """

    kind: Kind
    name: str
    owner: EntryId | None = None

    def __str__(self) -> str:
        if self.owner is not None:
            return f"{self.owner} {self.name.removeprefix(f'{self.owner.name}.')}"
        name = self.name if _BARE_KEY.fullmatch(self.name) else json.dumps(self.name)
        return f"[{self.kind.value}.{name}]"


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # what TOML lets stand without quotes


Edge = tuple[EntryId, Reference, EntryId]
"""A reference with both its ends."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What refers to what, seen to be without circles.

    Args:
        entries: Those of the file in its order, each followed by the anonymous ones that its URLs stand for.
        edges: Their references.
        capabilities: What each service will be able to do; ``None`` where that is not known before it is built.
    """

    entries: Mapping[EntryId, EntryConfig]
    edges: Sequence[Edge]
    capabilities: Mapping[EntryId, Capabilities | None]

    def below(self, *tops: EntryId) -> set[EntryId]:
        """These and all that they need."""
        found: set[EntryId] = set()
        left = list(tops)
        while left:
            entry_id = left.pop()
            if entry_id not in found:
                found.add(entry_id)
                left += [target for owner, _, target in self.edges if owner == entry_id]
        return found


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Entries by kind and name, each parsed by its model.

    Args:
        source: Where it came from, for messages: a file name, or ``command line``.
        entries: By kind, then by name.
        references: What of them is from the environment and from files, and must not be shown.
    """

    source: str
    entries: Mapping[Kind, Mapping[str, EntryConfig]] = field(default_factory=dict)
    references: References = field(default_factory=References)

    @classmethod
    def load(cls, path: Path, registry: Registry, environment: Mapping[str, str] | None = None) -> StoreConfig:
        """Read a TOML file, with its preset and with what it refers to outside of it.

        Args:
            path: Of the file.
            registry: Where entries find their models.
            environment: The variables that the file may refer to; those of this process by default.

        Raises:
            ConfigError: It cannot be read, is not TOML, or an entry is wrong; names file, section and key.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise ConfigError(f"{path}: {exc.strerror}") from exc
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ConfigError(f"{path}: not a TOML file: {exc}") from exc
        environment = os.environ if environment is None else environment
        expanded = expand_preset(document, {kind.value for kind in Kind}, environment, str(path))
        resolver = Resolver(environment)
        resolved = _resolved(expanded, registry, resolver, str(path))
        references = resolver.references
        with _hiding(references):
            config = cls.parse(resolved, registry, str(path))
        return replace(config, references=references)

    @classmethod
    def parse(cls, document: Mapping[str, Any], registry: Registry, source: str) -> StoreConfig:
        """Make entries of a document as a TOML parser gives it, which says all itself; the same errors as ``load``."""
        kinds = {kind.value: kind for kind in Kind}
        entries: dict[Kind, dict[str, EntryConfig]] = {kind: {} for kind in Kind}
        for table, value in document.items():
            if table not in kinds:
                what = f"table [{table}]" if isinstance(value, dict | list) else f"key {table!r}"
                known = did_you_mean(table, (*kinds, PRESET_KEY, OPTIONS_TABLE))
                raise ConfigError(f"{source}: unknown {what}; {known}")
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: [{table}] must be a table of entries, such as [{table}.root]")
            for name, settings in value.items():
                entry_id = EntryId(kinds[table], name)
                entries[kinds[table]][name] = _parse_entry(entry_id, settings, registry, source)
        return cls(source, entries)

    @classmethod
    def from_urls(cls, blobs: str, directories: str, path_infos: str, registry: Registry, source: str) -> StoreConfig:
        """The composition of three services given as URLs; each is the root of its kind.

        Raises:
            ConfigError: One of them is not a URL of a known type.
        """
        urls = zip(SERVICE_KINDS, (blobs, directories, path_infos), strict=True)
        try:
            return cls(source, {kind: {ROOT_NAMES[0]: registry.from_url(kind, url)} for kind, url in urls})
        except ConfigError as exc:
            raise ConfigError(f"{source}: {exc}") from exc

    def __iter__(self) -> Iterator[tuple[EntryId, EntryConfig]]:
        for kind, by_name in self.entries.items():
            for name, entry in by_name.items():
                yield EntryId(kind, name), entry

    def root(self, kind: Kind) -> EntryId:
        """The entry that is served.

        Raises:
            ConfigError: There is none.
        """
        for name in self.root_names(kind):
            return EntryId(kind, name)
        names = self.entries.get(kind, {})
        raise ConfigError(f"{self.source}: no [{kind.value}.{ROOT_NAMES[0]}]; {_names(names, kind, ROOT_NAMES[0])}")

    def root_names(self, kind: Kind) -> Sequence[str]:
        """The name of the root, if there is one."""
        return [name for name in ROOT_NAMES if name in self.entries.get(kind, {})][:1]

    def resolve(self, owner: EntryId, reference: Reference, registry: Registry) -> tuple[EntryId, EntryConfig]:
        """What a reference means: a named entry, or a new anonymous one for a URL.

        Raises:
            ConfigError: There is no such entry, or the URL is not of a known type.
        """
        where = f"{self.source}: {owner} {reference.key}"
        if reference.is_url:
            try:
                entry = registry.from_url(reference.kind, reference.target)
            except ConfigError as exc:
                raise ConfigError(f"{where}: {exc}") from exc
            return EntryId(reference.kind, f"{owner.name}.{reference.key}", owner), entry
        names = self.entries.get(reference.kind, {})
        name = reference.target
        if name not in names and name == ROOT_NAMES[0] and ROOT_NAMES[1] in names:
            name = ROOT_NAMES[1]
        if name not in names:
            known = self._others(reference) or _names(names, reference.kind, name)
            raise ConfigError(f"{where}: there is no {reference.kind.label} {reference.target!r}; {known}")
        return EntryId(reference.kind, name), names[name]

    def _others(self, reference: Reference) -> str:
        """Whether entries of other kinds have the name that was meant; empty if none has."""
        target = reference.target
        labels = [kind.label for kind in SERVICE_KINDS if target in self.entries.get(kind, {})]
        if not labels or target in ROOT_NAMES:  # which there is one of for each kind
            return ""
        return f"there is a {' and a '.join(labels)} of that name; this key wants a {reference.kind.label}"

    def check(self, registry: Registry) -> Graph:
        """Follow every reference of every entry, also of those that are not used, and see whether they fit together.

        Raises:
            ConfigError: One leads nowhere, or to itself; then the whole path is shown. Or an entry cannot work over
                what it refers to, or two frontends listen on one address or cannot be in one process.
        """
        with _hiding(self.references):
            return self._check(registry)

    def _check(self, registry: Registry) -> Graph:
        edges: list[Edge] = []
        entries: dict[EntryId, EntryConfig] = {}
        capabilities: dict[EntryId, Capabilities | None] = {}

        def visit(entry_id: EntryId, entry: EntryConfig, path: tuple[EntryId, ...]) -> None:
            if entry_id in path:
                raise self.circle(*path[path.index(entry_id) :], entry_id)
            if entry_id in capabilities:
                return
            self.refuse_repetition(entry_id, entry, entries)
            entries[entry_id] = entry
            inner: dict[str, Capabilities | None] = {}
            stores: dict[str, EntryConfig] = {}
            for reference in entry.references():
                target_id, target = self.resolve(entry_id, reference, registry)
                edges.append((entry_id, reference, target_id))
                visit(target_id, target, (*path, entry_id))
                inner[reference.key] = capabilities[target_id]
                if entry.needs_different_stores and target.is_shared_between_processes:
                    for key in (key for key, other in stores.items() if other == target):
                        raise ConfigError(f"{self.source}: {entry_id} {reference.key}: the same store as {key}")
                    stores[reference.key] = target
            for key, reason in entry.misfits(inner):
                raise ConfigError(f"{self.source}: {entry_id} {key}: {reason}")
            capabilities[entry_id] = entry.capabilities(inner)

        for entry_id, entry in self:
            visit(entry_id, entry, ())
        if (names := same_address(self.entries.get(Kind.FRONTEND, {}))) is not None:
            first, second = (EntryId(Kind.FRONTEND, name) for name in names)
            raise ConfigError(f"{self.source}: {second}: listen: {first} has that address; choose another one")
        self._refuse_second_ones()
        ordered = {entry_id: entries[entry_id] for named, _ in self for entry_id in (named, *_anonymous(named, edges))}
        return Graph(ordered, edges, capabilities)

    def _refuse_second_ones(self) -> None:
        seen: set[str] = set()
        for name, entry in self.entries.get(Kind.FRONTEND, {}).items():
            if isinstance(entry, FrontendConfig) and (reason := entry.one_per_process) is not None:
                entry_id = EntryId(Kind.FRONTEND, name)
                if entry.type in seen:
                    raise ConfigError(f"{self.source}: {entry_id}: {reason}: give {entry_id} a process of its own")
                seen.add(entry.type)

    def unused(self, graph: Graph) -> Sequence[EntryId]:
        """The services with a name that neither a root nor a frontend needs."""
        roots = [EntryId(kind, name) for kind in SERVICE_KINDS for name in self.root_names(kind)]
        frontends = [EntryId(Kind.FRONTEND, name) for name in self.entries.get(Kind.FRONTEND, {})]
        used = graph.below(*roots, *frontends)
        return [entry_id for entry_id, _ in self if entry_id not in used]

    def refuse_repetition(self, entry_id: EntryId, entry: EntryConfig, configs: Mapping[EntryId, EntryConfig]) -> None:
        """Check that an anonymous entry does not stand below one with the same settings: that would have no end.

        Args:
            entry_id: Of the entry to look at.
            entry: Its settings.
            configs: The settings of the entries it stands below.

        Raises:
            ConfigError: It does.
        """
        steps = [entry_id]
        while (owner := steps[0].owner) is not None:
            steps.insert(0, owner)
            if owner.owner is not None and configs.get(owner) == entry:
                raise self.circle(*steps)

    def circle(self, *steps: EntryId) -> ConfigError:
        """The error to raise for entries each of which needs the next; the last is the first again."""
        path = " -> ".join(map(str, steps))
        return ConfigError(f"{self.source}: entries refer to each other in a circle: {path}")


@contextmanager
def _hiding(references: References) -> Iterator[None]:
    """Takes the values that must not be shown out of what goes wrong."""
    try:
        yield
    except ConfigError as exc:
        if not references.values:
            raise
        raise references.hidden(exc) from None


def _anonymous(owner: EntryId, edges: Sequence[Edge]) -> Iterator[EntryId]:
    """The entries that the URLs of one stand for, and those of URLs in these."""
    for from_id, _, target in edges:
        if from_id == owner and target.owner == owner:
            yield target
            yield from _anonymous(target, edges)


def _resolved(
    document: Mapping[str, object], registry: Registry, resolver: Resolver, source: str
) -> Mapping[str, object]:
    """A document with the values that its entries refer to; ``parse`` finds what is not as it should be."""
    resolved: dict[str, object] = {}
    for table, entries in document.items():
        kind = next((kind for kind in Kind if kind.value == table), None)
        if kind is None or not isinstance(entries, dict):
            resolved[table] = entries
            continue
        resolved[table] = {
            name: _resolved_entry(EntryId(kind, name), settings, registry, resolver, source)
            for name, settings in entries.items()
        }
    return resolved


def _resolved_entry(entry_id: EntryId, settings: object, registry: Registry, resolver: Resolver, source: str) -> object:
    if not isinstance(settings, dict):
        return settings
    tag = settings.get("type")
    known = isinstance(tag, str) and tag in registry.tags(entry_id.kind) and not registry.conflict(entry_id.kind, tag)
    fields = registry.model(entry_id.kind, tag).model_fields if known and isinstance(tag, str) else {}
    place, where = (entry_id.kind.value, entry_id.name), f"{source}: {entry_id}"
    return {
        key: value
        if key == "type"
        else resolver.resolve(value, (*place, key), fields[key].annotation if key in fields else None, where)
        for key, value in settings.items()
    }


def _names(names: Mapping[str, object], kind: Kind, wrong: str) -> str:
    if not names:
        return f"the table [{kind.value}] is missing or empty"
    return did_you_mean(wrong, names)


def _parse_entry(entry_id: EntryId, settings: object, registry: Registry, source: str) -> EntryConfig:
    where = f"{source}: {entry_id}"
    if not isinstance(settings, dict):
        raise ConfigError(f"{where} must be a table with a type")
    tag = settings.get("type")
    if not isinstance(tag, str):
        wrong = "type is missing" if tag is None else "type must be a string"
        raise ConfigError(f"{where}: {wrong}; {did_you_mean('', registry.tags(entry_id.kind))}")
    try:
        model = registry.model(entry_id.kind, tag)
    except ConfigError as exc:
        raise ConfigError(f"{where}: {exc}") from exc
    try:
        return model.model_validate(settings)
    except ValidationError as exc:
        raise ConfigError(f"{where}: {problems(exc, model)}") from None  # it may quote a secret
    except ConfigError as exc:  # from a validator
        raise ConfigError(f"{where}: {exc}") from exc
