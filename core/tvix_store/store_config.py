"""A whole configuration: the TOML file as entries by name, and the checks that need no service to be built."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tvix_store.config import EntryConfig, Kind, Reference
from tvix_store.errors import ConfigError
from tvix_store.registry import Registry, did_you_mean, problems

__all__ = ["ROOT_NAMES", "SERVICE_KINDS", "EntryId", "StoreConfig"]

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


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Entries by kind and name, each parsed by its model.

    Args:
        source: Where it came from, for messages: a file name, or ``command line``.
        entries: By kind, then by name.
    """

    source: str
    entries: Mapping[Kind, Mapping[str, EntryConfig]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, registry: Registry) -> StoreConfig:
        """Read a TOML file.

        Raises:
            ConfigError: It cannot be read, is not TOML, or an entry is wrong; names file, section and key.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise ConfigError(f"{path}: {exc.strerror}") from exc
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ConfigError(f"{path}: not a TOML file: {exc}") from exc
        return cls.parse(document, registry, str(path))

    @classmethod
    def parse(cls, document: Mapping[str, Any], registry: Registry, source: str) -> StoreConfig:
        """Make entries of a document as a TOML parser gives it; the same errors as ``load``."""
        kinds = {kind.value: kind for kind in Kind}
        entries: dict[Kind, dict[str, EntryConfig]] = {kind: {} for kind in Kind}
        for table, value in document.items():
            if table not in kinds:
                raise ConfigError(f"{source}: unknown table [{table}]; {did_you_mean(table, kinds)}")
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
        names = self.entries.get(kind, {})
        for name in ROOT_NAMES:
            if name in names:
                return EntryId(kind, name)
        raise ConfigError(f"{self.source}: no [{kind.value}.{ROOT_NAMES[0]}]; {_names(names, kind, ROOT_NAMES[0])}")

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
            known = _names(names, reference.kind, name)
            raise ConfigError(f"{where}: there is no {reference.kind.label} {reference.target!r}; {known}")
        return EntryId(reference.kind, name), names[name]

    def check(self, registry: Registry) -> list[tuple[EntryId, Reference, EntryId]]:
        """Follow every reference of every entry, also of those that are not used.

        Returns:
            The references with both their ends, anonymous entries included.

        Raises:
            ConfigError: One leads nowhere, or to itself; then the whole path is shown.
        """
        edges: list[tuple[EntryId, Reference, EntryId]] = []
        done: set[EntryId] = set()

        def visit(entry_id: EntryId, entry: EntryConfig, path: tuple[EntryId, ...]) -> None:
            if entry_id in path:
                raise self.circle(*path[path.index(entry_id) :], entry_id)
            if entry_id in done:
                return
            self.refuse_repetition(entry_id, entry, configs)
            configs[entry_id] = entry
            for reference in entry.references():
                target_id, target = self.resolve(entry_id, reference, registry)
                edges.append((entry_id, reference, target_id))
                visit(target_id, target, (*path, entry_id))
            done.add(entry_id)

        configs: dict[EntryId, EntryConfig] = {}
        for entry_id, entry in self:
            visit(entry_id, entry, ())
        return edges

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
