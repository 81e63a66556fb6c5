"""From a path in the file system to a node in the store, with the hash of its NAR taken on the way.

The tree is walked in the order of its NAR, so the bytes of a file go to the blob service and into the NAR hash as
they are read. Small files travel in batches; while one batch is stored and hashed, the next is being read. A file
too large to be held in memory is read a second time if it turns out that the store does not have it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from blake3 import blake3

from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import InvalidObject, Unavailable
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MIB, SMALL_BLOB_BYTES
from tvix_store.nar import NarWriter
from tvix_store.nar_calculation import NarDigest
from tvix_store.nodes import Directory, FileNode, Node, SymlinkNode, quote
from tvix_store.resource import task_group

__all__ = ["Advance", "Ingested", "ingest_path"]

_READ_BYTES = 1 * MIB

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ingested:
    """The root of what was stored, and its NAR."""

    node: Node
    nar: NarDigest


class Advance(Protocol):
    """Told how much more has been stored."""

    def __call__(self, *, files: int, n_bytes: int) -> None:
        """``files`` more files with ``n_bytes`` bytes of content altogether."""


def _no_progress(*, files: int, n_bytes: int) -> None:
    pass


async def ingest_path(
    path: str | bytes | os.PathLike[str],
    blobs: BlobService,
    directories: DirectoryService,
    advance: Advance = _no_progress,
) -> Ingested:
    """Store what is at ``path``, without following a symlink. Blobs that are stored already are not sent again.

    Args:
        path: A file, symlink or directory.
        blobs: Where contents go.
        directories: Where directories go, as one closure, once all contents are stored.
        advance: Told of the progress.

    Returns:
        The root node; everything below it is durable as the services state.

    Raises:
        InvalidObject: There is a socket, pipe or device, or a file changed while it was read.
        Unavailable: Something cannot be read. Both name the path; blobs already stored stay, the tree is not visible.
    """
    builder = _Builder()
    batches = _batches(os.fsencode(path))
    async with AsyncExitStack() as stack:
        putter: DirectoryPutter | None = None
        batch = await asyncio.to_thread(next, batches, None)
        if batch is not None and batch.begins_directory:
            putter = await stack.enter_async_context(await directories.put_multiple_start())
        while batch is not None:
            async with task_group() as group:
                following = group.create_task(asyncio.to_thread(next, batches, None))
                group.create_task(_store(batch, builder, blobs, putter, advance))
            batch = following.result()
        if putter is not None:
            await putter.close()
    return Ingested(builder.root(), builder.nar())


async def _store(
    batch: _Batch, builder: _Builder, blobs: BlobService, putter: DirectoryPutter | None, advance: Advance
) -> None:
    async with task_group() as group:
        group.create_task(_put_absent(batch.blobs, blobs))
        building = group.create_task(asyncio.to_thread(builder.take, batch))
    directories = building.result()
    if putter is not None and directories:
        await putter.put_many(directories)
    advance(files=len(batch.blobs), n_bytes=sum(map(len, batch.blobs)))
    if batch.large is not None:
        size = await _store_large(batch.large, builder, blobs)
        advance(files=1, n_bytes=size)


async def _put_absent(batch: list[HashedBlob], blobs: BlobService) -> None:
    unique = list({blob.digest: blob for blob in batch}.values())
    if unique:
        present = await blobs.has_many([blob.digest for blob in unique])
        absent = [blob for blob, is_present in zip(unique, present, strict=True) if not is_present]
        if absent:
            await blobs.put_many(absent)


async def _store_large(large: _LargeFile, builder: _Builder, blobs: BlobService) -> int:
    """Put the file into the NAR and, if the store does not have it, into the store; returns its size."""
    with _RawFile(large.path) as file:
        size = file.status().st_size
        hasher = blake3()
        kept: list[bytes] = []
        builder.begin_file(large, size)
        try:
            while piece := await _in_thread(builder.take_piece, file, hasher):
                if size <= BATCH_BYTES:
                    kept.append(piece)
            builder.end_file()
        except InvalidObject as exc:
            raise _changed(large.path) from exc
        digest = B3Digest(hasher.digest())
        if not await blobs.has(digest):
            async with await blobs.open_write() as writer:
                if kept:
                    for piece in kept:
                        await writer.write(piece)
                else:
                    await _in_thread(file.rewind)
                    left = size  # a file that only grew meanwhile is stored as it was
                    while left and (piece := await _in_thread(file.read, min(left, _READ_BYTES))):
                        await writer.write(piece)
                        left -= len(piece)
                if await writer.close() != digest:
                    raise _changed(large.path)
    builder.add(large.name, FileNode(digest, size, large.executable))
    return size


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a thread; when cancelled, wait for its end, since the file it reads is closed next."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


# --- reading, in a worker thread ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Enter:
    name: bytes


@dataclass(frozen=True, slots=True)
class _File:
    name: bytes
    blob: HashedBlob
    executable: bool


@dataclass(frozen=True, slots=True)
class _Symlink:
    name: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class _Leave:
    """The end of a directory."""


_Step = _Enter | _File | _Symlink | _Leave


@dataclass(frozen=True, slots=True)
class _LargeFile:
    path: bytes
    name: bytes
    executable: bool


@dataclass(slots=True)
class _Batch:
    """Steps of the walk with the small files among them; ``large`` comes after all of them."""

    steps: list[_Step] = field(default_factory=list)
    blobs: list[HashedBlob] = field(default_factory=list)
    n_bytes: int = 0
    large: _LargeFile | None = None

    @property
    def begins_directory(self) -> bool:
        """Whether the first step enters a directory; so it is in the first batch of a tree."""
        return bool(self.steps) and isinstance(self.steps[0], _Enter)

    def add(self, step: _Step) -> bool:
        """Take a step; whether the batch is full now."""
        self.steps.append(step)
        if isinstance(step, _File):
            self.blobs.append(step.blob)
            self.n_bytes += len(step.blob)
        return self.n_bytes >= BATCH_BYTES - SMALL_BLOB_BYTES or len(self.steps) >= BATCH_COUNT


def _batches(root: bytes) -> Iterator[_Batch]:
    """Walk and read. Names are sorted as in a NAR; the root has no name."""
    batch = _Batch()
    for step in _walk(root):
        if isinstance(step, _LargeFile):
            batch.large = step
            full = True
        else:
            full = batch.add(step)
        if full:
            yield batch
            batch = _Batch()
    if batch.steps:
        yield batch


def _walk(root: bytes) -> Iterator[_Step | _LargeFile]:
    pending: list[tuple[bytes, list[bytes]]] = []  # open directories: path, and names to come in descending order
    path, name = root, b""
    while True:
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                yield _read_file(path, name)
            elif stat.S_ISLNK(mode):
                yield _Symlink(name, os.readlink(path))
            elif stat.S_ISDIR(mode):
                names = sorted(os.listdir(path), reverse=True)
                yield _Enter(name)
                pending.append((path, names))
            else:
                raise InvalidObject(f"cannot import {quote(path, 4096)}: {_file_type(mode)} are not supported")
        except OSError as exc:
            raise _unreadable(path, exc) from exc
        while pending and not pending[-1][1]:
            pending.pop()
            yield _Leave()
        if not pending:
            return
        directory, names = pending[-1]
        name = names.pop()
        path = b"%b/%b" % (directory, name)


def _read_file(path: bytes, name: bytes) -> _File | _LargeFile:
    with _RawFile(path) as file:
        status = file.status()
        executable = bool(status.st_mode & stat.S_IXUSR)
        if status.st_size > SMALL_BLOB_BYTES:
            return _LargeFile(path, name, executable)
        data = file.read(SMALL_BLOB_BYTES + 1)
        if len(data) != status.st_size:
            raise _changed(path)
    return _File(name, HashedBlob(data), executable)


class _RawFile:
    """A regular file, opened so that nobody who replaces it meanwhile by a symlink or a pipe redirects or hangs us.

    All methods raise Unavailable, naming the file, if the system reports an error.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise _unreadable(path, exc) from exc
        if not stat.S_ISREG(self.status().st_mode):
            os.close(self._fd)
            raise _changed(path)

    def status(self) -> os.stat_result:
        return os.fstat(self._fd)

    def read(self, n_bytes: int) -> bytes:
        """Up to ``n_bytes``; fewer only at the end of the file."""
        try:
            data = os.read(self._fd, n_bytes)
            while 0 < len(data) < n_bytes and (more := os.read(self._fd, n_bytes - len(data))):
                data += more
        except OSError as exc:
            raise _unreadable(self._path, exc) from exc
        return data

    def rewind(self) -> None:
        """Go on reading at the start."""
        os.lseek(self._fd, 0, os.SEEK_SET)

    def __enter__(self) -> _RawFile:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def _changed(path: bytes) -> InvalidObject:
    return InvalidObject(f"cannot import {quote(path, 4096)}: it changed while it was read")


