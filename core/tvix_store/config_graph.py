"""A configuration as a drawing: which entry refers to which, for Mermaid and for Graphviz."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tvix_store.config import Kind, redacted
from tvix_store.store_config import SERVICE_KINDS, EntryId, Graph, StoreConfig

__all__ = ["Drawing"]

_ORDER = (Kind.FRONTEND, *SERVICE_KINDS)


@dataclass(frozen=True, slots=True)
class _Box:
    number: int
    label: str
    is_root: bool


class Drawing:
    """What there is to draw. Values from the environment and from files are not in it.

    Args:
        config: The configuration.
        graph: What refers to what in it.
    """

    def __init__(self, config: StoreConfig, graph: Graph) -> None:
        self._config = config
        entries = sorted(graph.entries, key=lambda entry_id: _ORDER.index(entry_id.kind))  # else in their order
        roots = {EntryId(kind, name) for kind in SERVICE_KINDS for name in config.root_names(kind)}
        targets = {target: reference.target for _, reference, target in graph.edges}
        self._boxes: Mapping[EntryId, _Box] = {
            entry_id: _Box(number, self._label(entry_id, graph.entries[entry_id].type, targets), entry_id in roots)
            for number, entry_id in enumerate(entries)
        }
        references = [(owner, reference.key, target) for owner, reference, target in graph.edges]
        frontends = [entry_id for entry_id in entries if entry_id.kind is Kind.FRONTEND]
        serves = [(frontend, "serves", root) for frontend in frontends for root in self._boxes if root in roots]
        self._arrows = [
            (self._boxes[owner].number, key, self._boxes[target].number)
            for owner, key, target in (*serves, *references)
        ]

    def _label(self, entry_id: EntryId, tag: str, targets: Mapping[EntryId, str]) -> str:
        """What an entry is called; an anonymous one by its URL, if the file has that in full."""
        if entry_id.owner is None:
            return f"{entry_id.name} ({tag})"
        top, step = entry_id.owner, entry_id
        while top.owner is not None:
            top, step = top.owner, top
        place = (top.kind.value, top.name, re.split(r"[.\[]", step.name.removeprefix(f"{top.name}."))[0])
        references, url = self._config.references, targets[entry_id]
        is_said = all(written[:3] != place for written in references.written) and references.hide(url) == url
        return redacted(url) if is_said else f"({tag})"

    def _by_kind(self) -> Iterator[tuple[Kind, Sequence[_Box]]]:
        for kind in _ORDER:
            boxes = [box for entry_id, box in self._boxes.items() if entry_id.kind is kind]
            if boxes:
                yield kind, boxes

    def mermaid(self) -> str:
        """As a Mermaid flow chart; roots have a thick border."""
        lines = ["flowchart TB"]
        for kind, boxes in self._by_kind():
            lines.append(f"    subgraph {kind.value}")
            lines += [f'        n{box.number}["{_for_mermaid(box.label)}"]' for box in boxes]
            lines.append("    end")
        lines += [f'    n{owner} -->|"{_for_mermaid(key)}"| n{target}' for owner, key, target in self._arrows]
        roots = ",".join(f"n{box.number}" for box in self._boxes.values() if box.is_root)
        if roots:
            lines += ["    classDef root stroke-width:4px", f"    class {roots} root"]
        return "\n".join(lines)

    def dot(self) -> str:
        """In the language of Graphviz; roots have a double border."""
        lines = ["digraph {", "    rankdir=TB;", "    node [shape=box];"]
        for kind, boxes in self._by_kind():
            lines.append(f'    subgraph cluster_{kind.value} {{ label="{kind.value}";')
            for box in boxes:
                border = ", peripheries=2" if box.is_root else ""
                lines.append(f'        n{box.number} [label="{_for_dot(box.label)}"{border}];')
            lines.append("    }")
        lines += [f'    n{owner} -> n{target} [label="{_for_dot(key)}"];' for owner, key, target in self._arrows]
        return "\n".join([*lines, "}"])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _for_mermaid(text: str) -> str:
    """Text between quotes: entities stand for what Mermaid, or the HTML it makes, would take for its own."""
    entities = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"}
    return "".join(entities.get(c, c) for c in _printable(text))


def _for_dot(text: str) -> str:
    """Text between quotes, where a backslash begins an escape."""
    return _printable(text).replace("\\", "\\\\").replace('"', '\\"')
