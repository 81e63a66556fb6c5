"""The protocol over the filesystem: what each request is answered with, as the kernel reads it."""

from __future__ import annotations

import errno
import logging
import stat
import struct
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from plugins.fuse.kernel import OPCODES, Attr, EntryOut, Kernel, read_in
from plugins.fuse.stores import Store, base_name, opened
from tvix_store.errors import StoreError, Unavailable
from tvix_store.nodes import FileNode
from tvix_store.testing.fixtures import store_path
from tvix_store_fuse.inodes import ROOT
from tvix_store_fuse.protocol import Protocol
from vectors.nar import Dir, File, Link

pytestmark = pytest.mark.anyio

FOREVER = 2**32 - 1
PAGE = 4096
HANDLED = "LOOKUP FORGET GETATTR READLINK READ STATFS GETXATTR LISTXATTR INIT READDIR DESTROY BATCH_FORGET READDIRPLUS"
WRITING = "SETATTR SYMLINK MKNOD MKDIR UNLINK RMDIR RENAME LINK WRITE SETXATTR REMOVEXATTR CREATE FALLOCATE RENAME2"
WRITING += " COPY_FILE_RANGE TMPFILE"
SILENT = "FORGET BATCH_FORGET INTERRUPT NOTIFY_REPLY"
TREE = Dir(
    {
        b"bin": Dir({b"tool": File(b"#!/bin/sh\n", True)}),
        b"empty": Dir({}),
        b"file": File(b"Hello World!"),
        b"link": Link(b"../elsewhere"),
        b"n\xffme": File(b"not UTF-8"),
    }
)
NAMES = [b"bin", b"empty", b"file", b"link", b"n\xffme"]
MANY = Dir({b"%d" % i + b"x" * (i % 250): Link(b"t") for i in range(400)})


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with opened() as store:
        await store.put("tree", TREE)
        yield store


@pytest.fixture
def kernel(store: Store) -> Kernel:
    return Kernel(Protocol("mnt", store.filesystem, uid=5, gid=6))


@pytest.fixture
async def tree(kernel: Kernel) -> int:
    """The inode of the store path."""
    return (await kernel.lookup(ROOT, base_name("tree"))).nodeid


async def n_lookups(store: Store) -> dict[int, int]:
    """As the filesystem counts them."""
    numbers = range(ROOT, 2000)
    found = {number: inode.n_lookups for number in numbers if (inode := store.filesystem.inodes.get(number))}
    return {number: count for number, count in found.items() if count}


# INIT


def init_in(minor: int, flags: int, major: int = 7) -> bytes:
    """``struct fuse_init_in`` as it is since 7.36."""
    return struct.pack("=5I44x", major, minor, 131072, flags, 0)


ALL_FLAGS = 2**32 - 1
WANTED = sum(1 << bit for bit in (0, 4, 12, 13, 17, 18, 22, 23, 24))


@pytest.mark.parametrize("minor", [31, 45])
async def test_init(kernel: Kernel, minor: int) -> None:
    answer = await kernel.ok("INIT", 0, init_in(minor, ALL_FLAGS))
    numbers = struct.unpack("=4I2H2I2HI28x", answer)
    assert numbers == (7, 31, 131072, WANTED, 0, 0, 4096, 1, 256, 0, 0)
    assert kernel.protocol.is_initialised


async def test_init_of_the_length_it_had_before_7_36(kernel: Kernel) -> None:
    answer = await kernel.ok("INIT", 0, init_in(35, ALL_FLAGS)[:16])
    assert len(answer) == 64


@pytest.mark.parametrize("offered", [0, 1 << 13, 1 << 14 | 1 << 17])
async def test_init_asks_only_for_what_was_offered(kernel: Kernel, offered: int) -> None:
    answer = await kernel.ok("INIT", 0, init_in(38, offered))
    assert struct.unpack_from("=I", answer, 12) == (offered & WANTED,)


