"""``tvix-store config explain``: which entry of a running store has an object, and which one would serve it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.composition import Composition
from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject
from tvix_store.explain import Explanation
from tvix_store.lookup import parse_location
from tvix_store.registry import Registry

__all__ = ["explain"]

_HEADER = ("ENTRY", "TYPE", "ANSWER", "NOTE")


@click.command(short_help="Ask a running store which entry has an object.")
@click.argument("what", metavar="DIGEST|STOREPATH")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options()
def explain(stores: StoreOptions, what: str, as_json: bool) -> None:
    """Ask each entry of a running store for a blob, a directory or a path, and say which one would serve it.

    Of a store path, or its hash part, the path info is looked for and the root of its contents. An entry is said to
    serve the object only where that is certain. Asking is a read: caches may be filled by it.
    """
    explanations = asyncio.run(_explain(stores, _key(what)))
    if as_json:
        print(json.dumps([_document(explanation) for explanation in explanations], indent=2))
    else:
        print("\n\n".join(map(_table, explanations)))


def _key(text: str) -> B3Digest | bytes:
    try:
        return B3Digest.parse(text)
    except InvalidObject as exc:
        try:
            return parse_location(text)[0]
        except InvalidObject:
            raise InvalidObject(f"{text[:80]!r} is neither a BLAKE3 digest nor a store path or its hash part") from exc


async def _explain(stores: StoreOptions, key: B3Digest | bytes) -> Sequence[Explanation]:
    registry = Registry.load()
    async with Composition(stores.store_config(registry), registry) as composition:
        services = await stores.services(composition)
        remote = services.path_infos.explainer() if stores.config is None else None
        explainer = remote or services.explainer
        assert explainer is not None, "a composition has one"
        return await explainer.explain(key)


def _document(explanation: Explanation) -> dict[str, object]:
    answers = [{**asdict(answer), "presence": answer.presence.name.lower()} for answer in explanation.answers]
    return {"kind": explanation.kind, "name": explanation.name, "answers": answers}


def _table(explanation: Explanation) -> str:
    rows = [_HEADER]
    for answer in explanation.answers:
        served = "would serve it" if answer.would_serve else ""
        note = "; ".join(filter(None, (served, answer.note)))
        rows.append((answer.entry, answer.type, answer.presence.value, note))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join((*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3])).rstrip() for row in rows]
    return "\n".join([f"{explanation.kind} {explanation.name}", *lines])
