"""The stage of a NAR's ingest that parses: turns portions of the NAR into batches of what is to be stored."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import LimitExceeded
from tvix_store.ingest import Ingested
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MIB, SMALL_BLOB_BYTES
from tvix_store.nar_calculation import NarDigest
from tvix_store.nar_reader import DirectoryEnd, DirectoryStart, FileData, FileEnd, FileStart, NarReader
from tvix_store.nodes import Directory, FileNode, Node, SymlinkNode, quote

__all__ = ["Batch", "LargeFile", "NarParser", "Piece"]

_ENTRY_BYTES = 350
_MAX_OPEN_BYTES = 192 * MIB
"""About what an entry takes in memory besides its name and target, and what those of all open directories may take.

That is half a million entries. They all must be there when their directory is made."""


@dataclass(slots=True)
class LargeFile:
    """A file that is too large for ``put_many``.

    Args:
        size: In bytes.
        digest: Of its contents; ``None`` as long as they have not all come.
        pieces: Its contents, if they are kept until they are stored as part of a batch.
    """

    size: int
    digest: B3Digest | None = None
    pieces: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """What a stretch of the NAR held, at most BATCH_BYTES and BATCH_COUNT objects.

    Args:
        blobs: Contents of small files.
        large: Other files.
        directories: The directories that ended, each after those below it.
        n_objects: How many of all three.
        n_bytes: How much is held, of content and directories.
    """

    blobs: list[HashedBlob] = field(default_factory=list)
    large: list[LargeFile] = field(default_factory=list)
    directories: list[Directory] = field(default_factory=list)
    n_objects: int = 0
    n_bytes: int = 0


@dataclass(slots=True)
class Piece:
    """The next bytes of a file that is too large for a batch; none if it is complete."""

    file: LargeFile
    data: bytes


@dataclass(slots=True)
class _OpenDirectory:
    name: bytes
    entries: dict[bytes, Node] = field(default_factory=dict)
    n_bytes: int = 0


class NarParser:
    """Turns portions of a NAR into batches. ``hash`` and ``feed`` are given the same, and may run at the same time."""

    def __init__(self) -> None:
        self._reader = NarReader()
        self._sha256 = hashlib.sha256()
        self._open: list[_OpenDirectory] = []
        self._open_bytes = 0
        self._root: Node | None = None
        self._file = FileStart(b"", 0, False)  # the open one
        self._parts: list[bytes] = []  # of its content, if it is small
        self._large = LargeFile(0)  # it again, if it is not
        self._hasher = blake3()
        self._batch = Batch()
        self._done: deque[Batch | Piece] = deque()

    def hash(self, portion: Sequence[bytes]) -> None:
        """Take ``portion`` into the hash of the NAR."""
        for piece in portion:
            self._sha256.update(piece)

    def feed(self, portion: Sequence[bytes]) -> deque[Batch | Piece]:
        """What is complete with ``portion``.

        Raises:
            InvalidObject: As ``ingest_nar``.
        """
        for piece in portion:
            for event in self._reader.feed(piece):
                if isinstance(event, FileData):
                    if self._file.size <= SMALL_BLOB_BYTES:
                        self._parts.append(event.data)
                    else:
                        self._large_content(event.data)
                elif isinstance(event, FileStart):
                    self._file = event
                    if event.size > SMALL_BLOB_BYTES:
                        self._begin_large(event.size)
                elif isinstance(event, FileEnd):
                    self._end_file(self._file)
                elif isinstance(event, DirectoryEnd):
                    self._leave(self._open.pop())
                elif isinstance(event, DirectoryStart):
                    self._open.append(_OpenDirectory(event.name))
                else:
                    self._add(event.name, SymlinkNode(event.target), len(event.target))
        done, self._done = self._done, deque()
        return done

    def close(self) -> deque[Batch | Piece]:
        """The rest.

        Raises:
            InvalidObject: The NAR is truncated.
        """
        self._reader.close()
        return deque((self._batch,))

    def result(self) -> Ingested:
        """What has come out, after ``close``."""
        assert self._root is not None, "every NAR has a root"
        return Ingested(self._root, NarDigest(self._reader.consumed, self._sha256.digest()))

    def _end_file(self, file: FileStart) -> None:
        if file.size <= SMALL_BLOB_BYTES:
            parts = self._parts
            blob = HashedBlob(parts[0] if len(parts) == 1 else b"".join(parts))
            self._parts = []
            self._make_room(file.size).blobs.append(blob)
            digest = blob.digest
        else:
            digest = self._end_large()
        self._add(file.name, FileNode(digest, file.size, file.executable))

    def _begin_large(self, size: int) -> None:
        self._large = LargeFile(size)
        self._hasher = blake3()
        if size <= BATCH_BYTES:
            self._make_room(size).large.append(self._large)
        else:  # what came so far can be stored meanwhile
            self._next_batch()

    def _large_content(self, data: bytes) -> None:
        self._hasher.update(data)
        if self._large.size <= BATCH_BYTES:
            self._large.pieces.append(data)
        else:
            self._done.append(Piece(self._large, data))

    def _end_large(self) -> B3Digest:
        digest = self._large.digest = B3Digest(self._hasher.digest())
        if self._large.size > BATCH_BYTES:
            self._done.append(Piece(self._large, b""))
        return digest

    def _leave(self, ended: _OpenDirectory) -> None:
        self._open_bytes -= ended.n_bytes
        directory = Directory(ended.entries)
        self._make_room(ended.n_bytes).directories.append(directory)
        self._add(ended.name, directory.node())

    def _add(self, name: bytes, node: Node, target_bytes: int = 0) -> None:
        """Put a node into the open directory; without one, it is the root."""
        if not self._open:
            self._root = node
            return
        directory = self._open[-1]
        directory.entries[name] = node
        n_bytes = _ENTRY_BYTES + len(name) + target_bytes
        directory.n_bytes += n_bytes
        self._open_bytes += n_bytes
        if self._open_bytes > _MAX_OPEN_BYTES:
            names = b"/".join(directory.name for directory in self._open[1:])
            n_entries = sum(len(directory.entries) for directory in self._open)
            raise LimitExceeded(f"NAR with over {n_entries} entries in {quote(names)} and the directories around it")

    def _make_room(self, n_bytes: int) -> Batch:
        """The batch to which an object that takes ``n_bytes`` is now going to be added."""
        if self._batch.n_objects == BATCH_COUNT or self._batch.n_bytes + n_bytes > BATCH_BYTES:
            self._next_batch()
        self._batch.n_objects += 1
        self._batch.n_bytes += n_bytes
        return self._batch

    def _next_batch(self) -> None:
        self._done.append(self._batch)
        self._batch = Batch()