@pytest.mark.parametrize(("major", "minor"), [(7, 30), (6, 40), (8, 0)])
async def test_init_of_a_kernel_that_speaks_another_protocol(
    kernel: Kernel, caplog: pytest.LogCaptureFixture, major: int, minor: int
) -> None:
    assert await kernel.error("INIT", 0, init_in(minor, ALL_FLAGS, major)) == errno.EPROTO
    assert not kernel.protocol.is_initialised
    assert f"mnt: the kernel speaks FUSE {major}.{minor}, 7.31 is needed" in caplog.text


# What is not handled


@pytest.mark.parametrize("name", WRITING.split())
async def test_what_would_write_is_refused(kernel: Kernel, name: str) -> None:
    assert await kernel.ask(name, ROOT, bytes(100)) == (errno.EROFS, b"")


@pytest.mark.parametrize("name", sorted(set(OPCODES) - {*HANDLED.split(), *WRITING.split(), *SILENT.split()}))
async def test_what_is_not_known_is_said_to_be_so(kernel: Kernel, name: str) -> None:
    assert await kernel.ask(name, ROOT, bytes(100)) == (errno.ENOSYS, b"")


@pytest.mark.parametrize("name", SILENT.split())
@pytest.mark.parametrize("n_bytes", [0, 100])
async def test_what_nobody_waits_for_is_not_answered(kernel: Kernel, name: str, n_bytes: int) -> None:
    assert await kernel.raw(OPCODES[name], 2, bytes(n_bytes)) is None


async def test_forget_that_fails_is_not_answered(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.protocol._filesystem, "forget", None)
    assert await kernel.raw(OPCODES["FORGET"], 2, bytes(8)) is None


async def test_destroy(kernel: Kernel) -> None:
    assert await kernel.ok("DESTROY", 0) == b""


@pytest.mark.parametrize("name", ["READ", "READDIR", "READDIRPLUS", "INIT", "GETXATTR", "LISTXATTR"])
async def test_request_that_was_cut_off(kernel: Kernel, name: str) -> None:
    assert await kernel.error(name, ROOT, bytes(7)) == errno.EINVAL


# Names and attributes


async def test_lookup(kernel: Kernel, tree: int) -> None:
    entry = await kernel.lookup(tree, b"file")
    attr = Attr(entry.nodeid, 12, 1, 1, 1, 1, 0, 0, 0, stat.S_IFREG | 0o444, 1, 5, 6, 0, PAGE, 0)
    assert entry == EntryOut(entry.nodeid, 0, FOREVER, FOREVER, 0, 0, attr)


async def test_name_in_the_root_is_believed_for_as_long_as_is_configured() -> None:
    async with opened(path_s=2.5) as store:
        await store.put("tree", TREE)
        entry = await Kernel(Protocol("mnt", store.filesystem)).lookup(ROOT, base_name("tree"))
        assert (entry.entry_valid, entry.entry_valid_nsec) == (2, 500_000_000)
        assert (entry.attr_valid, entry.attr_valid_nsec) == (FOREVER, 0)


async def test_absent_name_is_an_entry_without_an_inode(kernel: Kernel, tree: int) -> None:
    entry = EntryOut.unpack(await kernel.ok("LOOKUP", tree, b"absent\0"))
    assert (entry.nodeid, entry.entry_valid, entry.entry_valid_nsec) == (0, FOREVER, 0)


async def test_absent_store_path_is_believed_for_a_short_time(kernel: Kernel) -> None:
    entry = EntryOut.unpack(await kernel.ok("LOOKUP", ROOT, base_name("absent") + b"\0"))
    assert (entry.nodeid, entry.entry_valid, entry.entry_valid_nsec) == (0, 1, 0)


async def test_absence_that_is_not_to_be_believed_is_an_error() -> None:
    async with opened(negative_s=0) as store:
        kernel = Kernel(Protocol("mnt", store.filesystem))
        assert await kernel.ask("LOOKUP", ROOT, base_name("absent") + b"\0") == (errno.ENOENT, b"")


