"""``tvix-store plugins``: what is installed, and what it adds; ``plugins new`` begins one more."""

from __future__ import annotations

from collections.abc import Iterator

import click

from tvix_store.cli.plugins_new import new
from tvix_store.registry import Registry

__all__ = ["plugins"]


@click.group(invoke_without_command=True, short_help="List tags, interfaces and the packages they come from.")
@click.pass_context
def plugins(context: click.Context) -> None:
    """List the types that configurations can use: tag, interface, package, version, state.

    The exit status is 1 if a plugin could not be loaded or two claim one tag.
    """
    if context.invoked_subcommand is None:
        _list(context)


plugins.add_command(new)


def _list(context: click.Context) -> None:
    rows = list(_rows(Registry.load()))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join((*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4])))
    if any(row[4] not in ("ok", "STATE") for row in rows):
        context.exit(1)


def _rows(registry: Registry) -> Iterator[tuple[str, str, str, str, str]]:
    yield "TAG", "INTERFACE", "PACKAGE", "VERSION", "STATE"
    for plugin in registry.plugins:
        if plugin.problem is not None:
            yield "-", "-", plugin.package, plugin.version, f"broken: {plugin.name}: {plugin.problem}"
        for claim in plugin.claims:
            state = registry.conflict(claim.kind, claim.tag) or "ok"
            yield claim.tag, claim.kind.label, plugin.package, plugin.version, state
