"""The first stage of an import: walks a tree in the order of its NAR, reads, hashes blobs and makes directories.

It is one thread. Several would fight for the interpreter lock: reading 46,000 small files takes two threads as long as
one, 0.3 s. What can be done without that lock, hashing the NAR and storing, is done beside it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

from blake3 import blake3

from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import InvalidObject
from tvix_store.ingest_file import cannot_import, changed, open_file, read, read_into, unreadable
from tvix_store.ingest_hash import NarHasher
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MIB, SMALL_BLOB_BYTES
from tvix_store.nar import NarWriter
from tvix_store.nodes import Directory, FileNode, Node, SymlinkNode

__all__ = ["MAX_BATCHES", "Batch", "LargeFile", "Walk"]

MAX_BATCHES = 4
"""How many batches there are at once: being read, hashed and stored. They are most of what an import holds."""

_PIECE_BYTES = 1 * MIB
"""What large files are read in, and what the hashing stage is given at a time."""

_BUFFERS = 4
"""How many pieces of huge files there are at once. They are used over and over, so they stay in the CPU's cache."""

_FRAMING_BYTES = 256
"""About what an entry takes in a NAR besides the contents of its file."""


@dataclass(frozen=True, slots=True)
class LargeFile:
    """A file that is too large for ``put_many``.

    Args:
        path: Where it is.
        digest: Of its contents.
        size: In bytes.
        pieces: Its contents; ``None`` if they are too much to be kept, so that the file must be read again.
    """

    path: bytes
    digest: B3Digest
    size: int
    pieces: list[bytes] | None


@dataclass(slots=True)
class Batch:
    """What was read on one stretch of the walk, at most BATCH_BYTES and BATCH_COUNT objects.

    Args:
        blobs: Contents of small files.
        large: Other files.
        directories: The directories that ended, each after those below it.
        n_objects: How many of all three.
        n_bytes: How much content is held.
    """

    blobs: list[HashedBlob] = field(default_factory=list)
    large: list[LargeFile] = field(default_factory=list)
    directories: list[Directory] = field(default_factory=list)
    n_objects: int = 0
    n_bytes: int = 0


@dataclass(slots=True)
class _OpenDirectory:
    """Args: ``names`` are to come, in descending order; ``special`` are those that need not be regular files."""

    path: bytes
    name: bytes
    names: list[bytes]
    special: set[bytes]
    entries: dict[bytes, Node] = field(default_factory=dict)