async def test_getattr(kernel: Kernel, tree: int) -> None:
    entry = await kernel.lookup(tree, b"bin", b"tool")
    answer = await kernel.ok("GETATTR", entry.nodeid, bytes(16))
    assert struct.unpack("=QII", answer[:16]) == (FOREVER, 0, 0)
    assert Attr.unpack(answer[16:]) == entry.attr
    assert entry.attr.mode == stat.S_IFREG | 0o555


async def test_attributes_of_a_root_that_can_be_listed_are_believed_for_a_short_time() -> None:
    async with opened(list_root=True, negative_s=0.5) as store:
        answer = await Kernel(Protocol("mnt", store.filesystem)).ok("GETATTR", ROOT, bytes(16))
        assert struct.unpack("=QII", answer[:16]) == (0, 500_000_000, 0)


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2)])
async def test_blocks_are_of_512_bytes(store: Store, kernel: Kernel, size: int, blocks: int) -> None:
    await store.put("sized", File(bytes(size)))
    assert (await kernel.lookup(ROOT, base_name("sized"))).attr.blocks == blocks


async def test_directories_have_no_blocks(kernel: Kernel, tree: int) -> None:
    assert (await kernel.lookup(tree, b"bin")).attr.blocks == 0


async def test_largest_size_finds_room(kernel: Kernel, store: Store) -> None:
    node = FileNode((await store.put("large", File(b"x"))).node.digest, 2**64 - 1)  # type: ignore[union-attr]
    entry = store.filesystem.enter(ROOT, b"large", node)
    attr = Attr.unpack((await kernel.ok("GETATTR", entry.attributes.inode, bytes(16)))[16:])
    assert (attr.size, attr.blocks) == (2**63 - 1, 2**54)


async def test_readlink(kernel: Kernel, tree: int) -> None:
    entry = await kernel.lookup(tree, b"link")
    assert await kernel.ok("READLINK", entry.nodeid) == b"../elsewhere"


async def test_statfs(kernel: Kernel) -> None:
    answer = await kernel.ok("STATFS", ROOT)
    assert struct.unpack("=5Q4I24x", answer) == (0, 0, 0, 0, 0, PAGE, 255, PAGE, 0)


# Forgetting


async def test_forget(kernel: Kernel, store: Store, tree: int) -> None:
    await kernel.lookup(ROOT, base_name("tree"))
    await kernel.raw(OPCODES["FORGET"], tree, struct.pack("=Q", 1))
    assert await kernel.error("GETATTR", tree, bytes(16)) == 0
    await kernel.raw(OPCODES["FORGET"], tree, struct.pack("=Q", 1))
    assert await kernel.error("GETATTR", tree, bytes(16)) == errno.ESTALE


async def test_batch_forget(kernel: Kernel, store: Store, tree: int) -> None:
    await kernel.entries(tree)
    pairs = [struct.pack("=QQ", *pair) for pair in kernel.n_lookups.items()]
    await kernel.raw(OPCODES["BATCH_FORGET"], 0, struct.pack("=II", len(pairs), 0) + b"".join(pairs))
    assert len(store.filesystem.inodes) == 0


async def test_batch_forget_with_fewer_than_it_says(kernel: Kernel, store: Store, tree: int) -> None:
    body = struct.pack("=II", 2**32 - 1, 0) + struct.pack("=QQ", tree, 1) + b"half"
    assert await kernel.raw(OPCODES["BATCH_FORGET"], 0, body) is None
    assert len(store.filesystem.inodes) == 0


async def test_batch_forget_with_more_than_it_says(kernel: Kernel, store: Store, tree: int) -> None:
    body = struct.pack("=II", 0, 0) + struct.pack("=QQ", tree, 1)
    await kernel.raw(OPCODES["BATCH_FORGET"], 0, body)
    assert len(store.filesystem.inodes) == 1


# Reading


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, PAGE, b"Hello World!"),
        (0, 5, b"Hello"),
        (6, PAGE, b"World!"),
        (12, PAGE, b""),
        (2**63 - 1, 2**32 - 1, b""),
        (2**64 - 1, 2**32 - 1, b""),
        (0, 0, b""),
    ],
)
async def test_read(kernel: Kernel, tree: int, offset: int, size: int, expected: bytes) -> None:
    entry = await kernel.lookup(tree, b"file")
    assert await kernel.read(entry.nodeid, offset, size) == expected


