"""What a NAR consists of, in its order: windows that are made at once, of all of it or of a range of its bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise

from tvix_store import nar
from tvix_store.blob import ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.limits import BATCH_COUNT, MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode

__all__ = ["WINDOW_BYTES", "Window", "measure", "node_size", "plan", "stretches", "wrong_size"]

WINDOW_BYTES = 4 * MIB
"""The contents of a window, but for the large file after it, are not longer than this."""

_RUN_PARTS = 4096
"""Where no file comes between them, about 700 symlinks or 1,000 directories are cut off as a window of their own."""


# --- sizes ----------------------------------------------------------------------------------------------------------

_EMPTY_DIRECTORY_BYTES = nar.directory_size(())
_ENTRY_BYTES = nar.entry_size(b"")
_FILE_BYTES = nar.file_size(0, executable=False)
_EXECUTABLE_BYTES = nar.file_size(0, executable=True)


def measure(root: B3Digest, directories: Mapping[B3Digest, Directory]) -> dict[bytes, tuple[int, int]]:
    """Levels and size in a NAR of a directory and of all below it, by their digests."""
    measured: dict[bytes, tuple[int, int]] = {}
    opened: dict[bytes, tuple[int, list[B3Digest]]] = {}  # what is without its children, and those
    pending = [root]
    while pending:
        key = pending[-1].raw
        if key in measured:
            pending.pop()
        elif key not in opened:
            opened[key] = _measure_entries(directories[pending[-1]])
            pending.extend(child for child in opened[key][1] if child.raw not in measured)
        else:
            size, children = opened.pop(key)
            below = [measured[child.raw] for child in children]
            levels = max((levels for levels, _ in below), default=1 if size > _EMPTY_DIRECTORY_BYTES else 0)
            measured[key] = 1 + levels, size + sum(size for _, size in below)
            pending.pop()
    return measured


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


def node_size(node: Node, sizes: Mapping[bytes, tuple[int, int]]) -> int:
    """Bytes that a node takes in a NAR; ``sizes`` is what ``measure`` gave."""
    if isinstance(node, DirectoryNode):
        return sizes[node.digest.raw][1]
    if isinstance(node, FileNode):
        return nar.file_size(node.size, executable=node.executable)
    return nar.symlink_size(node.target)


# --- windows --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Window:
    """A part of a NAR that is made at once: the contents of small files, and between them what makes it a NAR.

    Args:
        frames: What precedes each of the small files, and what follows the last.
        small: The small files, or chunks of a large one.
        sizes: Their sizes.
        cuts: How many of them are before the end of each piece but the last.
        skip: How many bytes are left out at the start of all this.
        n_bytes: How many are left then, and after what is left out at the end.
        large: A file to stream after all this.
        large_start: Where in its contents to begin.
        large_end: Where in its contents to stop.
        of: The large file that all this is a part of.
    """

    frames: list[bytes] = field(default_factory=list)
    small: list[B3Digest] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    skip: int = 0
    n_bytes: int = 0
    large: FileNode | None = None
    large_start: int = 0
    large_end: int = 0
    of: B3Digest | None = None

    def clipped(self, start: int, end: int) -> Window:
        """The bytes of this from ``start`` up to ``end``, counted from its first one; not to be clipped again."""
        large_start, large_end = max(start - self.n_bytes, 0), min(end - self.n_bytes, self.large_end)
        is_large_in = self.large is not None and large_start < large_end
        clipped = Window()
        if is_large_in:
            clipped.large, clipped.large_start, clipped.large_end = self.large, large_start, large_end
        if start >= self.n_bytes:
            return clipped
        lengths = chain.from_iterable(zip(map(len, self.frames), [*self.sizes, 0], strict=True))
        bounds = [0, *accumulate(lengths)]  # where each of them begins: frame, file, frame, ...
        first = bisect_right(bounds[2::2], start)  # so many files end before
        last = max(first, bisect_left(bounds[1:-1:2], end))  # so many begin before the end
        clipped.frames = self.frames[first : last + 1]
        clipped.small = self.small[first:last]
        clipped.sizes = self.sizes[first:last]
        clipped.cuts = [cut - first for cut in self.cuts if first < cut < last]
        clipped.skip = start - bounds[2 * first]
        clipped.n_bytes = min(end, self.n_bytes) - start
        return clipped

    def join(self, contents: Sequence[bytes | None]) -> list[bytes]:
        """The bytes of this, but for the large file, in pieces of about ``PIECE_BYTES``.

        Args:
            contents: Of the small files.

        Raises:
            DanglingReference: One of them is absent.
            InvalidObject: One has another size.
        """
        for digest, size, data in zip(self.small, self.sizes, contents, strict=True):
            if data is None:
                raise DanglingReference(f"blob {digest} does not exist")
            if len(data) != size:
                raise wrong_size(digest, len(data), size)
        if not any(self.frames):
            return _clipped_pieces(contents, self.skip, self.n_bytes)  # type: ignore[arg-type]  # none is absent
        parts: list[bytes | None] = [None] * (2 * len(contents) + 1)
        parts[::2] = self.frames
        parts[1::2] = contents
        bounds = [0, *(2 * cut for cut in self.cuts), len(parts)]
        pieces = [b"".join(parts[start:end]) for start, end in pairwise(bounds)]  # type: ignore[arg-type]  # none is absent
        return _clipped_pieces(pieces, self.skip, self.n_bytes)


def _clipped_pieces(pieces: Iterable[bytes], skip: int, n_bytes: int) -> list[bytes]:
    """``n_bytes`` of the pieces, after ``skip`` bytes that are left out; no piece is empty."""
    clipped: list[bytes] = []
    for piece in pieces:
        if skip or len(piece) > n_bytes:
            part = piece[skip : skip + n_bytes]
            skip = max(0, skip - len(piece))
        else:
            part = piece
        if part:
            clipped.append(part)
            n_bytes -= len(part)
    return clipped


def wrong_size(digest: B3Digest, actual: int, stated: int) -> InvalidObject:
    """The error for a blob that has not as many bytes as its node says."""
    return InvalidObject(f"blob {digest} has {actual} bytes, its node says {stated}")


def stretches(digest: B3Digest, chunks: Sequence[ChunkMeta], start: int, end: int) -> Iterator[Window]:
    """Windows that are the contents of a large file from ``start`` up to ``end``, given the chunks of all of it."""
    window = Window(frames=[b""], of=digest)
    position = filled = 0
    for chunk in chunks:
        chunk_start, position = position, position + chunk.size
        if position <= start or chunk_start >= end:
            continue
        if window.small and filled + chunk.size > WINDOW_BYTES:
            yield window
            window, filled = Window(frames=[b""], of=digest), 0
        if window.small:
            window.cuts.append(len(window.small))
        else:
            window.skip = max(0, start - chunk_start)
        filled += chunk.size
        window.frames.append(b"")
        window.small.append(chunk.digest)
        window.sizes.append(chunk.size)
        window.n_bytes += min(position, end) - max(chunk_start, start)
    if window.small:
        yield window


def plan(
    root: Node, directories: Mapping[B3Digest, Directory], sizes: Mapping[bytes, tuple[int, int]], start: int, end: int
) -> Iterator[Window]:
    """The windows that are the bytes of a NAR from ``start`` up to ``end``.

    Args:
        root: Of the tree.
        directories: All that are in it.
        sizes: What ``measure`` gave.
        start: In bytes; what lies before it is passed by without a look into its directories.
        end: In bytes; not before ``start``.
    """
    if start >= end:
        return
    planner = _Planner(directories, sizes)
    position = None
    for window in planner.windows(root, start):
        if position is None:
            position = planner.begin
        n_bytes = window.n_bytes + window.large_end
        if position < start or position + n_bytes > end:
            if position + n_bytes > start:
                yield window.clipped(max(0, start - position), end - position)
        else:
            yield window
        position += n_bytes
        if position >= end:
            return


class _Planner:
    """Cuts the NAR of a tree into windows.

    A token before a name, a name, a token after it: most of a NAR is known beforehand, and per file there is no more
    to do here than to put these into a list. That names are valid and in order is a promise of Directory.

    Attributes:
        begin: Where in the NAR the first window begins, once there is one.
    """

    def __init__(self, directories: Mapping[B3Digest, Directory], sizes: Mapping[bytes, tuple[int, int]]) -> None:
        self._directories = directories
        self._sizes = sizes
        self.begin = 0
        self._run = [nar.START]  # what precedes the next content
        self._window = Window()
        self._left = WINDOW_BYTES
        self._piece_bytes = 0

    def windows(self, root: Node, start: int) -> Iterator[Window]:
        """The windows, the first of which begins at ``start`` or some way before; the last one ends with the NAR."""
        match root:
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
                yield from self._entries(self._go_to(self._directories[digest], start))
        yield self._cut()

    def _go_to(self, root: Directory, start: int) -> list[Iterator[tuple[bytes, Node]]]:
        """Pass by what ends before ``start``: what is left of the directories in which it lies, from the root down."""
        stack: list[Iterator[tuple[bytes, Node]]] = []
        entries = iter(root.items())
        position = nar.ROOT_OVERHEAD + nar.DIRECTORY_OFFSET
        while True:
            for name, node in entries:
                size = nar.entry_size(name) + node_size(node, self._sizes)
                if position + size > start:
                    break
                position += size
                self.begin, self._run = position, []
            else:
                return [*stack, entries]
            if not isinstance(node, DirectoryNode) or position > start:
                return [*stack, chain([(name, node)], entries)]
            stack.append(entries)
            entries = iter(self._directories[node.digest].items())
            self.begin = position
            self._run = [nar.ENTRY_HEADS[len(name)], name, nar.DIRECTORY_AFTER[len(name) & 7]]
            position += sum(map(len, self._run))

    def _entries(self, stack: list[Iterator[tuple[bytes, Node]]]) -> Iterator[Window]:
        heads, closers = nar.ENTRY_HEADS, nar.CLOSE_IN_ENTRY_AFTER
        directories = self._directories
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
            window.n_bytes += self._piece_bytes
            self._piece_bytes = 0

    def _cut(self, large: FileNode | None = None) -> Window:
        window = self._window
        frame = b"".join(self._run)
        window.frames.append(frame)
        window.n_bytes += self._piece_bytes + len(frame)
        if large is not None:
            window.large, window.large_end = large, large.size
        self._run = []
        self._window = Window()
        self._left = WINDOW_BYTES
        self._piece_bytes = 0
        return window
