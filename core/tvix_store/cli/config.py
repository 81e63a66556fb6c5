"""``tvix-store config``: what a configuration means, without serving it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click
import tomli_w

from tvix_store.cli.stores import default_state_dir, embedded_default
from tvix_store.composition import Composition
from tvix_store.config import Kind, redacted
from tvix_store.config_schema import json_schema
from tvix_store.registry import Registry
from tvix_store.store_config import SERVICE_KINDS, EntryId, StoreConfig

__all__ = ["config"]

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)


@click.group(short_help="Check, show and draw configurations.")
def config() -> None:
    """Check, show and draw configurations. Without FILE, the embedded default of `run` is meant."""


def _load(file: Path | None, registry: Registry) -> StoreConfig:
    return StoreConfig.load(file, registry) if file else embedded_default(registry, default_state_dir())


@config.command(short_help="Say whether a configuration can work.")
@_file
@click.option("--build", is_flag=True, help="Also open the stores, as `run` does.")
def check(file: Path | None, build: bool) -> None:
    """Read FILE, follow its references, and report the first mistake; the exit status is 2 then."""
    registry = Registry.load()
    store_config = _load(file, registry)
    edges = store_config.check(registry)
    for kind in SERVICE_KINDS:
        store_config.root(kind)
    if build:
        asyncio.run(_build(store_config, registry))
    count = sum(len(by_name) for by_name in store_config.entries.values())
    print(f"{store_config.source}: {count} entries, {len(edges)} references, no mistakes")


async def _build(store_config: StoreConfig, registry: Registry) -> None:
    async with Composition(store_config, registry) as composition:
        await composition.services()


@config.command(short_help="Print a configuration in full.")
@_file
def show(file: Path | None) -> None:
    """Print FILE as TOML with every default filled in, and secrets masked."""
    document: dict[str, dict[str, object]] = {}
    for entry_id, entry in _load(file, Registry.load()):
        settings = entry.model_dump(mode="json", exclude_none=True)
        document.setdefault(entry_id.kind.value, {})[entry_id.name] = _masked(settings)
    print(tomli_w.dumps(document), end="")


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
    """Print FILE as a graph: a node for each entry, an arrow for each reference."""
    registry = Registry.load()
    store_config = _load(file, registry)
    references = store_config.check(registry)
    labels = {entry_id: f"{entry_id.name} ({entry.type})" for entry_id, entry in store_config}
    for _, reference, target in references:
        labels.setdefault(target, redacted(reference.target))
    edges = [(owner, reference.key, target) for owner, reference, target in references]
    for frontend in store_config.entries.get(Kind.FRONTEND, {}):
        served = EntryId(Kind.FRONTEND, frontend)
        edges += [(served, "serves", store_config.root(kind)) for kind in SERVICE_KINDS]
    print(_mermaid(labels, edges) if format_ == "mermaid" else _dot(labels, edges))


def _mermaid(labels: dict[EntryId, str], edges: list[tuple[EntryId, str, EntryId]]) -> str:
    numbers = {entry_id: f"n{index}" for index, entry_id in enumerate(labels)}
    lines = ["flowchart LR"]
    for kind in Kind:
        members = [entry_id for entry_id in labels if entry_id.kind is kind]
        if members:
            lines.append(f"    subgraph {kind.value}")
            lines += [f'        {numbers[member]}["{_quoted(labels[member], "#quot;")}"]' for member in members]
            lines.append("    end")
    lines += [f"    {numbers[owner]} -->|{key}| {numbers[target]}" for owner, key, target in edges]
    return "\n".join(lines)


def _dot(labels: dict[EntryId, str], edges: list[tuple[EntryId, str, EntryId]]) -> str:
    numbers = {entry_id: f"n{index}" for index, entry_id in enumerate(labels)}
    lines = ["digraph {", "    rankdir=LR;", "    node [shape=box];"]
    for kind in Kind:
        members = [entry_id for entry_id in labels if entry_id.kind is kind]
        if members:
            lines.append(f'    subgraph cluster_{kind.value} {{ label="{kind.value}";')
            lines += [
                f'        {numbers[member]} [label="{_quoted(labels[member], chr(92) + chr(34))}"];'
                for member in members
            ]
            lines.append("    }")
    lines += [f'    {numbers[owner]} -> {numbers[target]} [label="{key}"];' for owner, key, target in edges]
    return "\n".join([*lines, "}"])


def _quoted(label: str, quote: str) -> str:
    return label.replace('"', quote)
