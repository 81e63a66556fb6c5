from __future__ import annotations

import pytest

from tvix_store.digest import EMPTY_DIGEST, B3Digest
from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.lookup import descend, parse_location, split_path
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import DIRECTORY_COMPLICATED, DIRECTORY_WITH_KEEP
from tvix_store.testing.minimal import MinimalDirectoryService

BASE = "pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated"
DIGEST = StorePath.from_base_name(BASE).digest


# --- paths ---


@pytest.mark.parametrize(
    ("path", "components"),
    [
        (b"", ()),
        (b"/", ()),
        (b"a", (b"a",)),
        (b"a/b/", (b"a", b"b")),
        (b"//a///b", (b"a", b"b")),
        (b"\xff/ ", (b"\xff", b" ")),
        (b"...", (b"...",)),
    ],
)
def test_a_path_is_split(path: bytes, components: tuple[bytes, ...]) -> None:
    assert split_path(path) == components


@pytest.mark.parametrize("path", [b".", b"a/..", b"../a", b"a/./b", b"a\0b", b"a" * 256])
def test_a_path_with_a_bad_component_is_refused(path: bytes) -> None:
    with pytest.raises(InvalidObject, match="invalid name"):
        split_path(path)


# --- locations ---


@pytest.mark.parametrize("start", [f"/nix/store/{BASE}", BASE, BASE[:32], f"/nix/store/{BASE[:32]}"])
@pytest.mark.parametrize(("end", "components"), [("", ()), ("/", ()), ("/keep/.keep", (b"keep", b".keep"))])
def test_a_location_is_a_store_path_and_a_path_below(start: str, end: str, components: tuple[bytes, ...]) -> None:
    name = None if start.endswith(BASE[:32]) else BASE[33:]
    assert parse_location(start + end) == (DIGEST, name, components)


def test_a_location_in_another_store() -> None:
    assert parse_location(f"/gnu/store/{BASE}/x", "/gnu/store") == (DIGEST, BASE[33:], (b"x",))


def test_a_location_need_not_be_text() -> None:
    assert parse_location(f"{BASE}/\udcff") == (DIGEST, BASE[33:], (b"\xff",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/nix/store",
        "/nix/store/",
        "/nix/store//x",
        "/nix/var/x",
        "x",
        "keep",
        BASE[:31],
        BASE[:33],
        BASE[1:],
        BASE.replace("p", "e"),
        f"{BASE[:32]}_x",
        f"{BASE} x",
        f"{BASE}/../x",
        f"./{BASE}",
    ],
)
def test_what_is_no_location_is_refused_on_one_line(text: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        parse_location(text)
    assert "\n" not in str(caught.value)


# --- descending ---


@pytest.fixture
def directories() -> MinimalDirectoryService:
    service = MinimalDirectoryService()
    for directory in (DIRECTORY_COMPLICATED, DIRECTORY_WITH_KEEP):
        service.directories[directory.digest] = directory
    return service


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "node"),
    [
        (b"", DIRECTORY_COMPLICATED.node()),
        (b"keep", DIRECTORY_WITH_KEEP.node()),
        (b"keep/.keep", FileNode(EMPTY_DIGEST, 0)),
        (b"aa", SymlinkNode(b"/nix/store/somewhereelse")),
        (b"void", None),
        (b"v/oid", None),
        (b"keep/void", None),
        (b"keep/.keep/foo", None),
        (b"aa/foo", None),
    ],
)
async def test_a_node_is_found_by_its_path(
    directories: MinimalDirectoryService, path: bytes, node: Node | None
) -> None:
    """The lookups of the reference's import fixture."""
    assert await descend(DIRECTORY_COMPLICATED.node(), split_path(path), directories) == node


@pytest.mark.anyio
async def test_a_directory_on_the_way_that_is_absent_is_an_error(directories: MinimalDirectoryService) -> None:
    directories.directories.clear()
    absent = DirectoryNode(B3Digest.of(b"x"), 0)
    with pytest.raises(DanglingReference, match=r"directory blake3-.* does not exist"):
        await descend(absent, (b"a",), directories)


@pytest.mark.anyio
async def test_what_is_last_need_not_be_there(directories: MinimalDirectoryService) -> None:
    del directories.directories[DIRECTORY_WITH_KEEP.digest]
    assert await descend(DIRECTORY_COMPLICATED.node(), (b"keep",), directories) == DIRECTORY_WITH_KEEP.node()
