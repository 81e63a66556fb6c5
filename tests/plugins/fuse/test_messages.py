"""The layouts and numbers of the messages, against those of ``linux/fuse.h``, version 7.38."""

from __future__ import annotations

import errno
import math

import pytest

from plugins.fuse.kernel import OPCODES, take_apart
from tvix_store_fuse import messages
from tvix_store_fuse.messages import Flags, Header, Opcode

SIZES = {
    "HEADER_IN": 40,
    "HEADER_OUT": 16,
    "INIT_IN": 16,  # what it was before 7.36; more is passed over
    "INIT_OUT": 64,
    "ATTR": 88,
    "ATTR_OUT": 104 - 88,
    "ENTRY_OUT": 128 - 88,
    "READ_IN": 40,
    "DIRENT": 24,
    "XATTR_IN": 8,
    "XATTR_OUT": 8,
    "STATFS_OUT": 80,
    "FORGET_ONE": 16,
    "UNIQUE_IN": 8,
    "COUNT_IN": 8,
    "STORE_OUT": 24,
}

FLAGS = {
    "ASYNC_READ": 1 << 0,
    "EXPORT_SUPPORT": 1 << 4,
    "AUTO_INVAL_DATA": 1 << 12,
    "DO_READDIRPLUS": 1 << 13,
    "NO_OPEN_SUPPORT": 1 << 17,
    "PARALLEL_DIROPS": 1 << 18,
    "MAX_PAGES": 1 << 22,
    "CACHE_SYMLINKS": 1 << 23,
    "NO_OPENDIR_SUPPORT": 1 << 24,
}


@pytest.mark.parametrize("name", SIZES)
def test_structures_are_as_long_as_in_the_header(name: str) -> None:
    assert getattr(messages, name).size == SIZES[name]


@pytest.mark.parametrize("opcode", Opcode)
def test_opcodes(opcode: Opcode) -> None:
    assert OPCODES[opcode.name] == opcode


def test_flags() -> None:
    assert {flag.name: flag.value for flag in Flags} == FLAGS


def test_what_writes() -> None:
    names = "SETATTR SYMLINK MKNOD MKDIR UNLINK RMDIR RENAME LINK WRITE SETXATTR REMOVEXATTR CREATE FALLOCATE"
    names += " RENAME2 COPY_FILE_RANGE TMPFILE"
    assert {OPCODES[name] for name in names.split()} == messages.WRITING


def test_what_is_not_answered() -> None:
    names = ("FORGET", "BATCH_FORGET", "INTERRUPT", "NOTIFY_REPLY")
    assert {OPCODES[name] for name in names} == messages.UNANSWERED


def test_header() -> None:
    data = bytes.fromhex("28000000 0f000000 1122334455667788 0a00000000000001 e8030000 64000000 67120000 0000 0000")
    assert Header.unpack(data) == Header(15, 0x8877665544332211, 0x010000000000000A, 4711)


def test_reply_has_the_length_of_all_its_pieces() -> None:
    made = messages.reply(7, [b"ab", memoryview(b"cde")])
    assert b"".join(made) == bytes.fromhex("15000000 00000000 0700000000000000") + b"abcde"


def test_many_pieces_are_one_since_writev_takes_1024() -> None:
    made = messages.reply(7, [b"x"] * 2000)
    assert len(made) == 2
    assert take_apart(b"".join(made), 7) == (0, b"x" * 2000)


def test_error_is_negative() -> None:
    assert b"".join(messages.error_reply(7, errno.ENOENT)) == bytes.fromhex("10000000 feffffff 0700000000000000")


@pytest.mark.parametrize("number", [0, -2, 512, 10_000])
def test_what_is_no_errno_is_eio(number: int) -> None:
    assert take_apart(b"".join(messages.error_reply(7, number)), 7) == (errno.EIO, b"")


def test_store_notice() -> None:
    made = b"".join(messages.store_notice(5, b"data"))
    header = bytes.fromhex("2c000000 04000000 0000000000000000")
    assert made == header + bytes.fromhex("0500000000000000 0000000000000000 04000000 00000000") + b"data"


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [
        (0, (0, 0)),
        (1, (1, 0)),
        (0.25, (0, 250_000_000)),
        (2**32 - 2, (2**32 - 2, 0)),
        (2**40, (2**32 - 1, 0)),
        (math.inf, (2**32 - 1, 0)),
    ],
)
def test_lifetime(seconds: float, parts: tuple[int, int]) -> None:
    assert messages.lifetime(seconds) == parts


@pytest.mark.parametrize("seconds", [0.1 + 0.2, 1 - 2**-53, 59.999999999999])
def test_nanoseconds_are_less_than_a_second(seconds: float) -> None:
    assert 0 <= messages.lifetime(seconds)[1] < 1_000_000_000
