"""The kernel's side of the protocol: requests are built and replies taken apart as ``linux/fuse.h`` has them.

Formats and numbers are written down here once more, from that header (of Linux 6.1, version 7.38), so that what the
plugin has can be checked against them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import iscoroutine
from typing import Any

from tvix_store_fuse.messages import Header
from tvix_store_fuse.protocol import Protocol

__all__ = ["OPCODES", "Attr", "Dirent", "EntryOut", "Kernel", "read_in", "request", "take_apart"]

OPCODES = {
    "LOOKUP": 1,
    "FORGET": 2,
    "GETATTR": 3,
    "SETATTR": 4,
    "READLINK": 5,
    "SYMLINK": 6,
    "MKNOD": 8,
    "MKDIR": 9,
    "UNLINK": 10,
    "RMDIR": 11,
    "RENAME": 12,
    "LINK": 13,
    "OPEN": 14,
    "READ": 15,
    "WRITE": 16,
    "STATFS": 17,
    "RELEASE": 18,
    "FSYNC": 20,
    "SETXATTR": 21,
    "GETXATTR": 22,
    "LISTXATTR": 23,
    "REMOVEXATTR": 24,
    "FLUSH": 25,
    "INIT": 26,
    "OPENDIR": 27,
    "READDIR": 28,
    "RELEASEDIR": 29,
    "FSYNCDIR": 30,
    "GETLK": 31,
    "SETLK": 32,
    "SETLKW": 33,
    "ACCESS": 34,
    "CREATE": 35,
    "INTERRUPT": 36,
    "BMAP": 37,
    "DESTROY": 38,
    "IOCTL": 39,
    "POLL": 40,
    "NOTIFY_REPLY": 41,
    "BATCH_FORGET": 42,
    "FALLOCATE": 43,
    "READDIRPLUS": 44,
    "RENAME2": 45,
    "LSEEK": 46,
    "COPY_FILE_RANGE": 47,
    "SETUPMAPPING": 48,
    "REMOVEMAPPING": 49,
    "SYNCFS": 50,
    "TMPFILE": 51,
}

IN_HEADER = "=IIQQIIIHH"
OUT_HEADER = "=IiQ"
ATTR = "=6Q10I"
ENTRY = "=4Q2I"
DIRENT = "=QQII"


@dataclass(frozen=True, slots=True)
class Attr:
    """``struct fuse_attr``."""

    ino: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    flags: int

    @classmethod
    def unpack(cls, data: bytes) -> Attr:
        return cls(*struct.unpack(ATTR, data))


@dataclass(frozen=True, slots=True)
class EntryOut:
    """``struct fuse_entry_out``."""

    nodeid: int
    generation: int
    entry_valid: int
    attr_valid: int
    entry_valid_nsec: int
    attr_valid_nsec: int
    attr: Attr

    @classmethod
    def unpack(cls, data: bytes) -> EntryOut:
        numbers: tuple[int, int, int, int, int, int] = struct.unpack(ENTRY, data[:40])
        return cls(*numbers, Attr.unpack(data[40:]))


@dataclass(frozen=True, slots=True)
class Dirent:
    """``struct fuse_dirent``, or ``struct fuse_direntplus`` if it has an entry."""

    ino: int
    off: int
    type: int
    name: bytes
    entry: EntryOut | None = None


def request(opcode: int, unique: int, node: int, body: bytes = b"") -> bytes:
    return struct.pack(IN_HEADER, 40 + len(body), opcode, unique, node, 1000, 100, 4711, 0, 0) + body


def read_in(offset: int, size: int) -> bytes:
    """``struct fuse_read_in``, without a handle."""
    return struct.pack("=QQIIQII", 0, offset, size, 0, 0, 0, 0)


def take_apart(data: bytes, unique: int) -> tuple[int, bytes]:
    """The error of a reply, as the ``errno`` it is, and what comes after the header."""
    length, error, answered = struct.unpack_from(OUT_HEADER, data)
    assert length == len(data)
    assert answered == unique
    assert -512 < error <= 0, "the kernel does not take it"
    assert not error or length == 16, "an error with something behind it is not taken"
    return -error, data[16:]


class Kernel:
    """Asks a protocol, and keeps count of what it has looked up.

    Attributes:
        n_lookups: By inode, as the kernel counts them.
        n_requests: How many requests there were of each kind.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.n_lookups: dict[int, int] = {}
        self.n_requests: dict[str, int] = {}
        self._unique = 0

    async def raw(self, opcode: int, node: int, body: bytes = b"") -> tuple[int, bytes] | None:
        self._unique += 2
        unique = self._unique
        data = request(opcode, unique, node, body)
        answer: Any = self.protocol.answer(Header.unpack(data), data)
        if iscoroutine(answer):
            answer = await answer
        return None if answer is None else take_apart(b"".join(answer), unique)

    async def ask(self, name: str, node: int, body: bytes = b"") -> tuple[int, bytes]:
        """The error and the body of the reply, which there has to be."""
        self.n_requests[name] = self.n_requests.get(name, 0) + 1
        answer = await self.raw(OPCODES[name], node, body)
        assert answer is not None
        return answer

    async def error(self, name: str, node: int, body: bytes = b"") -> int:
        return (await self.ask(name, node, body))[0]

    async def ok(self, name: str, node: int, body: bytes = b"") -> bytes:
        error, answer = await self.ask(name, node, body)
        assert not error, error
        return answer

    async def lookup(self, parent: int, *names: bytes) -> EntryOut:
        for name in names:
            entry = EntryOut.unpack(await self.ok("LOOKUP", parent, name + b"\0"))
            self._count(entry)
            parent = entry.nodeid
        return entry

    async def read(self, node: int, offset: int, size: int) -> bytes:
        return await self.ok("READ", node, read_in(offset, size))

    async def window(self, node: int, offset: int, size: int) -> list[Dirent]:
        """What one READDIRPLUS gives."""
        data = await self.ok("READDIRPLUS", node, read_in(offset, size))
        assert len(data) <= size
        found = []
        while data:
            entry = EntryOut.unpack(data[:128])
            self._count(entry)
            ino, off, n_bytes, kind = struct.unpack_from(DIRENT, data, 128)
            found.append(Dirent(ino, off, kind, data[152 : 152 + n_bytes], entry))
            data = data[(152 + n_bytes + 7) // 8 * 8 :]
        return found

    async def plain_window(self, node: int, offset: int, size: int) -> list[Dirent]:
        """What one READDIR gives."""
        data = await self.ok("READDIR", node, read_in(offset, size))
        assert len(data) <= size
        found = []
        while data:
            ino, off, n_bytes, kind = struct.unpack_from(DIRENT, data)
            found.append(Dirent(ino, off, kind, data[24 : 24 + n_bytes]))
            data = data[(24 + n_bytes + 7) // 8 * 8 :]
        return found

    async def entries(self, node: int, size: int = 4096, *, plus: bool = True) -> Sequence[Dirent]:
        """A whole directory, by as many windows as it takes."""
        found: list[Dirent] = []
        ask = self.window if plus else self.plain_window
        while window := await ask(node, found[-1].off if found else 0, size):
            found += window
        return found

    def _count(self, entry: EntryOut) -> None:
        if entry.nodeid:
            self.n_lookups[entry.nodeid] = self.n_lookups.get(entry.nodeid, 0) + 1