async def test_no_more_is_read_at_once_than_was_agreed_on(kernel: Kernel, store: Store, tree: int) -> None:
    node = FileNode((await store.put("large", File(b"x"))).node.digest, 2**40)  # type: ignore[union-attr]
    entry = store.filesystem.enter(ROOT, b"large", node)
    await kernel.read(entry.attributes.inode, 0, 2**32 - 1)
    assert store.reads == [(0, 2**20)]


async def test_who_is_told_of_reads(store: Store) -> None:
    told: list[int] = []
    kernel = Kernel(Protocol("mnt", store.filesystem, reads=told.append))
    entry = await kernel.lookup(ROOT, base_name("tree"), b"file")
    assert told == []
    await kernel.read(entry.nodeid, 0, PAGE)
    assert told == [entry.nodeid]


@pytest.mark.parametrize(("name", "number"), [(b"bin", errno.EISDIR), (b"link", errno.EINVAL)])
async def test_only_files_are_read(kernel: Kernel, tree: int, name: bytes, number: int) -> None:
    entry = await kernel.lookup(tree, name)
    assert await kernel.error("READ", entry.nodeid, read_in(0, PAGE)) == number


# Listing


async def test_readdirplus(kernel: Kernel, tree: int) -> None:
    found = await kernel.entries(tree)
    assert [entry.name for entry in found] == [b".", b"..", *NAMES]
    assert [entry.off for entry in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [entry.type for entry in found] == [4, 4, 4, 4, 8, 10, 8]
    for entry in found[2:]:
        assert entry.entry == await kernel.lookup(tree, entry.name)
        assert entry.entry is not None
        assert entry.ino == entry.entry.attr.ino == entry.entry.nodeid


async def test_dots_are_not_looked_up(kernel: Kernel, tree: int) -> None:
    dot, dot_dot = (await kernel.window(tree, 0, PAGE))[:2]
    assert (dot.ino, dot_dot.ino) == (tree, ROOT)
    for entry in (dot, dot_dot):
        assert entry.entry is not None
        assert entry.entry.nodeid == 0


async def test_what_a_listing_gives_is_counted_as_looked_up(kernel: Kernel, store: Store, tree: int) -> None:
    for _ in range(2):
        await kernel.entries(tree, 400)
    assert await n_lookups(store) == kernel.n_lookups


async def test_readdir(kernel: Kernel, store: Store, tree: int) -> None:
    before = await n_lookups(store)
    found = await kernel.entries(tree, plus=False)
    kinds = zip([b".", b"..", *NAMES], [4, 4, 4, 4, 8, 10, 8], strict=True)
    assert [(entry.name, entry.type) for entry in found] == list(kinds)
    assert [entry.ino for entry in found] == [tree, ROOT, *[2**32 - 1] * 5]
    assert await n_lookups(store) == before


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("size", [416, 417, 423, 424, 1000, 4096, 65536, 2**32 - 1])
async def test_any_window_gives_each_name_once(store: Store, size: int, plus: bool) -> None:
    await store.put("many", MANY)
    kernel = Kernel(Protocol("mnt", store.filesystem))
    many = (await kernel.lookup(ROOT, base_name("many"))).nodeid
    found = await kernel.entries(many, size, plus=plus)
    assert [entry.name for entry in found] == [b".", b"..", *sorted(MANY.entries)]
    assert await n_lookups(store) == kernel.n_lookups


async def test_window_is_as_full_as_can_be(kernel: Kernel, tree: int) -> None:
    async def n_entries(size: int) -> int:
        return len(await kernel.window(tree, 0, size))

    # 128 bytes of the entry, 24 of what comes before the name; the names have less than 8.
    assert [await n_entries(size) for size in (160, 319, 320, 479, 480, 7 * 160)] == [1, 1, 2, 2, 3, 7]


@pytest.mark.parametrize("position", [0, 1, 2, 6])
@pytest.mark.parametrize(("name", "size"), [("READDIR", 31), ("READDIRPLUS", 159), ("READDIR", 0)])
async def test_window_too_small_for_an_entry_is_no_end(
    kernel: Kernel, tree: int, name: str, size: int, position: int
) -> None:
    before = dict(kernel.n_lookups)
    assert await kernel.error(name, tree, read_in(position, size)) == errno.EINVAL
    assert kernel.n_lookups == before


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("position", [7, 8, 2**63 - 1, 2**64 - 1])
async def test_there_is_nothing_after_the_end(kernel: Kernel, tree: int, plus: bool, position: int) -> None:
    ask = kernel.window if plus else kernel.plain_window
    assert await ask(tree, position, PAGE) == []


@pytest.mark.parametrize("plus", [True, False])
async def test_a_listing_can_be_taken_up_anywhere(kernel: Kernel, tree: int, plus: bool) -> None:
    ask = kernel.window if plus else kernel.plain_window
    for position, name in enumerate([b".", b"..", *NAMES]):
        assert (await ask(tree, position, PAGE))[0].name == name


async def test_a_window_is_no_longer_than_a_reply_may_be(store: Store, kernel: Kernel) -> None:
    await store.put("huge", Dir({b"%05d" % i: Link(b"t") for i in range(8000)}))
    huge = (await kernel.lookup(ROOT, base_name("huge"))).nodeid
    window = await kernel.window(huge, 0, 2**32 - 1)
    assert 2**20 - 160 < len(window) * 160 <= 2**20


async def test_what_has_gone_from_the_root_leaves_a_hole() -> None:
    async with opened(list_root=True) as store:
        kernel = Kernel(Protocol("mnt", store.filesystem))
        for name in ("one", "two", "three"):
            await store.put(name, TREE)
        names = [entry.name for entry in await kernel.entries(ROOT)]
        gone = names[3]
        (digest,) = [store_path(n).digest for n in ("one", "two", "three") if base_name(n) == gone]
        await store.services.path_infos.delete([digest])
        for plus in (True, False):
            assert [entry.name for entry in await kernel.entries(ROOT, plus=plus)] == [n for n in names if n != gone]
        assert [entry.off for entry in await kernel.entries(ROOT)] == [1, 2, 3, 5]


@pytest.mark.parametrize("name", ["READDIR", "READDIRPLUS"])
async def test_root_that_is_not_to_be_listed(kernel: Kernel, name: str) -> None:
    assert await kernel.error(name, ROOT, read_in(0, PAGE)) == errno.EPERM


class Told:
    """What `lists` was called with, and what it has waited for."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int, int]] = []
        self.n_waited = 0

    def __call__(self, number: int, first: int, end: int) -> Coroutine[Any, Any, None] | None:
        self.windows.append((number, first, end))
        return self.wait() if first == end else None

    async def wait(self) -> None:
        self.n_waited += 1


async def test_who_is_told_of_listings(store: Store) -> None:
    told = Told()
    kernel = Kernel(Protocol("mnt", store.filesystem, lists=told))
    tree = (await kernel.lookup(ROOT, base_name("tree"))).nodeid
    await kernel.entries(tree, 640)
    assert told.windows == [(tree, 0, 2), (tree, 2, 5), (tree, 5, 5)]
    assert told.n_waited == 1


# Extended attributes


def getxattr_in(size: int, name: bytes = b"") -> bytes:
    return struct.pack("=II", size, 0) + (name + b"\0" if name else b"")


DIGEST = b"user.snix.castore.blob.digest"


async def test_getxattr(kernel: Kernel, tree: int) -> None:
    file = (await kernel.lookup(tree, b"file")).nodeid
    value = await kernel.ok("GETXATTR", file, getxattr_in(PAGE, DIGEST))
    assert value.startswith(b"blake3-")
    assert await kernel.ok("GETXATTR", file, getxattr_in(0, DIGEST)) == struct.pack("=II", len(value), 0)
    assert await kernel.ok("GETXATTR", file, getxattr_in(len(value), DIGEST)) == value
    assert await kernel.error("GETXATTR", file, getxattr_in(len(value) - 1, DIGEST)) == errno.ERANGE


@pytest.mark.parametrize("name", [b"user.other", b"security.capability"])
@pytest.mark.parametrize("size", [0, PAGE])
async def test_getxattr_of_what_there_is_not(kernel: Kernel, tree: int, name: bytes, size: int) -> None:
    assert await kernel.error("GETXATTR", tree, getxattr_in(size, name)) == errno.ENODATA


async def test_listxattr(kernel: Kernel, tree: int) -> None:
    file = (await kernel.lookup(tree, b"file")).nodeid
    names = b"user.tvix.castore.blob.digest\0user.snix.castore.blob.digest\0"
    assert await kernel.ok("LISTXATTR", file, getxattr_in(PAGE)) == names
    assert await kernel.ok("LISTXATTR", file, getxattr_in(0)) == struct.pack("=II", len(names), 0)
    assert await kernel.error("LISTXATTR", file, getxattr_in(len(names) - 1)) == errno.ERANGE


async def test_listxattr_of_what_has_none(kernel: Kernel) -> None:
    assert await kernel.ok("LISTXATTR", ROOT, getxattr_in(0)) == bytes(8)
    assert await kernel.ok("LISTXATTR", ROOT, getxattr_in(PAGE)) == b""


@pytest.mark.parametrize("name", ["GETXATTR", "LISTXATTR"])
async def test_without_extended_attributes_nobody_need_ask(name: str) -> None:
    async with opened(show_xattr=False) as store:
        kernel = Kernel(Protocol("mnt", store.filesystem))
        assert await kernel.error(name, ROOT, getxattr_in(PAGE, b"user.x")) == errno.ENOSYS


# Failures

ABOUT_AN_INODE = {
    "LOOKUP": b"name\0",
    "GETATTR": bytes(16),
    "READLINK": b"",
    "READ": read_in(0, PAGE),
    "READDIR": read_in(0, PAGE),
    "READDIRPLUS": read_in(0, PAGE),
    "GETXATTR": getxattr_in(PAGE, DIGEST),
    "LISTXATTR": getxattr_in(PAGE),
}


@pytest.mark.parametrize("name", ABOUT_AN_INODE)
@pytest.mark.parametrize("node", [0, 77, 2**64 - 1])
async def test_inode_that_nobody_knows_is_stale(kernel: Kernel, name: str, node: int) -> None:
    assert await kernel.ask(name, node, ABOUT_AN_INODE[name]) == (errno.ESTALE, b"")


def failing(store: Store, exc: Exception, *, later: bool) -> Kernel:
    """Lookups fail, at once or in a coroutine."""

    def lookup(parent: int, name: bytes) -> Any:
        if not later:
            raise exc
        return fail()

    async def fail() -> None:
        raise exc

    store.filesystem.lookup = lookup  # type: ignore[method-assign]
    return Kernel(Protocol("mnt", store.filesystem))


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("exc", [Unavailable("no answer"), StoreError("anything")])
async def test_failure_of_the_store_is_eio_and_a_line(
    store: Store, caplog: pytest.LogCaptureFixture, exc: StoreError, later: bool
) -> None:
    kernel = failing(store, exc, later=later)
    assert await kernel.error("LOOKUP", ROOT, b"x\0") == errno.EIO
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, f"mnt: {exc}")]


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EPERM, errno.ESTALE])
async def test_refusal_is_its_errno_and_no_line(
    store: Store, caplog: pytest.LogCaptureFixture, number: int, later: bool
) -> None:
    kernel = failing(store, OSError(number, "refused"), later=later)
    assert await kernel.error("LOOKUP", ROOT, b"x\0") == number
    assert caplog.records == []


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("exc", [ValueError("a bug"), TimeoutError(), OSError(errno.ENOENT, "the store's own file")])
async def test_bug_is_eio_and_an_error(
    store: Store, caplog: pytest.LogCaptureFixture, exc: Exception, later: bool
) -> None:
    kernel = failing(store, exc, later=later)
    assert await kernel.error("LOOKUP", ROOT, b"x\0") == errno.EIO
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
