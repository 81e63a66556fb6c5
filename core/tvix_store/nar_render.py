"""From a node in the store to its NAR: a stream of pieces, with the next files on their way meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, Self

from tvix_store import nar
from tvix_store.blob import BlobReader, BlobService, ChunkMeta
from tvix_store.budget import ByteBudget, Share
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, LimitExceeded
from tvix_store.limits import BATCH_COUNT, MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nar_calculation import NarCalculationService, NarDigest
from tvix_store.nar_windows import WINDOW_BYTES, Window, measure, node_size, plan, stretches, wrong_size
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node
from tvix_store.resource import AsyncResource, task_group

__all__ = ["RenderingNarCalculation", "Tree", "check_present", "load_tree", "render_nar"]

_WINDOWS_AHEAD = 3
_OWN_BYTES = 24 * MIB
"""What a stream holds at most that shares with nobody."""
_PLANNED_AT_ONCE = 8
_JOIN_IN_THREAD_BYTES = PIECE_BYTES
_HEAD_BYTES = 1 * MIB
"""How much of a large file is read before its turn."""
_STREAM_BYTES = 8 * MIB
"""What a large file that is streamed is taken to hold in memory: what its reader fetches ahead."""
_HASH_BYTES = 2 * MIB
"""How much of a NAR goes to a thread to be hashed at once."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A node and all directories below it, which is all that is needed to know its NAR but for the contents."""

    root: Node
    directories: Mapping[B3Digest, Directory]
    _sizes: dict[bytes, tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def nar_size(self) -> int:
        """Length of the NAR in bytes, known before any blob is read.

        Raises:
            LimitExceeded: There are more levels than ``nar.MAX_DEPTH``, or no NAR can be that long.
        """
        size = nar.ROOT_OVERHEAD + self.size_of(self.root)
        if isinstance(self.root, DirectoryNode) and (deepest := self._sizes[self.root.digest.raw][0]) > nar.MAX_DEPTH:
            raise LimitExceeded(f"a tree of {deepest} levels, a NAR has at most {nar.MAX_DEPTH}")
        if size > nar.MAX_FILE_BYTES:
            raise LimitExceeded(f"a NAR of {size} bytes, at most {nar.MAX_FILE_BYTES} are possible")
        return size

    def size_of(self, node: Node) -> int:
        """Bytes that ``node``, the root or one below it, takes in the NAR."""
        if isinstance(self.root, DirectoryNode) and not self._sizes:
            self._sizes.update(measure(self.root.digest, self.directories))
        return node_size(node, self._sizes)

    def windows(self, start: int, end: int | None) -> Iterator[Window]:
        """What the NAR consists of from ``start`` up to ``end``.

        Raises:
            LimitExceeded: The tree cannot be a NAR; before any window.
        """
        size = self.nar_size()
        return plan(self.root, self.directories, self._sizes, max(start, 0), size if end is None else min(end, size))


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


# --- fetching -------------------------------------------------------------------------------------------------------


async def check_present(tree: Tree, blobs: BlobService, *, start: int = 0, end: int | None = None) -> None:
    """Look whether all blobs are there that are needed for the NAR from ``start`` up to ``end``, its end if ``None``.

    Raises:
        DanglingReference: One of them is absent.
        LimitExceeded: The tree cannot be a NAR.
    """
    wanted = await asyncio.to_thread(_wanted, tree, start, end)
    for first in range(0, len(wanted), BATCH_COUNT):
        batch = wanted[first : first + BATCH_COUNT]
        for digest, is_there in zip(batch, await blobs.has_many(batch), strict=True):
            if not is_there:
                raise _absent(digest)


def _wanted(tree: Tree, start: int, end: int | None) -> list[B3Digest]:
    found: dict[B3Digest, None] = {}
    if start <= 0 and (end is None or end >= tree.nar_size()):  # all of it: each directory once, however often it is in
        tree.nar_size()
        roots = [tree.root] if isinstance(tree.root, FileNode) else []
        for nodes in (roots, *(map(_node, directory.items()) for directory in tree.directories.values())):
            found.update((node.digest, None) for node in nodes if type(node) is FileNode)
    else:
        for window in tree.windows(start, end):
            found.update(dict.fromkeys(window.small))
            if window.large is not None:
                found[window.large.digest] = None
    return list(found)


def _node(entry: tuple[bytes, Node]) -> Node:
    return entry[1]


def _absent(digest: B3Digest) -> DanglingReference:
    return DanglingReference(f"blob {digest} does not exist")


@dataclass(frozen=True, slots=True)
class _Made:
    """A window that is ready to be sent.

    Args:
        pieces: Its bytes.
        large: The large file after them, opened.
        n_bytes: What is reserved for all this.
    """

    pieces: list[bytes]
    large: _Large | None
    n_bytes: int


async def render_nar(
    tree: Tree, blobs: BlobService, *, start: int = 0, end: int | None = None, budget: ByteBudget | None = None
) -> AsyncGenerator[bytes]:
    """The NAR of a tree, in pieces of ``limits.PIECE_BYTES`` to a little more than ``limits.SMALL_BLOB_BYTES``.

    Small files are fetched in batches, some of them ahead of what is being sent. So are the chunks of large ones, if
    the service verifies what it gives; otherwise they are streamed, from their first byte to their last even where
    only a part of them is wanted, since only that shows that they are right. Whoever may stop before the end closes
    the generator, as ``contextlib.aclosing`` does, so that nothing is read any more.

    Args:
        tree: What to render.
        blobs: Where its contents are.
        start: How many bytes of the NAR to leave out. What lies wholly within them is not fetched.
        end: Where in the NAR to stop, counted from its first byte; ``None``, or more than there is, for its end.
        budget: What this shares with other streams; ``None`` for one of its own.

    Raises:
        DanglingReference: A blob is absent.
        InvalidObject: A blob is longer or shorter than its node says.
        LimitExceeded: The tree cannot be a NAR; before any piece.
    """
    with (ByteBudget(_OWN_BYTES) if budget is None else budget).share() as share:
        async with _Windows(tree, blobs, start, end, share) as windows:
            while (made := await windows.next()) is not None:
                left = made.n_bytes
                try:
                    made.pieces.reverse()  # so that each is let go of once it is sent
                    while made.pieces:
                        n_bytes = len(made.pieces[-1])
                        yield made.pieces.pop()
                        share.give_back(n_bytes)
                        left -= n_bytes
                    if made.large is not None:
                        async with aclosing(made.large.pieces()) as pieces:
                            async for piece in pieces:
                                yield piece
                finally:
                    if made.large is not None:
                        await made.large.aclose()
                share.give_back(left)


class _Windows(AsyncResource):
    """The windows of a NAR, made in order, with some on their way."""

    def __init__(self, tree: Tree, blobs: BlobService, start: int, end: int | None, share: Share) -> None:
        self._tree = tree
        self._blobs = blobs
        self._share = share
        self._planned = self._plan(start, end)
        self._planning = asyncio.Lock()
        self._ahead: deque[asyncio.Future[_Made | None]] = deque()

    async def next(self) -> _Made | None:
        """The next one; ``None`` at the end."""
        while len(self._ahead) < 1 + _WINDOWS_AHEAD:
            self._ahead.append(asyncio.ensure_future(self._make()))
        made = await self._ahead[0]
        self._ahead.popleft()
        return made

    async def _plan(self, start: int, end: int | None) -> AsyncGenerator[Window]:
        windows = await asyncio.to_thread(self._tree.windows, start, end)
        n_windows = 1  # the first is wanted soon
        while batch := await asyncio.to_thread(_take, windows, n_windows):
            for window in batch:
                large = window.large
                chunks = None if large is None else await self._chunks(large)
                if large is None or chunks is None:
                    yield window
                    continue
                window.large = None
                yield window
                for stretch in stretches(large.digest, chunks, window.large_start, window.large_end):
                    yield stretch
            n_windows = _PLANNED_AT_ONCE

    async def _chunks(self, large: FileNode) -> Sequence[ChunkMeta] | None:
        """The chunks of a large file; ``None`` if it is better streamed."""
        if not self._blobs.capabilities.verifies:
            return None
        chunks = await self._blobs.chunks(large.digest)
        if chunks is None:
            raise _absent(large.digest)
        if not chunks:
            return [ChunkMeta(large.digest, large.size)] if large.size <= WINDOW_BYTES else None
        if (actual := sum(chunk.size for chunk in chunks)) != large.size:
            raise wrong_size(large.digest, actual, large.size)
        return chunks

    async def _make(self) -> _Made | None:
        async with self._planning:  # so tasks take windows in the order in which they were started
            window = await anext(self._planned, None)
            if window is None:
                return None
            is_streamed = window.large is not None
            n_bytes = window.n_bytes + (min(window.large_end, _STREAM_BYTES) if is_streamed else 0)
            await self._share.reserve(n_bytes)
        try:
            pieces = await self._fetch(window)
        except CorruptObject:
            if window.of is not None:  # the chunks that it lacks are nothing that anybody would put
                await self._blobs.discard_corrupt(window.of)
            raise
        return _Made(pieces, await _Large.begin(window, self._blobs) if is_streamed else None, n_bytes)

    async def _fetch(self, window: Window) -> list[bytes]:
        contents: Sequence[bytes | None] = ()
        if window.small:
            try:
                contents = await self._blobs.get_many(window.small, max_blob_bytes=max(window.sizes))
            except LimitExceeded as exc:
                raise InvalidObject(f"a blob is longer than its node says: {exc}") from exc
        if window.of is None and window.n_bytes > _JOIN_IN_THREAD_BYTES:
            return await asyncio.to_thread(window.join, contents)
        return window.join(contents)

    async def aclose(self) -> None:
        ahead = list(self._ahead)
        self._ahead.clear()
        for making in ahead:
            making.cancel()
        for result in await asyncio.gather(*ahead, return_exceptions=True):
            if isinstance(result, _Made) and result.large is not None:
                await result.large.aclose()
        await self._planned.aclose()


def _take(windows: Iterator[Window], n_windows: int) -> list[Window]:
    return list(islice(windows, n_windows))


class _Large(AsyncResource):
    """A large file that is streamed, or a part of it, of which the first bytes were read ahead."""

    def __init__(self, node: FileNode, start: int, end: int, reader: BlobReader) -> None:
        self._node = node
        self._start = start
        self._end = end
        self._reader = reader
        self._head: deque[bytes] = deque()

    @classmethod
    async def begin(cls, window: Window, blobs: BlobService) -> Self:
        """Open the large file after the window and read ahead.

        Raises:
            DanglingReference: It is absent.
        """
        assert window.large is not None
        reader = await blobs.open_read(window.large.digest)
        if reader is None:
            raise _absent(window.large.digest)
        large = cls(window.large, window.large_start, window.large_end, reader)
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

        Also of a part of them all are read: only their hash says that they are right, and whoever is sent the last
        bytes takes it that they were.

        Raises:
            InvalidObject: They are longer or shorter than that.
        """
        last = b""
        n_bytes = 0
        while piece := self._head.popleft() if self._head else await self._reader.read(SMALL_BLOB_BYTES):
            position, n_bytes = n_bytes, n_bytes + len(piece)
            if n_bytes > self._node.size:
                raise wrong_size(self._node.digest, n_bytes, self._node.size)
            if position >= self._end or n_bytes <= self._start:
                continue
            if position < self._start or n_bytes > self._end:
                piece = piece[max(0, self._start - position) : self._end - position]
            if n_bytes >= self._end and self._end < self._node.size:
                last = piece
            else:
                yield piece
        if n_bytes < self._node.size:
            raise wrong_size(self._node.digest, n_bytes, self._node.size)
        if last:
            yield last

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
