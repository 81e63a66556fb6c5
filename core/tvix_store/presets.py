"""Compositions that are wanted often, by name: ``preset = "proxy"`` and a few options make a whole configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tvix_store.errors import ConfigError
from tvix_store.registry import did_you_mean, problems
from tvix_store.secrets import Resolver

__all__ = [
    "OPTIONS_TABLE",
    "PRESETS",
    "PRESET_KEY",
    "CiCachePreset",
    "LocalPreset",
    "MirrorPreset",
    "Preset",
    "ProxyPreset",
    "expand_preset",
]

PRESET_KEY = "preset"
OPTIONS_TABLE = "options"

Document = dict[str, dict[str, dict[str, Any]]]
"""Settings by table and name, as in a file."""

_NIXOS_CACHE = "https://cache.nixos.org"
_NIXOS_KEY = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="


class Preset(BaseModel, ABC):
    """The options of a preset, and what they make."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @abstractmethod
    def expand(self) -> Document:
        """The configuration."""


def _metadata(dir_: str) -> dict[str, Any]:
    return {"type": "sqlite", "path": f"{dir_}/metadata.sqlite"}


def _frontends(http: dict[str, Any], grpc_listen: str | None) -> dict[str, dict[str, Any]]:
    grpc = {} if grpc_listen is None else {"grpc": {"type": "grpc", "listen": grpc_listen}}
    return {**grpc, "http": {"type": "http", **http}}


class LocalPreset(Preset):
    """Everything in one folder, served over gRPC and as a binary cache: blobs in packs, the rest in databases."""

    dir: str = Field(min_length=1, description="The folder; made if there is none.")
    grpc_listen: str | None = Field(default="localhost:8000", description="Where it is served over gRPC.")
    listen: str = Field(default="localhost:9000", description="Where the binary cache is.")

    def expand(self) -> Document:
        return {
            "blobservices": {"root": {"type": "fs", "path": f"{self.dir}/blobs"}},
            "directoryservices": {"root": _metadata(self.dir)},
            "pathinfoservices": {"root": _metadata(self.dir)},
            "frontends": _frontends({"listen": self.listen, "state": f"{self.dir}/http.sqlite"}, self.grpc_listen),
        }


class ProxyPreset(Preset):
    """A pull-through cache: what is asked for once is fetched from another binary cache, checked, and kept."""

    dir: str = Field(min_length=1, description="Where contents are kept; made if there is no such folder.")
    upstream: str = Field(default=_NIXOS_CACHE, description="The binary cache to fetch from.")
    public_keys: list[str] = Field(
        default=[_NIXOS_KEY], description="Whose signatures count, as NAME:BASE64; has to be said of other upstreams."
    )
    listen: str = Field(default="localhost:9000", description="Where the binary cache is.")
    grpc_listen: str | None = Field(default=None, description="Where it is served over gRPC, too; unset: nowhere.")

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if self.upstream != _NIXOS_CACHE and "public_keys" not in self.model_fields_set:
            raise ValueError("public_keys is missing: whose signatures count in what comes from upstream")
        return self

    def expand(self) -> Document:
        upstream = {"type": "nix", "base_url": self.upstream, "public_keys": self.public_keys}
        return {
            "blobservices": {"root": {"type": "fs", "path": f"{self.dir}/blobs"}},
            "directoryservices": {"root": _metadata(self.dir)},
            "pathinfoservices": {
                "root": {"type": "cache", "near": "disk", "far": "upstream"},
                "disk": _metadata(self.dir),
                "upstream": upstream,
            },
            "frontends": _frontends({"listen": self.listen}, self.grpc_listen),
        }


class CiCachePreset(Preset):
    """The store of a build machine, in front of one that several share: what that has is kept here once it was wanted.

    What is put goes to both by default, so that it is there for others when the build ends.
    """

    dir: str = Field(min_length=1, description="Where contents are kept; made if there is no such folder.")
    upstream: str = Field(description="The shared store, as grpc+http://HOST:PORT or in another form that grpc takes.")
    write: Literal["far", "both"] = Field(
        default="both", description="Where puts go: to the shared store alone, or to both."
    )
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds until the shared store is not waited for.")
    attempts: int = Field(default=4, ge=1, le=100, description="How often it is asked at most when it is unavailable.")
    negative_ttl_s: float = Field(
        default=10.0, ge=0, le=86_400, description="Seconds for which it is not asked again for what it did not have."
    )
    grpc_listen: str | None = Field(default="localhost:8000", description="Where it is served over gRPC.")
    listen: str = Field(default="localhost:9000", description="Where the binary cache is.")

    def expand(self) -> Document:
        disks = {
            "blobservices": {"type": "fs", "path": f"{self.dir}/blobs"},
            "directoryservices": _metadata(self.dir),
            "pathinfoservices": _metadata(self.dir),
        }
        cache = {"near": "disk", "far": "shared", "write": self.write, "negative_ttl_s": self.negative_ttl_s}
        entries = {
            table: {
                "root": {"type": "cache", **cache},
                "disk": disk,
                "shared": {"type": "retry", "inner": "shared-in-time", "attempts": self.attempts},
                "shared-in-time": {"type": "timeout", "inner": "upstream", "seconds": self.timeout_s},
                "upstream": {"type": "grpc", "url": self.upstream},
            }
            for table, disk in disks.items()
        }
        http = {"listen": self.listen, "state": f"{self.dir}/http.sqlite"}
        return {**entries, "frontends": _frontends(http, self.grpc_listen)}


