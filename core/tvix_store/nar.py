"""The Nix archive format without I/O: its tokens, sizes known before rendering, and a writer that keeps the rules.

A NAR is a sequence of *wire strings*: the length as 64 bits little endian, the bytes, zeros up to a multiple
of eight. The same few strings always follow each other, so reader and writer handle fixed runs of them, here
called tokens. Source: the grammar in section 5.2 of Dolstra's PhD thesis and the "Nix Archive" page of the Nix manual.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, TypeVar

from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.nodes import MAX_NAME_BYTES, quote, validate_name, validate_target

__all__ = [
    "DIRECTORY_OFFSET",
    "MAX_DEPTH",
    "MAX_FILE_BYTES",
    "ROOT_OVERHEAD",
    "NarWriter",
    "content_offset",
    "directory_size",
    "entry_offset",
    "entry_size",
    "file_size",
    "symlink_size",
    "wire_strings",
]

MAX_DEPTH = 64
"""Levels of nesting, the root being the first: a file may lie below 63 directories. Nix has this limit since 2.35."""

MAX_FILE_BYTES = 2**63 - 1
"""No file can be longer (``off_t``), so a longer announcement is refused before any content comes."""


def wire_strings(*strings: bytes) -> bytes:
    """The wire strings, one after the other."""
    return b"".join(len(s).to_bytes(8, "little") + s + bytes(-len(s) & 7) for s in strings)


# --- tokens; the reader matches the same ones -------------------------------------------------------------------

START = wire_strings(b"nix-archive-1", b"(", b"type")
REGULAR = wire_strings(b"regular", b"contents")
EXECUTABLE = wire_strings(b"regular", b"executable", b"", b"contents")
SYMLINK = wire_strings(b"symlink", b"target")
DIRECTORY = wire_strings(b"directory")
ENTRY = wire_strings(b"entry", b"(", b"name")
NODE = wire_strings(b"node", b"(", b"type")
CLOSE = wire_strings(b")")
CLOSE_IN_ENTRY = CLOSE + CLOSE
"""Closes a node that is not the root, and the entry around it."""

# What follows a string of n bytes, by n modulo 8: its padding and the token that always comes next.
NODE_AFTER = tuple(bytes(-n & 7) + NODE for n in range(8))
CLOSE_AFTER = tuple(bytes(-n & 7) + CLOSE for n in range(8))
CLOSE_IN_ENTRY_AFTER = tuple(bytes(-n & 7) + CLOSE_IN_ENTRY for n in range(8))

# What precedes a name of n bytes, and what follows it up to what differs between two of a kind, by n modulo 8.
ENTRY_HEADS = tuple(ENTRY + n.to_bytes(8, "little") for n in range(MAX_NAME_BYTES + 1))
REGULAR_AFTER = tuple(after + REGULAR for after in NODE_AFTER)
EXECUTABLE_AFTER = tuple(after + EXECUTABLE for after in NODE_AFTER)
SYMLINK_AFTER = tuple(after + SYMLINK for after in NODE_AFTER)
DIRECTORY_AFTER = tuple(after + DIRECTORY for after in NODE_AFTER)


# --- sizes ------------------------------------------------------------------------------------------------------

ROOT_OVERHEAD = len(START)
"""The size of a NAR is this plus the size of its root."""


def _padded(n_bytes: int) -> int:
    return (n_bytes + 7) & ~7


def file_size(n_bytes: int, *, executable: bool) -> int:
    """Bytes that a file with ``n_bytes`` of content takes in a NAR."""
    return content_offset(executable=executable) + _padded(n_bytes) + len(CLOSE)


def symlink_size(target: bytes) -> int:
    """Bytes that a symlink takes in a NAR."""
    return len(SYMLINK) + 8 + _padded(len(target)) + len(CLOSE)


def directory_size(entries: Iterable[tuple[bytes, int]]) -> int:
    """Bytes that a directory takes in a NAR, given the names and the sizes of what they name."""
    return len(DIRECTORY) + len(CLOSE) + sum(entry_size(name) + size for name, size in entries)


def entry_size(name: bytes) -> int:
    """Bytes that an entry takes in its directory, besides those of the file, symlink or directory it names."""
    return entry_offset(name) + len(CLOSE)


def entry_offset(name: bytes) -> int:
    """From the first byte of an entry to that of the file, symlink or directory it names.

    The first entry starts ``DIRECTORY_OFFSET`` bytes into its directory, each other one where the last one ends.
    """
    return len(ENTRY) + 8 + _padded(len(name)) + len(NODE)


def content_offset(*, executable: bool) -> int:
    """From the first byte of a file to that of its content."""
    return len(EXECUTABLE if executable else REGULAR) + 8


DIRECTORY_OFFSET = len(DIRECTORY)
"""From the first byte of a directory to that of its first entry."""


# --- writer -----------------------------------------------------------------------------------------------------

_ROOT, _NODE, _ENTRIES, _CONTENT, _END, _FAILED = range(6)

_EXPECTING = {
    _ROOT: "a root is needed",
    _NODE: "an entry needs a file, symlink or directory",
    _ENTRIES: "a directory is open",
    _CONTENT: "a file is open",
    _END: "the NAR is complete",
    _FAILED: "an earlier call failed",
}

_Bytes = TypeVar("_Bytes", bytes, bytearray, memoryview)


class NarWriter:
    """Turns a walk over a tree into the bytes of its NAR.

    Every method returns what to emit next; all of it, in the order of the calls, is the NAR. The root is one
    ``file``, ``symlink``, ``begin_file`` or ``begin_directory``; in a directory each of these follows an
    ``entry``. ``finish`` tells whether the NAR is whole. ::

        out.write(writer.begin_directory())
        out.write(writer.entry(b"hello"))
        out.write(writer.file(b"Hello World!", executable=False))
        out.write(writer.end_directory())
        writer.finish()

    Data that breaks the format (a bad name, names out of order, content shorter or longer than announced) is
    an InvalidObject, calls in the wrong order are a RuntimeError. After either, no method works any more.

    Args:
        max_depth: How many levels to write; deeper trees are a LimitExceeded. The root is the first level.
    """

    __slots__ = ("_announced", "_closers", "_left", "_max_depth", "_names", "_state")

    def __init__(self, *, max_depth: int = MAX_DEPTH) -> None:
        self._max_depth = max_depth
        self._state = _ROOT
        self._names: list[bytes] = []  # the last entry of each open directory, so also the path to here
        self._closers = CLOSE_AFTER  # changes once, when the root turns out to be a directory
        self._announced = 0
        self._left = 0

    def begin_directory(self) -> bytes:
        """Open a directory; entries follow, then ``end_directory``."""
        start = b"" if self._state == _NODE else self._start("begin_directory")
        self._names.append(b"")
        self._closers = CLOSE_IN_ENTRY_AFTER
        self._state = _ENTRIES
        return start + DIRECTORY

    def entry(self, name: bytes) -> bytes:
        """Start the next entry of the open directory; its file, symlink or directory follows.

        Raises:
            InvalidObject: ``name`` is no name for an entry, or not greater than the one before.
            LimitExceeded: What it names would be deeper than ``max_depth``.
        """
        if self._state != _ENTRIES:
            self._misused("entry")
        names = self._names
        try:
            validate_name(name)
        except InvalidObject as exc:
            self._fail(f"NAR directory {self._path(-1)}: {exc}")
        if name <= names[-1]:
            self._fail(f"NAR directory {self._path(-1)}: {quote(name)} is not greater than {quote(names[-1])}")
        if len(names) >= self._max_depth:
            self._state = _FAILED
            raise LimitExceeded(f"NAR directory {self._path(-1)}: {quote(name)} is over {self._max_depth} levels deep")
        names[-1] = name
        self._state = _NODE
        size = len(name)
        return ENTRY_HEADS[size] + name + NODE_AFTER[size & 7]

    def end_directory(self) -> bytes:
        """Close the open directory."""
        if self._state != _ENTRIES:
            self._misused("end_directory")
        self._names.pop()
        if self._names:
            return CLOSE_IN_ENTRY
        self._state = _END
        return CLOSE

    def symlink(self, target: bytes) -> bytes:
        """A whole symlink.

        Raises:
            InvalidObject: ``target`` is empty, too long or has a NUL.
        """
        start = b"" if self._state == _NODE else self._start("symlink")
        try:
            validate_target(target)
        except InvalidObject as exc:
            self._fail(f"NAR symlink {self._path()}: {exc}")
        self._state = _ENTRIES if self._names else _END
        size = len(target)
        return b"".join((start, SYMLINK, size.to_bytes(8, "little"), target, self._closers[size & 7]))

    def file(self, data: bytes | bytearray | memoryview, *, executable: bool) -> bytes:
        """A whole file whose content is at hand. It is copied once; for large files there is ``begin_file``."""
        start = b"" if self._state == _NODE else self._start("file")
        self._state = _ENTRIES if self._names else _END
        size = len(data)
        head = EXECUTABLE if executable else REGULAR
        return b"".join((start, head, size.to_bytes(8, "little"), data, self._closers[size & 7]))

    def around_file(self, size: int, *, executable: bool) -> tuple[bytes, bytes]:
        """What goes before and after the ``size`` bytes of a file whose content is at hand; it is not copied."""
        start = b"" if self._state == _NODE else self._start("around_file")
        self._state = _ENTRIES if self._names else _END
        head = EXECUTABLE if executable else REGULAR
        return start + head + size.to_bytes(8, "little"), self._closers[size & 7]

    def begin_file(self, size: int, *, executable: bool) -> bytes:
        """Open a file of ``size`` bytes; ``content`` follows until that many have come, then ``end_file``."""
        start = b"" if self._state == _NODE else self._start("begin_file")
        if not 0 <= size <= MAX_FILE_BYTES:
            self._fail(f"NAR file {self._path()}: impossible size {size}")
        self._announced = self._left = size
        self._state = _CONTENT
        return start + (EXECUTABLE if executable else REGULAR) + size.to_bytes(8, "little")

    def content(self, piece: _Bytes) -> _Bytes:
        """Account for the next piece of the open file, and return it.

        Raises:
            InvalidObject: More content than announced; nothing of ``piece`` may be emitted then.
        """
        if self._state != _CONTENT:
            self._misused("content")
        self._left -= len(piece)
        if self._left < 0:
            self._fail(f"NAR file {self._path()}: goes on after {self._announced} of {self._announced} bytes")
        return piece

    def end_file(self) -> bytes:
        """Close the open file.

        Raises:
            InvalidObject: Less content than announced.
        """
        if self._state != _CONTENT:
            self._misused("end_file")
        if self._left:
            self._fail_short()
        self._state = _ENTRIES if self._names else _END
        return self._closers[self._announced & 7]

    def finish(self) -> None:
        """Check that the NAR is whole.

        Raises:
            InvalidObject: It stops inside a file.
            RuntimeError: It stops elsewhere, or an earlier call failed.
        """
        if self._state == _CONTENT and self._left:
            self._fail_short()
        if self._state != _END:
            self._misused("finish")

    def _start(self, method: str) -> bytes:
        """What precedes the root, which is what comes if no entry has asked for a node."""
        if self._state != _ROOT:
            self._misused(method)
        return START

    def _path(self, end: int | None = None) -> str:
        return quote(b"/".join(self._names[:end]) or b"/")

    def _fail_short(self) -> NoReturn:
        self._fail(f"NAR file {self._path()}: ended after {self._announced - self._left} of {self._announced} bytes")

    def _fail(self, message: str) -> NoReturn:
        self._state = _FAILED
        raise InvalidObject(message)

    def _misused(self, method: str) -> NoReturn:
        expecting = _EXPECTING[self._state]
        self._state = _FAILED
        raise RuntimeError(f"NarWriter.{method}() out of order: {expecting}")
