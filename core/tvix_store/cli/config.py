"""``tvix-store config``: what a configuration means, without serving it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click
import tomli_w

from tvix_store.cli.explain import explain
from tvix_store.cli.logs import keep_out
from tvix_store.cli.stores import default_state_dir, embedded_default
from tvix_store.composition import Composition
from tvix_store.config import redacted
from tvix_store.config_graph import Drawing
from tvix_store.config_schema import json_schema
from tvix_store.registry import Registry
from tvix_store.store_config import SERVICE_KINDS, StoreConfig
from tvix_store.worker_check import check_workers

__all__ = ["config"]

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)


@click.group(short_help="Check, show, draw and explain configurations.")
def config() -> None:
    """Check, show, draw and explain configurations. Without FILE, the embedded default of `run` is meant."""


config.add_command(explain)


def _load(file: Path | None, registry: Registry) -> StoreConfig:
    if file is None:
        return embedded_default(registry, default_state_dir())
    loaded = StoreConfig.load(file, registry)
    keep_out(loaded.references.hide)
    return loaded


@config.command(short_help="Say whether a configuration can work.")
@_file
@click.option("--build", is_flag=True, help="Also open the stores, as `run` does.")
def check(file: Path | None, build: bool) -> None:
    """Read FILE, follow its references, and report the first mistake; the exit status is 2 then.

    An entry that nobody needs is no mistake, but is named.
    """
    registry = Registry.load()
    store_config = _load(file, registry)
    graph = store_config.check(registry)
    for kind in SERVICE_KINDS:
        store_config.root(kind)
    check_workers(store_config, registry)
    if build:
        asyncio.run(_build(store_config, registry))
    for entry_id in store_config.unused(graph):
        print(f"{store_config.source}: {entry_id} is not used: no root or frontend refers to it")
    count = sum(len(by_name) for by_name in store_config.entries.values())
    print(f"{store_config.source}: {count} entries, {len(graph.edges)} references, no mistakes")


async def _build(store_config: StoreConfig, registry: Registry) -> None:
    async with Composition(store_config, registry) as composition:
        await composition.services()


@config.command(short_help="Print a configuration in full.")
@_file
def show(file: Path | None) -> None:
    """Print FILE as TOML: with its preset as entries, with every default filled in, and with secrets masked.

    What it takes from the environment and from files is printed as it is written there.
    """
    store_config = _load(file, Registry.load())
    document: dict[str, dict[str, dict[str, object]]] = {}
    for entry_id, entry in store_config:
        settings = entry.model_dump(mode="json", exclude_none=True)
        document.setdefault(entry_id.kind.value, {})[entry_id.name] = settings
    written = store_config.references.as_written(document)
    print(tomli_w.dumps({table: _masked(entries) for table, entries in written.items()}), end="")


def _masked(value: object) -> object:
    """Without what URLs in it give away; fields that are secrets themselves come masked from the model."""
    match value:
        case str():
            return redacted(value)
        case list():
            return [_masked(item) for item in value]
        case dict():
            return {key: _masked(item) for key, item in value.items()}
    return value


@config.command(short_help="Print the JSON Schema of configurations.")
def schema() -> None:
    """Print a JSON Schema of configurations that use the installed plugins, for editors."""
    print(json.dumps(json_schema(Registry.load()), indent=2))


@config.command(short_help="Draw which entry refers to which.")
@_file
@click.option("--format", "format_", type=click.Choice(["mermaid", "dot"]), default="mermaid", show_default=True)
def graph(file: Path | None, format_: str) -> None:
    """Print FILE as a graph: a node for each entry, an arrow for each reference. Roots have another border."""
    registry = Registry.load()
    store_config = _load(file, registry)
    drawing = Drawing(store_config, store_config.check(registry))
    print(drawing.mermaid() if format_ == "mermaid" else drawing.dot())
