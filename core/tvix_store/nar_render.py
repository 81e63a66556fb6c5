"""From a node in the store to its NAR: a stream of pieces, with the next files on their way meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, Self

from tvix_store import nar
from tvix_store.blob import BlobReader, BlobService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import DanglingReference, InvalidObject, LimitExceeded
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nar_calculation import NarCalculationService, NarDigest
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.resource import AsyncResource, task_group

__all__ = ["RenderingNarCalculation", "Tree", "load_tree", "render_nar"]

_WINDOWS_AHEAD = 2
_RUN_PARTS = 4096
"""Where no file comes between them, about 700 symlinks or 1,000 directories are cut off as a window of their own."""
_JOIN_IN_THREAD_BYTES = PIECE_BYTES
_HEAD_BYTES = 1 * MIB
"""How much of a large file is read before its turn."""
_HASH_BYTES = 2 * MIB
"""How much of a NAR goes to a thread to be hashed at once."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A node and all directories below it, which is all that is needed to know its NAR but for the contents."""

    root: Node
    directories: Mapping[B3Digest, Directory]

    def nar_size(self) -> int:
        """Length of the NAR in bytes, known before any blob is read.

        Raises:
            LimitExceeded: There are more levels than ``nar.MAX_DEPTH``, or no NAR can be that long.
        """
        deepest, size = self._measure(self.root.digest) if isinstance(self.root, DirectoryNode) else (0, 0)
        if deepest > nar.MAX_DEPTH:
            raise LimitExceeded(f"a tree of {deepest} levels, a NAR has at most {nar.MAX_DEPTH}")
        match self.root:
            case FileNode():
                size = nar.file_size(self.root.size, executable=self.root.executable)
            case SymlinkNode():
                size = nar.symlink_size(self.root.target)
        size += nar.ROOT_OVERHEAD
        if size > nar.MAX_FILE_BYTES:
            raise LimitExceeded(f"a NAR of {size} bytes, at most {nar.MAX_FILE_BYTES} are possible")
        return size

    def _measure(self, root: B3Digest) -> tuple[int, int]:
        """Levels and size of a directory."""
        measured: dict[bytes, tuple[int, int]] = {}
        opened: dict[bytes, tuple[int, list[B3Digest]]] = {}  # what is without its children, and those
        pending = [root]
        while pending:
            key = pending[-1].raw
            if key in measured:
                pending.pop()
            elif key not in opened:
                opened[key] = _measure_entries(self.directories[pending[-1]])
                pending.extend(child for child in opened[key][1] if child.raw not in measured)
            else:
                size, children = opened.pop(key)
                below = [measured[child.raw] for child in children]
                levels = max((levels for levels, _ in below), default=1 if size > _EMPTY_DIRECTORY_BYTES else 0)
                measured[key] = 1 + levels, size + sum(size for _, size in below)
                pending.pop()
        return measured[root.raw]


_EMPTY_DIRECTORY_BYTES = nar.directory_size(())
_ENTRY_BYTES = nar.entry_size(b"")
_FILE_BYTES = nar.file_size(0, executable=False)
_EXECUTABLE_BYTES = nar.file_size(0, executable=True)


def _measure_entries(directory: Directory) -> tuple[int, list[B3Digest]]:
    """Size of a directory but for the directories in it, and those."""
    # The functions of nar.py would do, but would take ten times as long.
    size = _EMPTY_DIRECTORY_BYTES + len(directory) * _ENTRY_BYTES
    children: list[B3Digest] = []
    for name, node in directory.items():
        size += (len(name) + 7) & ~7
        if type(node) is FileNode:
            size += (_EXECUTABLE_BYTES if node.executable else _FILE_BYTES) + ((node.size + 7) & ~7)
        elif type(node) is DirectoryNode:
            children.append(node.digest)
        elif type(node) is SymlinkNode:
            size += nar.symlink_size(node.target)
    return size, children


async def load_tree(node: Node, directories: DirectoryService) -> Tree:
    """Fetch all directories below ``node``.

    Raises:
        DanglingReference: One of them is absent.
    """
    loaded: dict[B3Digest, Directory] = {}
    if isinstance(node, DirectoryNode):
        async for directory in directories.get_recursive(node.digest):
            loaded[directory.digest] = directory
        if node.digest not in loaded:
            raise DanglingReference(f"directory {node.digest} does not exist")
    return Tree(node, loaded)


# --- what a NAR consists of, in its order ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Window:
    """A part of a NAR that is made at once: the contents of small files, and between them what makes it a NAR.

    Args:
        frames: What precedes each of the small files, and what follows the last.
        small: The small files.
        sizes: Their sizes.
        cuts: How many of them are before the end of each piece but the last.
        large: A file to stream after all this.
    """

    frames: list[bytes] = field(default_factory=list)
    small: list[B3Digest] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    large: FileNode | None = None


