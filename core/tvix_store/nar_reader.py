"""A strict reader of Nix archives that is fed bytes and gives events.

It accepts exactly the one spelling that ``nar.NarWriter`` produces, so what it lets through can be rendered again
from the events byte for byte. Source: as for ``tvix_store.nar``; the strictness is that of Nix 2.25 and, for
names, targets and depth, of Nix 2.35.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.limits import PIECE_BYTES
from tvix_store.nar import (
    CLOSE,
    CLOSE_AFTER,
    CLOSE_IN_ENTRY,
    CLOSE_IN_ENTRY_AFTER,
    DIRECTORY,
    ENTRY,
    EXECUTABLE,
    MAX_DEPTH,
    MAX_FILE_BYTES,
    NODE_AFTER,
    REGULAR,
    START,
    SYMLINK,
)
from tvix_store.nodes import MAX_NAME_BYTES, MAX_TARGET_BYTES, quote, validate_name, validate_target

__all__ = [
    "DirectoryEnd",
    "DirectoryStart",
    "Event",
    "FileData",
    "FileEnd",
    "FileStart",
    "NarReader",
    "Symlink",
]


@dataclass(frozen=True, slots=True)
class DirectoryStart:
    """A directory; its entries follow, then ``DirectoryEnd``. The root has the name ``b""``."""

    name: bytes


@dataclass(frozen=True, slots=True)
class DirectoryEnd:
    """The innermost open directory is complete."""


@dataclass(frozen=True, slots=True)
class FileStart:
    """A regular file; ``size`` bytes follow in any number of ``FileData``, then ``FileEnd``."""

    name: bytes
    size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class FileData:
    """The next piece of the open file, never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """All content of the open file has come."""


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link."""

    name: bytes
    target: bytes


Event = DirectoryStart | DirectoryEnd | FileStart | FileData | FileEnd | Symlink

_DIRECTORY_END = DirectoryEnd()
_FILE_END = FileEnd()

# What comes next. The start of the archive is a _NODE_TOKEN too: like an entry's, it precedes one node.
_ENTRIES, _NAME, _NODE_TOKEN, _NODE, _CONTENT, _TARGET, _CLOSE_TOKEN, _END = range(8)

_NODES = (REGULAR, EXECUTABLE, DIRECTORY, SYMLINK)
_ENTRY_OR_CLOSE = (ENTRY, CLOSE_IN_ENTRY)
_ENTRY_OR_CLOSE_ROOT = (ENTRY, CLOSE)

_PADDING = "zero padding"

# A token with a length behind it, a name or a target: the most that can be held back until more comes.
_LONGEST_UNIT = MAX_TARGET_BYTES
# How much new data is put behind what was held back. Being longer than a unit, what is then left over is all new.
_JOIN_BYTES = 2 * _LONGEST_UNIT


class NarReader:
    """Parses one NAR, fed in pieces of any size.

    Content passes through as it comes. Apart from it at most a few KiB are held back, whatever lengths the
    archive announces, and the work is linear in the bytes fed. ::

        reader = NarReader()
        for piece in pieces:
            for event in reader.feed(piece):
                ...
        reader.close()

    Args:
        max_depth: How many levels of nesting to take; the root is the first.
        allow_trailing: Stop at the end of the NAR and count the bytes behind it in ``trailing``, for a stream
            that goes on with something else. By default such bytes are an InvalidObject.
    """

    __slots__ = (
        "_allow_trailing",
        "_completes",
        "_error",
        "_held",
        "_length",
        "_max_depth",
        "_name",
        "_names",
        "_offset",
        "_state",
        "_token",
        "_trailing",
    )

    def __init__(self, *, max_depth: int = MAX_DEPTH, allow_trailing: bool = False) -> None:
        self._max_depth = max_depth
        self._allow_trailing = allow_trailing
        self._state = _NODE_TOKEN
        self._names: list[bytes] = []  # the last entry of each open directory, so also the path to here
        self._name = b""  # of the node being read
        self._length = 0  # of the name or target to come; of content, what is still to come
        self._token = START  # the one to come in states _NODE_TOKEN and _CLOSE_TOKEN, with padding before it
        self._completes: Event = _FILE_END  # what to report after _CLOSE_TOKEN
        self._held = b""  # not parsed yet, because incomplete
        self._offset = 0  # of _held in the NAR
        self._trailing = 0
        self._error: InvalidObject | None = None

    @property
    def done(self) -> bool:
        """Whether the NAR is complete."""
        return self._state == _END

    @property
    def consumed(self) -> int:
        """Bytes of the NAR parsed so far; its size once ``done``."""
        return self._offset

    @property
    def trailing(self) -> int:
        """Bytes fed so far that lie behind the end of the NAR; only with ``allow_trailing``."""
        return self._trailing

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take the next piece, and return what it completes.

        The events own their bytes: ``data`` may be overwritten afterwards.

        Raises:
            InvalidObject: The piece breaks the format. No event of it is returned, and every later call raises too.
            LimitExceeded: More than ``max_depth`` levels; otherwise the same.
        """
        if self._error is not None:
            raise type(self._error)(str(self._error))
        events: list[Event] = []
        if isinstance(data, bytes):
            self._take(data, events)
        else:
            with memoryview(data) as view, view.cast("B") as octets:
                for start in range(0, len(octets), PIECE_BYTES):
                    self._take(bytes(octets[start : start + PIECE_BYTES]), events)
        return events

    def close(self) -> None:
        """Check that all of the NAR has come.

        Raises:
            InvalidObject: The input ended too early, or was refused before.
        """
        if self._error is not None:
            raise type(self._error)(str(self._error))
        if self._state != _END:
            missing = f", {self._length} bytes of content are missing" if self._state == _CONTENT else ""
            self._fail(self._offset + len(self._held), f"archive is truncated{missing}")

    def _take(self, data: bytes, events: list[Event]) -> None:
        position = 0
        if self._held:  # never at the end
            # Join no more than needed: a large piece of content must not be copied for a few bytes before it.
            joined = self._held + data[:_JOIN_BYTES]
            position = self._parse(joined, 0, events)
            if self._state != _END and len(data) <= _JOIN_BYTES:
                self._held = joined[position:]
                return
            position -= len(self._held)
            self._held = b""
        if self._state != _END:
            position = self._parse(data, position, events)
        if self._state == _END:
            if position < len(data) and not self._allow_trailing:
                rest = data[position : position + 16].hex(" ")
                self._fail(self._offset, f"archive is complete, but the input goes on with {rest}")
            self._trailing += len(data) - position
        else:
            self._held = data[position:]

    def _parse(self, data: bytes, position: int, events: list[Event]) -> int:
        """Parse from ``position`` as far as possible; return where the first incomplete unit starts."""
        size = len(data)
        base = self._offset - position  # of data[0] in the NAR
        state = self._state
        names = self._names
        emit = events.append
        # The states are laid out in the order in which they follow each other for a file in a directory, so
        # that one turn of the loop takes a whole entry. Leaving the loop means that more input is needed.
        while True:
            if state == _ENTRIES:
                if data.startswith(ENTRY, position):
                    start = position + len(ENTRY)
                    if size - start < 8:
                        break
                    if len(names) >= self._max_depth:
                        self._fail(base + position, f"nested over {self._max_depth} levels deep", LimitExceeded)
                    length = int.from_bytes(data[start : start + 8], "little")
                    if length > MAX_NAME_BYTES:
                        self._fail(base + start, f"name of {length} bytes, at most {MAX_NAME_BYTES} are allowed")
                    self._length = length
                    position = start + 8
                    state = _NAME
                elif data.startswith(CLOSE_IN_ENTRY if len(names) > 1 else CLOSE, position):
                    position += len(CLOSE_IN_ENTRY) if len(names) > 1 else len(CLOSE)
                    names.pop()
                    emit(_DIRECTORY_END)
                    if names:
                        continue
                    state = _END
                    break
                else:
                    choice = _ENTRY_OR_CLOSE if len(names) > 1 else _ENTRY_OR_CLOSE_ROOT
                    self._check_incomplete(data, position, base, choice)
                    break
            if state == _NAME:
                length = self._length
                end = position + length
                if end > size:
                    break
                name = data[position:end]
                try:
                    validate_name(name)
                except InvalidObject as exc:
                    self._fail(base + position, str(exc))
                if name <= names[-1]:
                    self._fail(base + position, f"name {quote(name)} is not greater than {quote(names[-1])}")
                names[-1] = self._name = name
                self._token = NODE_AFTER[length & 7]
                position = end
                state = _NODE_TOKEN
            if state == _NODE_TOKEN:
                token = self._token
                if not data.startswith(token, position):
                    self._check_incomplete(data, position, base, (token,))
                    break
                position += len(token)
                state = _NODE
            if state == _NODE:
                if data.startswith(REGULAR, position):
                    start = position + len(REGULAR)
                    executable = False
                elif data.startswith(EXECUTABLE, position):
                    start = position + len(EXECUTABLE)
                    executable = True
                elif data.startswith(DIRECTORY, position):
                    position += len(DIRECTORY)
                    emit(DirectoryStart(self._name))
                    names.append(b"")
                    state = _ENTRIES
                    continue
                elif data.startswith(SYMLINK, position):
                    start = position + len(SYMLINK)
                    if size - start < 8:
                        break
                    length = int.from_bytes(data[start : start + 8], "little")
                    if length > MAX_TARGET_BYTES:
                        self._fail(base + start, f"target of {length} bytes, at most {MAX_TARGET_BYTES} are allowed")
                    self._length = length
                    position = start + 8
                    state = _TARGET
                    continue
                else:
                    self._check_incomplete(data, position, base, _NODES)
                    break
                if size - start < 8:
                    break
                length = int.from_bytes(data[start : start + 8], "little")
                if length > MAX_FILE_BYTES:
                    self._fail(base + start, f"file of {length} bytes, at most {MAX_FILE_BYTES} are possible")
                emit(FileStart(self._name, length, executable))
                self._length = length
                self._token = (CLOSE_IN_ENTRY_AFTER if names else CLOSE_AFTER)[length & 7]
                self._completes = _FILE_END
                position = start + 8
                state = _CONTENT
            if state == _CONTENT:
                length = self._length
                if length:
                    end = position + length
                    if end > size:
                        if position < size:
                            emit(FileData(data[position:]))
                            self._length = end - size
                            position = size
                        break
                    emit(FileData(data[position:end]))
                    self._length = 0
                    position = end
                state = _CLOSE_TOKEN
            elif state == _TARGET:
                length = self._length
                end = position + length
                if end > size:
                    break
                target = data[position:end]
                try:
                    validate_target(target)
                except InvalidObject as exc:
                    self._fail(base + position, str(exc))
                self._completes = Symlink(self._name, target)
                self._token = (CLOSE_IN_ENTRY_AFTER if names else CLOSE_AFTER)[length & 7]
                position = end
                state = _CLOSE_TOKEN
            if state == _CLOSE_TOKEN:
                token = self._token
                if not data.startswith(token, position):
                    self._check_incomplete(data, position, base, (token,))
                    break
                position += len(token)
                emit(self._completes)
                if names:
                    state = _ENTRIES
                else:
                    state = _END
                    break
        self._state = state
        self._offset = base + position
        return position

    def _check_incomplete(self, data: bytes, position: int, base: int, tokens: tuple[bytes, ...]) -> None:
        """Return if one of ``tokens`` may still come, fail if what is there already differs from all of them."""
        rest = data[position : position + len(EXECUTABLE)]  # the longest token
        if any(token.startswith(rest) for token in tokens):
            return
        agreeing = [_agreement(rest, token) for token in tokens]
        wrong = max(agreeing)
        places = [_place(token, wrong) for token, n in zip(tokens, agreeing, strict=True) if n == wrong]
        start = places[0][0]  # the same for all, because they agree up to the wrong byte
        expected = " or ".join(dict.fromkeys(what for _, what in places))
        found = f"{rest[start]:02x}" if expected == _PADDING else _show(rest[start:])
        self._fail(base + position + start, f"expected {expected}, found {found}")

    def _fail(self, offset: int, problem: str, kind: type[InvalidObject] = InvalidObject) -> NoReturn:
        path = b"/".join(self._names)
        near = f" near {quote(path)}" if path else ""
        self._error = kind(f"NAR byte {offset}{near}: {problem}")
        raise self._error


def _agreement(rest: bytes, token: bytes) -> int:
    """How many bytes the two have in common at their start."""
    n = 0
    for a, b in zip(rest, token, strict=False):
        if a != b:
            break
        n += 1
    return n


def _place(token: bytes, index: int) -> tuple[int, str]:
    """What a token has at ``index``: where this starts, and what it is called in messages."""
    start = len(token) & 7  # the padding of what came before; the strings behind it are whole
    if index < start:
        return index, _PADDING
    while True:
        length = int.from_bytes(token[start : start + 8], "little")
        end = start + 8 + length
        if index < end:
            return start, quote(token[start + 8 : end])
        start = end + (-length & 7)
        if index < start:
            return index, _PADDING


def _show(found: bytes) -> str:
    """A wire string as text if it is a short one, anything else as hex."""
    length = int.from_bytes(found[:8], "little")
    if 8 + length <= min(len(found), 40):
        return quote(found[8 : 8 + length])
    return found[:16].hex(" ")
