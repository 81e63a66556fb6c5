"""The messages of the FUSE protocol, as far as a read-only filesystem sees them: their layouts, and making replies.

Source: ``include/uapi/linux/fuse.h`` of Linux and fuse(4). All fields have the byte order of the machine.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

__all__ = [
    "ATTR",
    "ATTR_OUT",
    "COUNT_IN",
    "DIRENT",
    "ENTRY_OUT",
    "FORGET_ONE",
    "HEADER_IN",
    "HEADER_OUT",
    "INIT_IN",
    "INIT_OUT",
    "MINOR",
    "READ_IN",
    "STATFS_OUT",
    "STORE_OUT",
    "UNANSWERED",
    "UNIQUE_IN",
    "WRITING",
    "XATTR_IN",
    "XATTR_OUT",
    "Flags",
    "Header",
    "Opcode",
    "Reply",
    "error_reply",
    "lifetime",
    "reply",
    "store_notice",
]

Reply = Sequence[bytes | memoryview]

MINOR = 31
"""Of version 7, what we speak. A kernel that knows more leaves it out; one from before 5.4 knows less: refused."""

HEADER_IN = Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions, padding
HEADER_OUT = Struct("=IiQ")  # length, negative errno, unique
INIT_IN = Struct("=IIII")  # major, minor, max_readahead, flags
INIT_OUT = Struct("=IIIIHHIIHHII24x")  # ..., max_background, congestion, max_write, time_gran, max_pages, align, flags2
ATTR = Struct("=QQQQQQIIIIIIIIII")
ATTR_OUT = Struct("=QII")  # valid_s, valid_ns, padding, and an ATTR
ENTRY_OUT = Struct("=QQQQII")  # node, generation, valid_s of the name and of the attributes, both again in ns; an ATTR
READ_IN = Struct("=QQIIQII")  # handle, offset, size, flags, owner, flags, padding; for directories too
DIRENT = Struct("=QQII")  # inode, position after it, length of the name, type
XATTR_IN = Struct("=II")  # size
XATTR_OUT = Struct("=II")  # size
STATFS_OUT = Struct("=QQQQQIIII24x")  # blocks, free, available, files, free, block size, name length, fragment size
FORGET_ONE = Struct("=QQ")  # node, lookups
UNIQUE_IN = Struct("=Q")
COUNT_IN = Struct("=II")
STORE_OUT = Struct("=QQII")  # node, offset, size, padding

_NOTIFY_STORE = 4
_MAX_PIECES = 512
"""Half of what ``writev`` takes."""

_MAX_ERRNO = 511
"""The kernel refuses a reply with a higher one, and whoever asked would wait for ever."""

FOREVER_S = 2**32 - 1
"""The kernel counts in jiffies and takes what is longer than it can count for the longest."""


class Opcode(IntEnum):
    """Those that are answered in a way of their own."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    INTERRUPT = 36
    DESTROY = 38
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    READDIRPLUS = 44


UNANSWERED = frozenset((Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY))
"""Nobody waits for an answer to these, and one would be taken for something else."""

WRITING = frozenset((4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47, 51))
"""SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, SETXATTR, REMOVEXATTR, CREATE, FALLOCATE,
RENAME2, COPY_FILE_RANGE, TMPFILE: a kernel that has mounted read-only does not send them, a guest may."""


class Flags(IntFlag):
    """What an INIT asks for; only what the kernel has offered."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24


@dataclass(frozen=True, slots=True)
class Header:
    """What every request begins with.

    Args:
        opcode: What is asked for.
        unique: What the answer is found by; an INTERRUPT names it too.
        node: The inode it is about.
        pid: Who asks; 0 if the kernel does.
    """

    opcode: int
    unique: int
    node: int
    pid: int

    @classmethod
    def unpack(cls, request: bytes) -> Header:
        """Read the header of a request."""
        _, opcode, unique, node, _, _, pid, _, _ = HEADER_IN.unpack_from(request)
        return cls(opcode, unique, node, pid)


def reply(unique: int, pieces: Iterable[bytes | memoryview] = ()) -> Reply:
    """An answer that is no error."""
    pieces = tuple(pieces)
    if len(pieces) > _MAX_PIECES:
        pieces = (b"".join(pieces),)
    return (HEADER_OUT.pack(HEADER_OUT.size + sum(map(len, pieces)), 0, unique), *pieces)


def error_reply(unique: int, number: int) -> Reply:
    """An answer that is an error, by its ``errno``; EIO for what is none."""
    return (HEADER_OUT.pack(HEADER_OUT.size, -(number if 0 < number <= _MAX_ERRNO else errno.EIO), unique),)


def store_notice(node: int, data: bytes) -> Reply:
    """Whole contents for the page cache of an inode, which nobody has asked for."""
    n_bytes = HEADER_OUT.size + STORE_OUT.size + len(data)
    return (HEADER_OUT.pack(n_bytes, _NOTIFY_STORE, 0) + STORE_OUT.pack(node, 0, len(data), 0), data)


def lifetime(seconds: float) -> tuple[int, int]:
    """A length of time as seconds and nanoseconds."""
    if seconds >= FOREVER_S:
        return FOREVER_S, 0
    whole = int(seconds)
    return whole, int((seconds - whole) * 1e9)