def _unreadable(path: bytes, exc: OSError) -> Unavailable:
    return Unavailable(f"cannot import {quote(path, 4096)}: {exc.strerror}")


def _file_type(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "sockets"
    if stat.S_ISFIFO(mode):
        return "pipes"
    return "devices"


# --- building, in a worker thread, one batch after the other --------------------------------------------------------


class _Builder:
    """Makes directories of the steps, and the hash of the NAR."""

    def __init__(self) -> None:
        self._writer = NarWriter()
        self._hasher = hashlib.sha256()
        self._size = 0
        self._open: list[tuple[bytes, dict[bytes, Node]]] = []
        self._root: Node | None = None

    def take(self, batch: _Batch) -> list[Directory]:
        """Add the steps of a batch; returns the directories that ended, each after those below it."""
        writer = self._writer
        parts: list[bytes] = []
        done: list[Directory] = []
        for step in batch.steps:
            if self._open and not isinstance(step, _Leave):
                parts.append(writer.entry(step.name))
            match step:
                case _File():
                    parts.append(writer.file(step.blob.data, executable=step.executable))
                    self.add(step.name, FileNode(step.blob.digest, len(step.blob), step.executable))
                case _Symlink():
                    parts.append(writer.symlink(step.target))
                    self.add(step.name, SymlinkNode(step.target))
                case _Enter():
                    parts.append(writer.begin_directory())
                    self._open.append((step.name, {}))
                case _Leave():
                    parts.append(writer.end_directory())
                    name, entries = self._open.pop()
                    directory = Directory(entries)
                    done.append(directory)
                    self.add(name, directory.node())
        self._update(b"".join(parts))
        return done

    def begin_file(self, large: _LargeFile, size: int) -> None:
        """Start a large file in the NAR; ``take_piece`` follows until the end of the file, then ``end_file``."""
        if self._open:
            self._update(self._writer.entry(large.name))
        self._update(self._writer.begin_file(size, executable=large.executable))

    def take_piece(self, file: _RawFile, hasher: blake3) -> bytes:
        """Read the next piece and add it to the NAR and to the hash of the file; empty at the end.

        Raises:
            InvalidObject: The file is longer than announced.
        """
        piece = file.read(_READ_BYTES)
        hasher.update(piece)
        self._update(self._writer.content(piece))
        return piece

    def end_file(self) -> None:
        """End the large file.

        Raises:
            InvalidObject: It was shorter than announced.
        """
        self._update(self._writer.end_file())

    def add(self, name: bytes, node: Node) -> None:
        """Put a node into the open directory; without one, it is the root."""
        if self._open:
            self._open[-1][1][name] = node
        else:
            self._root = node

    def _update(self, data: bytes) -> None:
        self._size += len(data)
        self._hasher.update(data)

    def root(self) -> Node:
        assert self._root is not None, "every walk ends with its root"
        return self._root

    def nar(self) -> NarDigest:
        self._writer.finish()
        return NarDigest(self._size, self._hasher.digest())
