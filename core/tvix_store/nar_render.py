"""From a node in the store to its NAR: a stream of pieces, with the next files on their way meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice

from tvix_store import nar
from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import DanglingReference, InvalidObject, LimitExceeded
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nar_calculation import NarCalculationService, NarDigest
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode

__all__ = ["RenderingNarCalculation", "Tree", "load_tree", "render_nar"]

_WINDOWS_AHEAD = 2


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
        sizes: dict[B3Digest, int] = {}
        levels: dict[B3Digest, int] = {}
        pending = [self.root.digest] if isinstance(self.root, DirectoryNode) else []
        while pending:
            directory = self.directories[pending[-1]]
            children = {child.digest for _, child in directory.directories()}
            if missing := children - sizes.keys():
                pending.extend(missing)
                continue
            entries = ((name, _nar_size(child, sizes)) for name, child in directory.items())
            sizes[directory.digest] = nar.directory_size(entries)
            below = max((levels[child] for child in children), default=1 if directory.items() else 0)
            levels[pending.pop()] = 1 + below
        if (deepest := max(levels.values(), default=0)) > nar.MAX_DEPTH:
            raise LimitExceeded(f"a tree of {deepest} levels, a NAR has at most {nar.MAX_DEPTH}")
        size = nar.ROOT_OVERHEAD + _nar_size(self.root, sizes)
        if size > nar.MAX_FILE_BYTES:
            raise LimitExceeded(f"a NAR of {size} bytes, at most {nar.MAX_FILE_BYTES} are possible")
        return size


def _nar_size(node: Node, directory_sizes: Mapping[B3Digest, int]) -> int:
    match node:
        case FileNode():
            return nar.file_size(node.size, executable=node.executable)
        case SymlinkNode():
            return nar.symlink_size(node.target)
        case DirectoryNode():
            return directory_sizes[node.digest]


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


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a directory."""


_Step = _Entry | _End | Node


def _steps(tree: Tree) -> Iterator[_Step]:
    yield tree.root
    if not isinstance(tree.root, DirectoryNode):
        return
    stack = [iter(tree.directories[tree.root.digest].items())]
    while stack:
        for name, node in stack[-1]:
            yield _Entry(name)
            yield node
            if isinstance(node, DirectoryNode):
                stack.append(iter(tree.directories[node.digest].items()))
                break
        else:
            stack.pop()
            yield _End()


@dataclass(slots=True)
class _Window:
    """Steps that are rendered at once, with the small files among them; ``large`` is a file to stream after them."""

    steps: list[_Step] = field(default_factory=list)
    small: list[B3Digest] = field(default_factory=list)
    largest: int = 0
    large: FileNode | None = None


def _windows(tree: Tree) -> Iterator[_Window]:
    window = _Window()
    n_bytes = 0
    for step in _steps(tree):
        if isinstance(step, FileNode):
            if step.size > SMALL_BLOB_BYTES:
                window.large = step
                yield window
                window, n_bytes = _Window(), 0
                continue
            if n_bytes + step.size > BATCH_BYTES or len(window.small) == BATCH_COUNT:
                yield window
                window, n_bytes = _Window(), 0
            window.small.append(step.digest)
            window.largest = max(window.largest, step.size)
            n_bytes += step.size
        window.steps.append(step)
        if len(window.steps) >= 8 * BATCH_COUNT:  # a tree of directories and symlinks alone is cut as well
            yield window
            window, n_bytes = _Window(), 0
    yield window