class Walk:
    """One walk over a tree, by ``run`` in a thread.

    Args:
        root: The path.
        hasher: Is given the NAR, and its end however the walk ends.
        deliver: Called with each batch once it is in the hash of the NAR, in the hasher's thread. ``release`` must be
            called when the batch is done with.
    """

    def __init__(self, root: bytes, hasher: NarHasher, deliver: Callable[[Batch], object]) -> None:
        self._path = root
        self._hasher = hasher
        self._deliver = deliver
        self._free_batches = threading.Semaphore(MAX_BATCHES)
        self._free_buffers: SimpleQueue[bytearray] = SimpleQueue()
        self._has_buffers = False
        self._stopped = False
        self._writer = NarWriter()
        self._parts: list[bytes] = []  # of the NAR, not given to the hasher yet
        self._parts_bytes = 0
        self._batch = Batch()
        self._open: list[_OpenDirectory] = []
        self._root: Node | None = None

    def release(self) -> None:
        """A batch is done with."""
        self._free_batches.release()

    def stop(self) -> None:
        """Make ``run`` end soon, whatever it waits for."""
        self._stopped = True
        self._free_batches.release()
        self._free_buffers.put(bytearray())

    def run(self) -> Node:
        """Walk and read; returns the root.

        Raises:
            InvalidObject, Unavailable: As ``ingest_path``.
        """
        try:
            self._start_batch()
            self._special(self._path, b"")
            while self._open:
                directory = self._open[-1]
                if directory.names:
                    name = directory.names.pop()
                    path = b"%b/%b" % (directory.path, name)
                    self._parts.append(self._writer.entry(name))
                    if name in directory.special:
                        self._special(path, name)
                    else:
                        self._file(path, name)
                else:
                    self._leave(self._open.pop())
            self._writer.finish()
            self._send_batch()
            assert self._root is not None, "every walk ends with its root"
            return self._root
        finally:
            self._hasher.end()

    # --- steps of the walk

    def _special(self, path: bytes, name: bytes) -> None:
        """Take what is at ``path``, whatever it is."""
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                self._file(path, name)
            elif stat.S_ISLNK(mode):
                target = os.readlink(path)
                self._parts.append(self._writer.symlink(target))
                self._add(name, SymlinkNode(target))
            elif stat.S_ISDIR(mode):
                self._enter(path, name)
            else:
                raise cannot_import(path, f"{_file_type(mode)} are not supported")
        except OSError as exc:
            raise unreadable(path, exc) from exc
        self._count_part(_FRAMING_BYTES)

    def _enter(self, path: bytes, name: bytes) -> None:
        names: list[bytes] = []
        special: set[bytes] = set()
        with os.scandir(path) as entries:
            for entry in entries:
                names.append(entry.name)
                if not entry.is_file(follow_symlinks=False):  # mostly known without asking the system
                    special.add(entry.name)
        names.sort(reverse=True)
        self._parts.append(self._writer.begin_directory())
        self._open.append(_OpenDirectory(path, name, names, special))

    def _leave(self, ended: _OpenDirectory) -> None:
        self._parts.append(self._writer.end_directory())
        self._count_part(_FRAMING_BYTES)
        directory = Directory(ended.entries)
        self._make_room(0).directories.append(directory)
        self._add(ended.name, directory.node())

    def _file(self, path: bytes, name: bytes) -> None:
        descriptor, status = open_file(path)
        try:
            size = status.st_size
            executable = bool(status.st_mode & stat.S_IXUSR)
            if size > SMALL_BLOB_BYTES:
                digest = self._large_file(descriptor, path, size, executable)
            else:
                data = read(descriptor, size + 1, path, expected=size)
                if len(data) != size:
                    raise changed(path)
                digest = self._small_file(HashedBlob(data), executable)
        finally:
            os.close(descriptor)
        self._add(name, FileNode(digest, size, executable))

    def _small_file(self, blob: HashedBlob, executable: bool) -> B3Digest:
        size = len(blob.data)
        self._make_room(size).blobs.append(blob)
        before, after = self._writer.around_file(size, executable=executable)
        self._parts += (before, blob.data, after)
        self._count_part(size + _FRAMING_BYTES)
        return blob.digest

    def _large_file(self, descriptor: int, path: bytes, size: int, executable: bool) -> B3Digest:
        keep = size <= BATCH_BYTES
        # Before a file that is not kept: what came so far can be stored while the file is being read.
        batch = self._make_room(size) if keep else self._next_batch()
        self._parts.append(self._writer.begin_file(size, executable=executable))
        try:
            if keep:
                digest, pieces = self._keep(descriptor, path)
            else:
                digest, pieces = self._pass_on(descriptor, path), None
            self._parts.append(self._writer.end_file())
        except InvalidObject as exc:  # more or less than announced
            raise changed(path) from exc
        batch.large.append(LargeFile(path, digest, size, pieces))
        if not keep:
            self._next_batch()
        return digest

    def _keep(self, descriptor: int, path: bytes) -> tuple[B3Digest, list[bytes]]:
        hasher = blake3()
        pieces: list[bytes] = []
        while piece := read(descriptor, _PIECE_BYTES, path):
            hasher.update(piece)
            pieces.append(self._writer.content(piece))
            self._flush_parts()
            self._hasher.update((piece,))
        return B3Digest(hasher.digest()), pieces

    def _pass_on(self, descriptor: int, path: bytes) -> B3Digest:
        if not self._has_buffers:
            self._has_buffers = True
            for _ in range(_BUFFERS):
                self._free_buffers.put(bytearray(_PIECE_BYTES))
        self._flush_parts()
        hasher = blake3()
        while True:
            buffer = self._free_buffers.get()
            self._check_stopped()
            n_bytes = read_into(descriptor, buffer, path)
            piece = self._writer.content(memoryview(buffer)[:n_bytes])
            hasher.update(piece)
            self._hasher.update((piece,), partial(self._free_buffers.put, buffer))
            if not n_bytes:
                return B3Digest(hasher.digest())

    def _add(self, name: bytes, node: Node) -> None:
        """Put a node into the open directory; without one, it is the root."""
        if self._open:
            self._open[-1].entries[name] = node
        else:
            self._root = node

    # --- what goes to the next stages

    def _count_part(self, n_bytes: int) -> None:
        self._parts_bytes += n_bytes
        if self._parts_bytes >= _PIECE_BYTES:
            self._flush_parts()

    def _flush_parts(self, then: Callable[[], object] | None = None) -> None:
        self._check_stopped()
        self._hasher.update(self._parts, then)
        self._parts = []
        self._parts_bytes = 0

    def _make_room(self, n_bytes: int) -> Batch:
        """The batch to which an object with ``n_bytes`` of content is now going to be added."""
        batch = self._batch
        if batch.n_bytes + n_bytes > BATCH_BYTES or batch.n_objects == BATCH_COUNT:
            batch = self._next_batch()
        batch.n_objects += 1
        batch.n_bytes += n_bytes
        return batch

    def _next_batch(self) -> Batch:
        self._send_batch()
        self._start_batch()
        return self._batch

    def _start_batch(self) -> None:
        self._free_batches.acquire()
        self._check_stopped()
        self._batch = Batch()

    def _send_batch(self) -> None:
        self._flush_parts(partial(self._deliver, self._batch))

    def _check_stopped(self) -> None:
        if self._stopped:
            raise _StoppedError


class _StoppedError(Exception):
    """Nobody wants the result."""


def _file_type(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "sockets"
    if stat.S_ISFIFO(mode):
        return "pipes"
    return "devices"
