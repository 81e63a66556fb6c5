"""``tvix-store stats``: how much each store holds, and what it takes to hold it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import click
from rich.filesize import decimal

from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.composition import BuiltEntry
from tvix_store.errors import StoreError
from tvix_store.statistics import ServiceStats

__all__ = ["EntryStats", "collect_stats", "stats"]


@dataclass(frozen=True, slots=True)
class EntryStats:
    """What one entry of a composition says.

    Args:
        entry: The entry with its service.
        stats: What it says; ``None`` if it cannot.
        problem: Why it cannot; ``None`` if it can.
    """

    entry: BuiltEntry
    stats: ServiceStats | None
    problem: str | None


@click.command(short_help="Say how much the stores hold, and how much space that takes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sizes in bytes.")
@store_options(default="the store that `run` keeps", has_state_dir=True)
def stats(stores: StoreOptions, as_json: bool) -> None:
    """Print a line for each store of the composition, used or not.

    LOGICAL is what the objects have together, UNIQUE what is left of it without repetitions, STORED what it takes on
    disk, index and all. The stores are opened beside a daemon that may have them open.
    """
    collected = asyncio.run(_collect(stores))
    if as_json:
        print(json.dumps([_document(entry) for entry in collected], indent=2))
    else:
        _print_table([_HEADER, *map(_row, collected)])


async def _collect(stores: StoreOptions) -> Sequence[EntryStats]:
    async with stores.open_composition() as composition:
        return [await collect_stats(entry) for entry in await composition.entries()]


async def collect_stats(entry: BuiltEntry) -> EntryStats:
    """Ask one entry; that it cannot say is no error."""
    try:
        return EntryStats(entry, await entry.service.stats(), None)
    except StoreError as exc:
        return EntryStats(entry, None, str(exc))


def _document(collected: EntryStats) -> dict[str, object]:
    entry = collected.entry
    document: dict[str, object] = {
        "name": entry.entry_id.name,
        "kind": entry.entry_id.kind.label,
        "type": entry.config.type,
    }
    if collected.stats is None:
        return {**document, "problem": collected.problem}
    ratios = {"deduplication": collected.stats.deduplication, "compression": collected.stats.compression}
    return {**document, **asdict(collected.stats), **ratios, "details": dict(collected.stats.details)}


_HEADER = ("NAME", "KIND", "TYPE", "OBJECTS", "LOGICAL", "UNIQUE", "STORED", "DEDUP", "COMPRESSION", "DETAILS")
_RIGHT = range(3, 9)  # the columns with numbers


def _row(collected: EntryStats) -> Sequence[str]:
    entry, found = collected.entry, collected.stats
    start = (entry.entry_id.name, entry.entry_id.kind.label, entry.config.type)
    if found is None:
        return (*start, *["-"] * len(_RIGHT), collected.problem or "")
    sizes = (found.logical_bytes, found.unique_bytes, found.stored_bytes)
    ratios = (found.deduplication, found.compression)
    return (
        *start,
        str(found.objects),
        *("-" if size is None else decimal(size) for size in sizes),
        *("-" if ratio is None else f"{ratio:.2f}x" for ratio in ratios),
        ", ".join(_details(found)),
    )


def _details(found: ServiceStats) -> Iterator[str]:
    for name, value in found.details:
        match value:
            case int() if name.endswith("bytes"):
                yield f"{name.removesuffix('bytes').rstrip()} {decimal(value)}".lstrip()
            case float():
                yield f"{name} {value:.2f}"
            case _:
                yield f"{name} {value}"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    for row in rows:
        cells = [
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        print("  ".join([*cells, row[-1]]).rstrip())