class _Planner:
    """Cuts the NAR of a tree into windows.

    A token before a name, a name, a token after it: most of a NAR is known beforehand, and per file there is no more
    to do here than to put these into a list. That names are valid and in order is a promise of Directory.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._run = [nar.START]  # what precedes the next content
        self._window = _Window()
        self._left = BATCH_BYTES
        self._piece_bytes = 0

    def windows(self) -> Iterator[_Window]:
        """The windows; the last one ends with the NAR.

        Raises:
            LimitExceeded: The tree cannot be a NAR; before any window.
        """
        self._tree.nar_size()
        match self._tree.root:
            case FileNode() as node:
                self._run += ((nar.EXECUTABLE if node.executable else nar.REGULAR), node.size.to_bytes(8, "little"))
                if node.size > SMALL_BLOB_BYTES:
                    yield self._cut(large=node)
                else:
                    self._add(node)
                self._run = [nar.CLOSE_AFTER[node.size & 7]]
            case SymlinkNode(target):
                self._run = [nar.NarWriter().symlink(target)]
            case DirectoryNode(digest):
                self._run.append(nar.DIRECTORY)
                yield from self._entries(self._tree.directories[digest])
        yield self._cut()

    def _entries(self, root: Directory) -> Iterator[_Window]:
        heads, closers = nar.ENTRY_HEADS, nar.CLOSE_IN_ENTRY_AFTER
        directories = self._tree.directories
        stack = [iter(root.items())]
        while stack:
            for name, node in stack[-1]:
                name_size = len(name)
                if type(node) is FileNode:
                    size = node.size
                    afters = nar.EXECUTABLE_AFTER if node.executable else nar.REGULAR_AFTER
                    self._run += (heads[name_size], name, afters[name_size & 7], size.to_bytes(8, "little"))
                    if size > SMALL_BLOB_BYTES:
                        yield self._cut(large=node)
                    else:
                        if size > self._left or len(self._window.small) == BATCH_COUNT:
                            run, self._run = self._run, []
                            yield self._cut()
                            self._run = run
                        self._add(node)
                    self._run = [closers[size & 7]]
                elif type(node) is DirectoryNode:
                    self._run += (heads[name_size], name, nar.DIRECTORY_AFTER[name_size & 7])
                    stack.append(iter(directories[node.digest].items()))
                    break
                elif type(node) is SymlinkNode:
                    size = len(node.target)
                    self._run += (heads[name_size], name, nar.SYMLINK_AFTER[name_size & 7])
                    self._run += (size.to_bytes(8, "little"), node.target, closers[size & 7])
                    if len(self._run) >= _RUN_PARTS:
                        yield self._cut()
            else:
                stack.pop()
                self._run.append(nar.CLOSE_IN_ENTRY if stack else nar.CLOSE)
            if len(self._run) >= _RUN_PARTS:
                yield self._cut()

    def _add(self, node: FileNode) -> None:
        window = self._window
        frame = b"".join(self._run)
        window.frames.append(frame)
        window.small.append(node.digest)
        window.sizes.append(node.size)
        self._left -= node.size
        self._piece_bytes += len(frame) + node.size
        if self._piece_bytes >= PIECE_BYTES:
            window.cuts.append(len(window.small))
            self._piece_bytes = 0

    def _cut(self, large: FileNode | None = None) -> _Window:
        window = self._window
        window.frames.append(b"".join(self._run))
        window.large = large
        self._run = []
        self._window = _Window()
        self._left = BATCH_BYTES
        self._piece_bytes = 0
        return window


def _join(window: _Window, contents: Sequence[bytes | None]) -> list[bytes]:
    """The bytes of a window, but for the large file, in pieces of about ``PIECE_BYTES``."""
    for digest, size, data in zip(window.small, window.sizes, contents, strict=True):
        if data is None:
            raise DanglingReference(f"blob {digest} does not exist")
        if len(data) != size:
            raise _wrong_size(digest, len(data), size)
    parts: list[bytes | None] = [None] * (2 * len(contents) + 1)
    parts[::2] = window.frames
    parts[1::2] = contents
    bounds = [0, *(2 * cut for cut in window.cuts), len(parts)]
    pieces = [b"".join(parts[start:end]) for start, end in pairwise(bounds)]  # type: ignore[arg-type]  # none is absent
    return [piece for piece in pieces if piece]


def _wrong_size(digest: B3Digest, actual: int, stated: int) -> InvalidObject:
    return InvalidObject(f"blob {digest} has {actual} bytes, its node says {stated}")


# --- fetching -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Made:
    """A window that is ready to be sent: its pieces, and the large file after them, opened."""

    pieces: list[bytes]
    large: _Large | None


async def render_nar(tree: Tree, blobs: BlobService) -> AsyncGenerator[bytes]:
    """The NAR of a tree, in pieces of ``limits.PIECE_BYTES`` to a little more than ``limits.SMALL_BLOB_BYTES``.

    Small files are fetched in batches, two of them ahead of what is being sent; large ones are streamed, and begun
    ahead as well. Whoever may stop before the end closes the generator, as ``contextlib.aclosing`` does, so that
    nothing is read any more.

    Raises:
        DanglingReference: A blob is absent.
        InvalidObject: A blob is longer or shorter than its node says.
        LimitExceeded: The tree cannot be a NAR; before any piece.
    """
    windows = _Planner(tree).windows()
    planning = asyncio.Lock()

    async def make() -> _Made | None:
        async with planning:  # so tasks take windows in the order in which they were started
            window = await asyncio.to_thread(next, windows, None)
        return None if window is None else await _make(window, blobs)

    ahead = deque(asyncio.ensure_future(make()) for _ in range(_WINDOWS_AHEAD))
    try:
        while (made := await ahead[0]) is not None:
            try:
                ahead.popleft()
                ahead.append(asyncio.ensure_future(make()))
                made.pieces.reverse()  # so that each is let go of once it is sent
                while made.pieces:
                    yield made.pieces.pop()
                if made.large is not None:
                    async with aclosing(made.large.pieces()) as pieces:
                        async for piece in pieces:
                            yield piece
            finally:
                if made.large is not None:
                    await made.large.aclose()
    finally:
        for making in ahead:
            making.cancel()
        for result in await asyncio.gather(*ahead, return_exceptions=True):
            if isinstance(result, _Made) and result.large is not None:
                await result.large.aclose()


async def _make(window: _Window, blobs: BlobService) -> _Made:
    contents: Sequence[bytes | None] = ()
    if window.small:
        try:
            contents = await blobs.get_many(window.small, max_blob_bytes=max(window.sizes))
        except LimitExceeded as exc:
            raise InvalidObject(f"a blob is longer than its node says: {exc}") from exc
    if sum(window.sizes) > _JOIN_IN_THREAD_BYTES:
        pieces = await asyncio.to_thread(_join, window, contents)
    else:
        pieces = _join(window, contents)
    return _Made(pieces, None if window.large is None else await _Large.begin(window.large, blobs))


class _Large(AsyncResource):
    """A large file, of which the first bytes were read ahead."""

    def __init__(self, node: FileNode, reader: BlobReader) -> None:
        self._node = node
        self._reader = reader
        self._head: deque[bytes] = deque()

    @classmethod
    async def begin(cls, node: FileNode, blobs: BlobService) -> Self:
        """Open it and read ahead.

        Raises:
            DanglingReference: It is absent.
        """
        reader = await blobs.open_read(node.digest)
        if reader is None:
            raise DanglingReference(f"blob {node.digest} does not exist")
        large = cls(node, reader)
        try:
            n_bytes = 0
            while n_bytes < _HEAD_BYTES and (piece := await reader.read(SMALL_BLOB_BYTES)):
                large._head.append(piece)
                n_bytes += len(piece)
        except BaseException:
            await reader.aclose()
            raise
        return large

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The contents, never more than the node says.

        Raises:
            InvalidObject: They are longer or shorter than that.
        """
        n_bytes = 0
        while piece := self._head.popleft() if self._head else await self._reader.read(SMALL_BLOB_BYTES):
            n_bytes += len(piece)
            if n_bytes > self._node.size:
                raise _wrong_size(self._node.digest, n_bytes, self._node.size)
            yield piece
        if n_bytes < self._node.size:
            raise _wrong_size(self._node.digest, n_bytes, self._node.size)

    async def aclose(self) -> None:
        await self._reader.aclose()


