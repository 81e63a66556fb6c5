"""Small files that a reader will want next, fetched in batches and pushed into the kernel's page cache.

Whoever lists a directory and begins to read what is in it is taken for somebody who reads on. First a few files after
the one that was read are fetched, as one batch; the kernel gets them before they are asked for, so that reading them
never reaches us. One in the middle is held back: when it is asked for, the reader has come so far, and a larger batch
is fetched, up to a stated number of bytes. So at most two batches lie before a reader, and one who stops costs no
more than those.

A reader who has come from one directory to the next one is followed through the whole tree. What is fetched then is
of inodes that the kernel does not know yet; it waits in the cache and is pushed when its directory has been listed.

Symlinks are left alone: Linux (6.18) takes no contents for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from tvix_store.digest import B3Digest
from tvix_store.errors import StoreError
from tvix_store.limits import BATCH_COUNT, KIB
from tvix_store.nodes import DirectoryNode, FileNode, Node
from tvix_store.resource import AsyncResource
from tvix_store_fuse.contents import Contents
from tvix_store_fuse.filesystem import StoreFilesystem
from tvix_store_fuse.inodes import ROOT, Inode
from tvix_store_fuse.walk import Entries, Stretch, Walk

__all__ = ["Prefetch"]

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 256 * KIB
"""What is longer is left to the read-ahead of the kernel and of the contents."""

_FIRST_FILES = 16
_FIRST_BYTES = MAX_FILE_BYTES
"""Not less, so that each batch has room for a file."""

_GROWTH = 4
_MAX_READERS = 16
_MAX_DIRECTORIES = 10_000
_MAX_WAITING = 4 * BATCH_COUNT
_MAX_PUSHED = 16_384
_PUSH_AT_ONCE = 256
_MAX_WAIT_S = 0.02

_MAX_IN_VAIN = 3
"""For one directory."""

_MAX_IN_VAIN_IN_ALL = 64
_FILES_IN_A_ROW = 3
"""Missed one after another in the order of a directory, they are proof that somebody reads on, whatever was before."""

_MUCH_OF_A_DIRECTORY = 1 / 16
"""Missed in any order, it is proof that the whole directory is read."""

_GROUP_FILES = 32
_GROUP_BYTES = 256 * KIB
"""As long as one of the pieces in which `fs` keeps small files: whoever reads one of them has paid for all."""

_DIRECTORIES_IN_A_ROW = 8
"""The same of directories, whose order is followed with gaps."""

Push = Callable[[int, bytes], bool]


@dataclass(slots=True, eq=False)
class _Reader:
    """Somebody who reads on.

    Attributes:
        walk: Where it goes.
        started_in: The number of the directory it was first seen in.
        crosses: Whether it goes from directory to directory.
        max_files: Of the last batch; 0 before the first.
        max_bytes: Of the last batch.
        signs: Files and directories of the last batch that show, when they are asked for, that it has come so far.
        is_fetching: Whether the next batch is under way.
    """

    walk: Walk
    started_in: int
    crosses: bool
    max_files: int = 0
    max_bytes: int = 0
    signs: set[bytes] = field(default_factory=set)
    is_fetching: bool = False


@dataclass(slots=True)
class _Habits:
    """What was seen of a directory.

    Attributes:
        last_missed: The position of the file that had to be fetched last.
        n_in_a_row: How many of those there were, each the next one after the one before it.
        n_missed: How many there were at all.
        last_child: The directory in it below which somebody began to read last.
        n_children: How many of those there were, each after the one before it.
        n_in_vain: How often a batch was fetched in it since one was of use.
    """

    last_missed: int = -1
    n_in_a_row: int = 0
    n_missed: int = 0
    last_child: bytes = b""
    n_children: int = 0
    n_in_vain: int = 0

    def note_missed(self, nodes: Sequence[Node], position: int) -> bool:
        """Note a file that had to be fetched; whether it is one of several in a row."""
        is_next = self.last_missed < position and not any(
            _is_small_file(nodes[between]) for between in range(self.last_missed + 1, position)
        )
        self.n_in_a_row = self.n_in_a_row + 1 if is_next else 1
        self.last_missed = position
        self.n_missed += 1
        return self.n_in_a_row >= _FILES_IN_A_ROW

    def note_child(self, name: bytes) -> int:
        """Note a directory in it; how many there were in a row."""
        if name != self.last_child:
            self.n_children = self.n_children + 1 if name > self.last_child else 1
            self.last_child = name
        return self.n_children


class Prefetch(AsyncResource):
    """Guesses what will be read, and has it where it is wanted.

    Attributes:
        n_pushed: How many files the kernel has taken.

    Args:
        filesystem: Whose inodes and directories.
        contents: Fetches, and keeps what is not pushed yet.
        max_bytes: The largest batch; 0: nothing is fetched.
    """

    def __init__(self, filesystem: StoreFilesystem, contents: Contents, max_bytes: int) -> None:
        self._table = filesystem.inodes
        self._directories = filesystem.directories
        self._contents = contents
        self._max_bytes = max_bytes
        self._push: Push | None = None
        self._entries = Entries()
        self._readers: deque[_Reader] = deque(maxlen=_MAX_READERS)
        self._habits: OrderedDict[int, _Habits] = OrderedDict()
        self._n_in_vain = 0
        self._listed: tuple[B3Digest, int, int] | None = None
        self._waiting: OrderedDict[bytes, None] = OrderedDict()  # fetched, and not pushed yet
        self._pushed: OrderedDict[int, None] = OrderedDict()  # by inode; not to be fetched once more
        self._to_push: deque[tuple[int, FileNode]] = deque()
        self._pushing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.n_pushed = 0

    def push_with(self, push: Push) -> None:
        """From now on, hand what was fetched to ``push``, with its inode, in a thread; it says whether it took it."""
        self._push = push

    def reads(self, number: int) -> None:
        """Somebody is about to read a file of which the kernel does not have everything."""
        self._push_listed()
        if not self._max_bytes:
            return
        inode = self._table.get(number)
        if inode is None or not _is_small_file(node := inode.node):
            return
        assert isinstance(node, FileNode)
        if number in self._pushed:
            self._pushed.clear()  # the kernel has dropped it, so it will have dropped others
        raw = node.digest.raw
        self._waiting.pop(raw, None)
        self._came_to(raw)
        if not self._contents.is_under_way(node.digest) and self._contents.at_hand(node.digest) is None:
            self._missed(inode, node)

    def lists(self, number: int, first: int, end: int) -> Coroutine[Any, Any, None] | None:
        """Entries ``first`` up to ``end`` of a directory are about to become known to the kernel.

        Returns:
            At the end of a directory, where ``first`` is ``end``, and if something is being pushed: what waits for it,
            a short time at most. Who lists a directory begins to read then, and need not come to us if it waits.
        """
        self._push_listed()
        inode = self._table.get(number)
        if self._max_bytes and inode is not None and isinstance(inode.node, DirectoryNode):
            self._came_to(inode.node.digest.raw)
            self._listed = (inode.node.digest, first, end)
        return self._until_pushed(self._pushing) if first == end and self._pushing is not None else None

    async def _until_pushed(self, pushing: asyncio.Task[None]) -> None:
        await asyncio.wait([pushing], timeout=_MAX_WAIT_S)

    def _push_listed(self) -> None:
        """Push what is in the part of a directory that was listed last. Before the next request the kernel may not
        have seen the reply to it.
        """
        if self._listed is None:
            return
        digest, first, end = self._listed
        self._listed = None
        directory = self._directories.at_hand(digest) if self._waiting else None
        if directory is not None:
            for node in self._entries.nodes(directory)[first:end]:
                if isinstance(node, FileNode) and node.digest.raw in self._waiting:
                    self._push_soon(node)

    def _came_to(self, raw: bytes) -> None:
        for reader in [reader for reader in self._readers if raw in reader.signs]:
            self._n_in_vain = self._habits_of(reader.started_in).n_in_vain = 0
            self._readers.remove(reader)
            reader.signs = set()
            if not reader.walk.is_at_end:
                self._readers.append(reader)
                self._advance(reader)

    def _missed(self, inode: Inode, node: FileNode) -> None:
        """Take whoever reads a file for somebody who reads on, if it looks like that."""
        place = self._table.get(inode.place)
        if place is None or not isinstance(place.node, DirectoryNode):
            return
        directory = self._directories.at_hand(place.node.digest)
        position = None if directory is None else self._entries.position(directory, node)
        if directory is None or position is None:
            return
        nodes = self._entries.nodes(directory)
        habits = self._habits_of(place.number)
        is_sure = habits.note_missed(nodes, position)
        if not place.was_listed and not is_sure:
            return
        n_directories = self._note_place(place)
        if any(reader.is_fetching and reader.started_in == place.number for reader in self._readers):
            return
        if is_sure or n_directories >= _DIRECTORIES_IN_A_ROW:
            self._n_in_vain = habits.n_in_vain = 0
        if habits.n_in_vain >= _MAX_IN_VAIN or self._n_in_vain >= _MAX_IN_VAIN_IN_ALL:
            if habits.n_missed >= max(_GROUP_FILES, len(nodes) * _MUCH_OF_A_DIRECTORY):
                self._start(partial(self._fetch_files, self._group(nodes, position)))
            return
        walk = Walk(self._table, self._directories, self._entries, place, position + 1)
        reader = _Reader(walk, place.number, crosses=n_directories > 1)
        self._readers.append(reader)
        self._advance(reader)

    def _group(self, nodes: Sequence[Node], position: int) -> Sequence[FileNode]:
        """The small files around a file that are not in place."""
        first = position // _GROUP_FILES * _GROUP_FILES
        left = min(_GROUP_BYTES, self._max_bytes)
        group: list[FileNode] = []
        for node in nodes[first : first + _GROUP_FILES]:
            if isinstance(node, FileNode) and 0 < node.size <= left and not self._is_in_place(node):
                group.append(node)
                left -= node.size
        return group

    def _note_place(self, place: Inode) -> int:
        """Note for the directories around that somebody reads in this one; how many were gone through in turn."""
        n_directories = 0
        while (outer := self._table.get(place.place)) is not None and outer.number != ROOT and outer.was_listed:
            n_directories = max(n_directories, self._habits_of(outer.number).note_child(place.name))
            place = outer
        return n_directories

    def _habits_of(self, number: int) -> _Habits:
        habits = self._habits.get(number)
        if habits is None:
            habits = self._habits[number] = _Habits()
            if len(self._habits) > _MAX_DIRECTORIES:
                self._habits.popitem(last=False)
        return habits

    def _advance(self, reader: _Reader) -> None:
        reader.is_fetching = True
        reader.max_files = min(max(reader.max_files * _GROWTH, _FIRST_FILES), BATCH_COUNT)
        reader.max_bytes = min(max(reader.max_bytes * _GROWTH, _FIRST_BYTES), self._max_bytes)
        self._start(partial(self._fetch_next, reader))

    def _start(self, fetch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(_quietly(fetch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch_next(self, reader: _Reader) -> None:
        """Fetch the next batch for somebody."""
        try:
            max_file_bytes = min(MAX_FILE_BYTES, self._max_bytes)
            stretch = await reader.walk.take(reader.max_files, reader.max_bytes, max_file_bytes, reader.crosses)
            files = self._set_signs(reader, stretch)
            if files:
                self._n_in_vain += 1
                self._habits_of(reader.started_in).n_in_vain += 1
            await self._fetch_files(files)
        finally:
            reader.is_fetching = False

    async def _fetch_files(self, files: Sequence[FileNode]) -> None:
        """Fetch files, and push them where the kernel knows them."""
        await self._contents.fetch_small(files)
        for node in files:
            self._waiting[node.digest.raw] = None
            self._push_soon(node)
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popitem(last=False)
        if self._pushing is not None:
            await asyncio.wait([self._pushing])

    def _set_signs(self, reader: _Reader, stretch: Stretch) -> Sequence[FileNode]:
        """Choose what shows that a reader is in the middle of a stretch; the files in it that are to be fetched.

        If another reader has been here already, there are none of both, and this one is followed no more.
        """
        half = len(stretch.files) // 2
        wanted: dict[bytes, FileNode] = {}
        held_back: bytes | None = None
        for position, node in enumerate(stretch.files):
            if node.digest.raw not in wanted and not self._is_in_place(node):
                wanted[node.digest.raw] = node
                if position <= half or held_back is None:
                    held_back = node.digest.raw
        if wanted or not stretch.files:
            reader.signs = {raw for raw, n_before in stretch.directories if n_before >= half}
        if held_back is not None:
            reader.signs.add(held_back)
        return list(wanted.values())

    def _is_in_place(self, node: FileNode) -> bool:
        """Whether the kernel has a file, or need not wait for it."""
        if self._contents.is_under_way(node.digest) or self._contents.at_hand(node.digest) is not None:
            return True
        return any(inode.node == node and inode.number in self._pushed for inode in self._table.find_file(node.digest))

    def _push_soon(self, node: FileNode) -> None:
        if self._push is None or any(node.digest.raw in reader.signs for reader in self._readers):
            return
        self._to_push.extend((inode.number, node) for inode in self._table.find_file(node.digest) if inode.node == node)
        if self._to_push and self._pushing is None:
            self._pushing = asyncio.get_running_loop().create_task(self._push_all(self._push))

    async def _push_all(self, push: Push) -> None:
        try:
            while self._to_push:
                # Looked up only now: the cache has the bound, and a file that was read meanwhile is not pushed.
                batch = [
                    (number, node.digest, data)
                    for number, node in islice(self._to_push, _PUSH_AT_ONCE)
                    if node.digest.raw in self._waiting
                    and (data := self._contents.at_hand(node.digest)) is not None
                    and len(data) == node.size  # the kernel would take a longer one for the file's new length
                ]
                for _ in range(min(_PUSH_AT_ONCE, len(self._to_push))):
                    self._to_push.popleft()
                taken = await asyncio.to_thread(_push_batch, push, batch)
                for (number, digest, _), is_taken in zip(batch, taken, strict=True):
                    if is_taken:
                        self._note_pushed(number, digest)
        finally:
            self._pushing = None

    def _note_pushed(self, number: int, digest: B3Digest) -> None:
        self.n_pushed += 1
        self._waiting.pop(digest.raw, None)
        self._contents.drop(digest)
        self._pushed[number] = None
        if len(self._pushed) > _MAX_PUSHED:
            self._pushed.popitem(last=False)

    async def aclose(self) -> None:
        """Fetch and push nothing any more."""
        self._max_bytes = 0
        self._push = None
        self._to_push.clear()
        for task in self._tasks:
            task.cancel()
        tasks = [*self._tasks, *([] if self._pushing is None else [self._pushing])]  # a thread cannot be cancelled
        if tasks:
            await asyncio.wait(tasks)


async def _quietly(fetch: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Fetch something that nobody has asked for: whoever asks for it will be told if it cannot be had."""
    try:
        await fetch()
    except StoreError as exc:
        logger.debug("nothing is fetched ahead: %s", exc)
    except Exception:
        logger.exception("fetching ahead failed")


def _is_small_file(node: Node | None) -> bool:
    return isinstance(node, FileNode) and 0 < node.size <= MAX_FILE_BYTES


def _push_batch(push: Push, batch: Iterable[tuple[int, B3Digest, bytes]]) -> list[bool]:
    return [push(number, data) for number, _, data in batch]