def _render(writer: nar.NarWriter, window: _Window, contents: Sequence[bytes | None]) -> list[bytes]:
    """The bytes of a window, but for the large file, in pieces of about ``PIECE_BYTES``."""
    pieces: list[bytes] = []
    parts: list[bytes] = []
    n_bytes = 0
    files = iter(zip(window.small, contents, strict=True))
    for step in window.steps:
        match step:
            case _Entry():
                part = writer.entry(step.name)
            case FileNode():
                digest, data = next(files)
                if data is None:
                    raise DanglingReference(f"blob {digest} does not exist")
                if len(data) != step.size:
                    raise _wrong_size(step, len(data))
                part = writer.file(data, executable=step.executable)
            case SymlinkNode():
                part = writer.symlink(step.target)
            case DirectoryNode():
                part = writer.begin_directory()
            case _End():
                part = writer.end_directory()
        parts.append(part)
        n_bytes += len(part)
        if n_bytes >= PIECE_BYTES:
            pieces.append(b"".join(parts))
            parts, n_bytes = [], 0
    if parts:
        pieces.append(b"".join(parts))
    return pieces


def _wrong_size(node: FileNode, size: int) -> InvalidObject:
    return InvalidObject(f"blob {node.digest} has {size} bytes, its node says {node.size}")


async def render_nar(tree: Tree, blobs: BlobService) -> AsyncGenerator[bytes]:
    """The NAR of a tree, in pieces of ``limits.PIECE_BYTES`` to a little more than ``limits.SMALL_BLOB_BYTES``.

    Small files are fetched in batches, two of them ahead of what is being sent; large ones are streamed. Whoever may
    stop before the end closes the generator, as ``contextlib.aclosing`` does, so that nothing is read any more.

    Raises:
        DanglingReference: A blob is absent.
        InvalidObject: A blob is longer or shorter than its node says.
        LimitExceeded: The tree cannot be a NAR; before any piece.
    """
    await asyncio.to_thread(tree.nar_size)  # it takes long for a tree of a million entries
    writer = nar.NarWriter()
    windows = _windows(tree)
    ahead: deque[tuple[_Window, asyncio.Future[Sequence[bytes | None]]]] = deque()

    def look_ahead() -> None:
        for window in islice(windows, _WINDOWS_AHEAD - len(ahead)):
            ahead.append((window, asyncio.ensure_future(_contents(window, blobs))))

    try:
        look_ahead()
        while ahead:
            window, fetching = ahead[0]
            contents = await fetching
            ahead.popleft()
            look_ahead()
            for piece in await asyncio.to_thread(_render, writer, window, contents):
                yield piece
            if window.large is not None:
                async with aclosing(_stream(writer, window.large, blobs)) as stream:
                    async for piece in stream:
                        yield piece
        writer.finish()
    finally:
        for _, fetching in ahead:
            fetching.cancel()
        await asyncio.gather(*(fetching for _, fetching in ahead), return_exceptions=True)


async def _contents(window: _Window, blobs: BlobService) -> Sequence[bytes | None]:
    if not window.small:
        return ()
    try:
        return await blobs.get_many(window.small, max_blob_bytes=window.largest)
    except LimitExceeded as exc:
        raise InvalidObject(f"a blob is longer than its node says: {exc}") from exc


async def _stream(writer: nar.NarWriter, node: FileNode, blobs: BlobService) -> AsyncGenerator[bytes]:
    reader = await blobs.open_read(node.digest)
    if reader is None:
        raise DanglingReference(f"blob {node.digest} does not exist")
    async with reader:
        yield writer.begin_file(node.size, executable=node.executable)
        n_bytes = 0
        while piece := await reader.read():
            n_bytes += len(piece)
            if n_bytes > node.size:
                raise _wrong_size(node, n_bytes)
            yield writer.content(piece)
        if n_bytes < node.size:
            raise _wrong_size(node, n_bytes)
        yield writer.end_file()


class RenderingNarCalculation(NarCalculationService):
    """Calculates by rendering from a blob and a directory service."""

    def __init__(self, blobs: BlobService, directories: DirectoryService) -> None:
        self._blobs = blobs
        self._directories = directories

    async def calculate_nar(self, node: Node) -> NarDigest:
        hasher = hashlib.sha256()
        size = 0
        tree = await load_tree(node, self._directories)
        async with aclosing(render_nar(tree, self._blobs)) as pieces:
            async for piece in pieces:
                size += len(piece)
                await asyncio.to_thread(hasher.update, piece)
        return NarDigest(size, hasher.digest())
