from __future__ import annotations

import re
import tomllib

import pytest

from fakes import plugin as fake_plugin
from tvix_store.config_graph import Drawing
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

TEXT = r"""
[pathinfoservices.root]
type = "fetching"
blob_service = "root"
directory_service = "plain://user:hunter2@host"
[blobservices.root]
type = "many"
members = ["disk", "pair://?near=disk&far=plain://"]
by_name = { 'a"b\c' = "disk" }
[blobservices.disk]
type = "plain"
[blobservices.'a"<b>\c']
type = "plain"
[directoryservices.default]
type = "plain"
[frontends.main]
type = "stub"
"""

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_ATTRIBUTES = rf"\[\w+=(?:{_STRING}|\w+)(?:, \w+=(?:{_STRING}|\w+))*\]"
_STATEMENTS = (
    rf"subgraph \w+ {{ label={_STRING};",
    r"rankdir=\w+;",
    r"}",
    rf"node {_ATTRIBUTES};",
    rf"n\d+ {_ATTRIBUTES};",
    rf"n\d+ -> n\d+ {_ATTRIBUTES};",
)


def draw(text: str = TEXT) -> Drawing:
    registry = Registry()
    registry.add(fake_plugin)
    config = StoreConfig.parse(tomllib.loads(text), registry, "store.toml")
    return Drawing(config, config.check(registry))


def boxes(drawing: Drawing) -> dict[str, str]:
    """Labels by the names of the nodes."""
    return dict(re.findall(rf"^ +(n\d+) \[label=({_STRING})", drawing.dot(), re.MULTILINE))


def test_dot_keeps_to_the_grammar() -> None:
    lines = draw().dot().splitlines()
    assert lines[0] == "digraph {"
    assert lines[-1] == "}"
    assert [line for line in lines[1:-1] if not any(re.fullmatch(rule, line.strip()) for rule in _STATEMENTS)] == []
    assert "\n".join(lines).count("{") == "\n".join(lines).count("}")


def test_mermaid_keeps_to_the_grammar() -> None:
    text = r'"[^"]*"'
    rules = (
        r"subgraph \w+",
        "end",
        rf"n\d+\[{text}\]",
        rf"n\d+ -->\|{text}\| n\d+",
        r"classDef root .*",
        r"class n.* root",
    )
    lines = draw().mermaid().splitlines()
    assert lines[0] == "flowchart TB"
    assert [line for line in lines[1:] if not any(re.fullmatch(rule, line.strip()) for rule in rules)] == []
    assert '"a#quot;#lt;b#gt;\\c (plain)"' in "\n".join(lines)


def test_all_entries_and_references_are_drawn() -> None:
    drawing = draw()
    names = boxes(drawing)
    arrows = re.findall(r"(n\d+) -> (n\d+) \[label=(.*)\]", drawing.dot())
    assert [f"{names[owner]} {key} {names[target]}" for owner, target, key in arrows] == [
        '"main (stub)" "serves" "root (many)"',
        '"main (stub)" "serves" "default (plain)"',
        '"main (stub)" "serves" "root (fetching)"',
        '"root (many)" "members[0]" "disk (plain)"',
        '"root (many)" "members[1]" "pair://?near=disk&far=plain://"',
        '"pair://?near=disk&far=plain://" "near" "disk (plain)"',
        '"pair://?near=disk&far=plain://" "far" "plain://"',
        r'"root (many)" "by_name.a\"b\\c" "disk (plain)"',
        '"root (fetching)" "blob_service" "root (many)"',
        '"root (fetching)" "directory_service" "plain://user:***@host"',
    ]


def test_frontends_are_drawn_first_and_roots_are_marked() -> None:
    drawing = draw()
    assert next(iter(boxes(drawing).values())) == '"main (stub)"'
    assert re.findall(r"label=(.*), peripheries=2", drawing.dot()) == [
        '"root (many)"',
        '"default (plain)"',
        '"root (fetching)"',
    ]
    assert re.search(r"class (n\d+,?){3} root$", drawing.mermaid())


def test_entries_are_drawn_in_the_order_of_the_file() -> None:
    assert draw().dot() == draw().dot()
    assert list(boxes(draw()).values())[1:6] == [
        '"root (many)"',
        '"pair://?near=disk&far=plain://"',
        '"plain://"',
        '"disk (plain)"',
        r'"a\"<b>\\c (plain)"',
    ]


@pytest.mark.parametrize("text", ["", '[blobservices.x]\ntype = "plain"'])
def test_what_has_no_roots_is_drawn_as_well(text: str) -> None:
    drawing = draw(text)
    assert "root" not in drawing.mermaid()
    assert drawing.dot().startswith("digraph {\n")