# --- hashing --------------------------------------------------------------------------------------------------------


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...


class RenderingNarCalculation(NarCalculationService):
    """Calculates by rendering from a blob and a directory service."""

    def __init__(self, blobs: BlobService, directories: DirectoryService) -> None:
        self._blobs = blobs
        self._directories = directories

    async def calculate_nar(self, node: Node) -> NarDigest:
        hasher = hashlib.sha256()
        size = 0
        tree = await load_tree(node, self._directories)
        async with (
            task_group() as group,
            aclosing(render_nar(tree, self._blobs)) as pieces,
            aclosing(_portions(pieces)) as portions,
        ):
            hashing: asyncio.Task[None] | None = None
            async for portion in portions:
                if hashing is not None:
                    await hashing
                hashing = group.create_task(asyncio.to_thread(_update, hasher, portion))  # while more is rendered
                size += sum(map(len, portion))
        return NarDigest(size, hasher.digest())


async def _portions(pieces: AsyncIterable[bytes]) -> AsyncGenerator[list[bytes]]:
    portion: list[bytes] = []
    n_bytes = 0
    async for piece in pieces:
        portion.append(piece)
        n_bytes += len(piece)
        if n_bytes >= _HASH_BYTES:
            yield portion
            portion, n_bytes = [], 0
    yield portion


def _update(hasher: _Hasher, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        hasher.update(piece)
