"""Extended attributes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from plugins.fuse.stores import Store, opened
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.nodes import DirectoryNode, FileNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import DIRECTORY_COMPLICATED, HELLOWORLD_BLOB, PATH_INFO_FULL, SIGNATURE, store_path
from tvix_store_fuse.inodes import ROOT
from vectors.nar import TREES, Dir, File, Link

pytestmark = pytest.mark.anyio

DIRECTORY_TEXT = b"Qkp/bOCNgF0VtCgGL6rpYpmhZ11wjDo5Jhr+OM3QT+s="
HELLOWORLD_TEXT = b"XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww="
CASTORE = {
    "directory": {
        b"user.tvix.castore.directory.digest": b"b3:" + DIRECTORY_TEXT,
        b"user.snix.castore.directory.digest": b"blake3-" + DIRECTORY_TEXT,
    },
    "file": {
        b"user.tvix.castore.blob.digest": b"b3:" + HELLOWORLD_TEXT,
        b"user.snix.castore.blob.digest": b"blake3-" + HELLOWORLD_TEXT,
    },
}


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with opened() as store:
        await store.put("tree", Dir({b"dir": TREES["complicated"], b"file": TREES["hello"], b"link": TREES["link"]}))
        yield store


def xattrs(store: Store, inode: int) -> dict[bytes, bytes | None]:
    """As a program finds them: the names first, then each value."""
    return {name: store.filesystem.xattr(inode, name) for name in store.filesystem.xattr_names(inode)}


async def test_a_directory_has_its_digest(store: Store) -> None:
    assert xattrs(store, (await store.find("tree", b"dir")).inode) == CASTORE["directory"]


@pytest.mark.parametrize("executable", [False, True])
async def test_a_file_has_its_digest(store: Store, executable: bool) -> None:
    await store.put("files", Dir({b"file": File(HELLOWORLD_BLOB.data, executable)}))
    assert xattrs(store, (await store.find("files", b"file")).inode) == CASTORE["file"]


async def test_symlinks_and_the_mount_root_have_none(store: Store) -> None:
    assert xattrs(store, (await store.find("tree", b"link")).inode) == {}
    assert xattrs(store, ROOT) == {}


@pytest.mark.parametrize(
    "name", [b"user.other", b"security.selinux", b"", b"user.tvix.castore.blob.digest", b"user.tvix.store.nar_size"]
)
async def test_other_names_have_no_value(store: Store, name: bytes) -> None:
    assert store.filesystem.xattr((await store.find("tree", b"dir")).inode, name) is None
    assert store.filesystem.xattr(ROOT, name) is None


async def test_a_store_path_has_all_that_is_known_of_it(store: Store) -> None:
    node = DirectoryNode(DIRECTORY_COMPLICATED.digest, DIRECTORY_COMPLICATED.size)
    a, b = store_path("a"), store_path("b")
    metadata = PathInfo(
        store_path=store_path("full"),
        node=node,
        nar_size=840,
        nar_sha256=PATH_INFO_FULL.nar_sha256,
        references=(a, b),
        signatures=(SIGNATURE, SIGNATURE),
        deriver=a,
        ca=PATH_INFO_FULL.ca,
    )
    await store.services.path_infos.put(metadata)
    assert xattrs(store, (await store.find("full")).inode) == {
        **CASTORE["directory"],
        b"user.tvix.store.nar_sha256": b"sha256:" + nixbase32(PATH_INFO_FULL.nar_sha256).encode(),
        b"user.tvix.store.nar_size": b"840",
        b"user.tvix.store.references": f"{a} {b}".encode(),
        b"user.tvix.store.deriver": f"{a}.drv".encode(),
        b"user.tvix.store.signatures": f"{SIGNATURE} {SIGNATURE}".encode(),
        b"user.tvix.store.ca": str(PATH_INFO_FULL.ca).encode(),
    }


@pytest.mark.parametrize(
    ("tree", "expected"), [(File(HELLOWORLD_BLOB.data), CASTORE["file"]), (Link(b"x"), {})], ids=["file", "symlink"]
)
async def test_what_is_not_known_is_left_out(
    store: Store, tree: File | Link, expected: dict[bytes, bytes | None]
) -> None:
    path_info = await store.put("plain", tree)
    assert xattrs(store, (await store.find("plain")).inode) == {
        **expected,
        b"user.tvix.store.nar_sha256": b"sha256:" + nixbase32(path_info.nar_sha256).encode(),
        b"user.tvix.store.nar_size": b"%d" % path_info.nar_size,
    }


async def test_a_shared_file_is_the_store_path_where_it_was_seen_last(store: Store) -> None:
    first = await store.put("first", File(HELLOWORLD_BLOB.data), deriver=store_path("deriver"))
    assert isinstance(first.node, FileNode)
    await store.put("second", File(HELLOWORLD_BLOB.data))
    inode = (await store.find("first")).inode
    assert store.filesystem.xattr(inode, b"user.tvix.store.deriver") is not None
    assert (await store.find("second")).inode == inode
    assert store.filesystem.xattr(inode, b"user.tvix.store.deriver") is None
    assert (await store.find("tree", b"file")).inode == inode
    assert xattrs(store, inode) == CASTORE["file"]


@pytest.mark.parametrize("show_xattr", [False, True])
async def test_they_can_be_switched_off(show_xattr: bool) -> None:
    async with opened(show_xattr=show_xattr) as store:
        assert store.filesystem.shows_xattr is show_xattr