class MirrorPreset(Preset):
    """The same contents in several folders, and in other stores: each of them can be lost."""

    dirs: list[str] = Field(default=[], description="Folders, each on a disk of its own; made if there are none.")
    urls: list[str] = Field(default=[], description="Other stores, as grpc+http://HOST:PORT and the like.")
    min_writes: int | None = Field(
        default=None, ge=1, description="How many of them have to take what is put; unset: all of them."
    )
    state: str | None = Field(
        default=None, description="SQLite file for uploads to the binary cache; unset: there are none."
    )
    grpc_listen: str | None = Field(default="localhost:8000", description="Where it is served over gRPC.")
    listen: str = Field(default="localhost:9000", description="Where the binary cache is.")

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        count = len(self.dirs) + len(self.urls)
        if count < 2:
            raise ValueError(f"dirs and urls: there are {count} of them, and it takes two to mirror anything")
        if self.min_writes is not None and self.min_writes > count:
            raise ValueError(f"min_writes: there are only {count} dirs and urls")
        return self

    def expand(self) -> Document:
        names = [f"disk{number}" for number in range(1, len(self.dirs) + 1)]
        root: dict[str, Any] = {"type": "mirror", "replicas": [*names, *self.urls]}
        if self.min_writes is not None:
            root["min_writes"] = self.min_writes
        blobs = {name: {"type": "fs", "path": f"{dir_}/blobs"} for name, dir_ in zip(names, self.dirs, strict=True)}
        metadata = {name: _metadata(dir_) for name, dir_ in zip(names, self.dirs, strict=True)}
        http = {"listen": self.listen} if self.state is None else {"listen": self.listen, "state": self.state}
        return {
            "blobservices": {"root": root, **blobs},
            "directoryservices": {"root": root, **metadata},
            "pathinfoservices": {"root": root, **metadata},
            "frontends": _frontends(http, self.grpc_listen),
        }


PRESETS: Mapping[str, type[Preset]] = {
    "local": LocalPreset,
    "proxy": ProxyPreset,
    "ci-cache": CiCachePreset,
    "mirror": MirrorPreset,
}
"""The presets by name."""


class _File(dict[str, Any]):
    """A reference to a file in the place of an option; a preset can hand it on, but not make it part of a string."""

    def __format__(self, spec: str) -> str:
        raise ConfigError(f'{{ file = "{self["file"]}" }} cannot be part of a path or a URL; write a string')


def expand_preset(
    document: Mapping[str, Any], tables: Collection[str], environment: Mapping[str, str], source: str
) -> Mapping[str, Any]:
    """A document whose preset has become entries, if it has one. References in options are still references.

    Args:
        document: As a TOML parser gives it. Its own entries are added; one that has a name of the preset's replaces it.
        tables: The names of tables with entries.
        environment: The variables that options may refer to.
        source: For messages.

    Raises:
        ConfigError: There is no such preset, or its options are wrong.
    """
    if PRESET_KEY not in document:
        if OPTIONS_TABLE in document:
            raise ConfigError(f'{source}: [{OPTIONS_TABLE}] without a preset; add preset = "{next(iter(PRESETS))}"')
        return document
    name = document[PRESET_KEY]
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        shown = f"unknown preset {name!r}" if isinstance(name, str) else "preset must be a string"
        raise ConfigError(f"{source}: {shown}; {did_you_mean(str(name), PRESETS)}")
    written = document.get(OPTIONS_TABLE, {})
    if not isinstance(written, dict):
        raise ConfigError(f"{source}: {OPTIONS_TABLE} must be a table")
    expanded = dict(_expanded(preset, written, environment, f"{source}: [{OPTIONS_TABLE}]"))
    for table, entries in document.items():
        if table in (PRESET_KEY, OPTIONS_TABLE):
            continue
        is_mergeable = table in tables and isinstance(entries, dict)
        expanded[table] = {**expanded.get(table, {}), **entries} if is_mergeable else entries
    return expanded


def _expanded(
    preset: type[Preset], written: dict[str, Any], environment: Mapping[str, str], where: str
) -> Mapping[str, Any]:
    resolver = Resolver(environment)
    values = {
        key: resolver.resolve(value, (OPTIONS_TABLE, "", key), _annotation(preset, key), where)
        for key, value in written.items()
    }
    try:
        options = preset.model_validate(values)
    except ValidationError as exc:
        raise ConfigError(resolver.references.hide(f"{where}: {problems(exc, preset)}")) from None
    as_written = {key: _handed_on(value) for key, value in written.items()}
    try:
        return options.model_copy(update=as_written).expand()
    except ConfigError as exc:
        raise ConfigError(f"{where}: {exc}") from exc


def _annotation(preset: type[Preset], key: str) -> Any:
    return preset.model_fields[key].annotation if key in preset.model_fields else None


def _handed_on(value: object) -> object:
    match value:
        case dict():
            return _File(value)
        case list():
            return [_handed_on(item) for item in value]
    return value
