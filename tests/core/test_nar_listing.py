from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from core.nar_trees import Store, trees
from tvix_store import nar_listing
from tvix_store.errors import LimitExceeded
from tvix_store.nar_listing import listing
from tvix_store.nar_render import load_tree
from vectors.nar import TREES, Dir, File, Link, Tree, encode
from vectors.nar_listings import LISTINGS

pytestmark = pytest.mark.anyio


async def listed(tree: Tree) -> Any:
    store = Store()
    return json.loads(listing(await load_tree(await store.put(tree), store.directories)))


@pytest.mark.parametrize("name", LISTINGS)
async def test_listings_of_sample_trees(name: str) -> None:
    assert await listed(TREES[name]) == json.loads(LISTINGS[name])


def check(node: Any, tree: Tree, nar: bytes) -> None:
    """``node`` says what ``tree`` is, and where in ``nar`` its contents are."""
    match tree:
        case Dir(entries):
            assert node.keys() == {"type", "entries"}
            assert [name.encode("utf-8", "surrogateescape") for name in node["entries"]] == sorted(entries)
            for name, child in node["entries"].items():
                check(child, entries[name.encode("utf-8", "surrogateescape")], nar)
        case Link(target):
            assert node == {"type": "symlink", "target": target.decode("utf-8", "surrogateescape")}
        case File(data, executable):
            start = node.pop("narOffset")
            assert nar[start - 8 : start + len(data)] == len(data).to_bytes(8, "little") + data
            assert node == {"type": "regular", "size": len(data)} | ({"executable": True} if executable else {})


@given(trees)
@settings(max_examples=100, deadline=None)
async def test_a_listing_says_where_contents_are(tree: Tree) -> None:
    document = await listed(tree)
    assert document["version"] == 1
    check(document["root"], tree, encode(tree))


async def test_names_that_are_not_utf_8_stay_apart() -> None:
    tree = Dir({b"\xff": File(b"1"), b"\xfe": Link(b"\x80"), "\u00ff".encode(): File(b"2"), b'"\n\x01': File(b"3")})
    store = Store()
    data = listing(await load_tree(await store.put(tree), store.directories))
    assert data.isascii()
    assert rb'"\udcff":{' in data
    check(json.loads(data)["root"], tree, encode(tree))


async def test_a_listing_that_would_be_huge_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nar_listing, "MAX_LISTING_BYTES", 100_000)
    store = Store()
    node = await store.put_directory()
    for _ in range(50):
        node = await store.put_directory(a=node, b=node)
    with pytest.raises(LimitExceeded, match="a listing of more than 100000 bytes"):
        listing(await load_tree(node, store.directories))


async def test_a_tree_that_is_no_nar_has_no_listing() -> None:
    tree: Tree = File(b"x")
    for _ in range(65):
        tree = Dir({b"d": tree})
    with pytest.raises(LimitExceeded, match="66 levels"):
        await listed(tree)
