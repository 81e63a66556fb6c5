"""The FUSE protocol over the filesystem: from the bytes of a request to those of the reply, whatever carries them."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine
from inspect import iscoroutine
from typing import Any

from tvix_store.limits import MIB
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store_fuse.complaints import Complaints
from tvix_store_fuse.filesystem import Absent, Attributes, Entry, Listing, StoreFilesystem
from tvix_store_fuse.messages import (
    ATTR,
    ATTR_OUT,
    COUNT_IN,
    DIRENT,
    ENTRY_OUT,
    FORGET_ONE,
    HEADER_IN,
    INIT_IN,
    INIT_OUT,
    MINOR,
    READ_IN,
    STATFS_OUT,
    UNANSWERED,
    UNIQUE_IN,
    WRITING,
    XATTR_IN,
    XATTR_OUT,
    Flags,
    Header,
    Opcode,
    Reply,
    error_reply,
    lifetime,
    reply,
)

__all__ = ["MAX_REQUEST_BYTES", "Protocol"]

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 64 * 1024
"""Longest request: nothing is written, so they are short. The kernel wants to see room for 8 KiB at least."""

_MAX_WRITE_BYTES = 4096
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MAX_READ_BYTES = 1 * MIB
_BLOCK_BYTES = 512
_WANTED = (
    Flags.ASYNC_READ
    | Flags.EXPORT_SUPPORT
    | Flags.AUTO_INVAL_DATA  # so that the listing of the root is read anew when its time has changed
    | Flags.DO_READDIRPLUS
    | Flags.NO_OPEN_SUPPORT
    | Flags.PARALLEL_DIROPS
    | Flags.MAX_PAGES
    | Flags.CACHE_SYMLINKS
    | Flags.NO_OPENDIR_SUPPORT
)
_UNKNOWN_INODE = 0xFFFFFFFF
_NO_LOOKUP = bytes(ENTRY_OUT.size + ATTR.size)

_N_DOTS = 2
_LEAST_BYTES: dict[int, int] = {
    Opcode.FORGET: UNIQUE_IN.size,
    Opcode.BATCH_FORGET: COUNT_IN.size,
    Opcode.READ: READ_IN.size,
    Opcode.READDIR: READ_IN.size,
    Opcode.READDIRPLUS: READ_IN.size,
    Opcode.INIT: INIT_IN.size,
    Opcode.GETXATTR: XATTR_IN.size,
    Opcode.LISTXATTR: XATTR_IN.size,
}

Handler = Callable[[Header, bytes], Reply | Coroutine[Any, Any, Reply] | None]
Window = Callable[[Header, Listing, int, int], Reply | Coroutine[Any, Any, Reply]]
Lists = Callable[[int, int, int], Coroutine[Any, Any, None] | None]


class Protocol:
    """Answers requests.

    Args:
        name: Of the mount, for messages.
        filesystem: What is asked about.
        uid: Who owns everything in it.
        gid: And which group.
        reads: Called with the inode before a file is read.
        lists: Called with the inode of a directory, and from where to where its entries are about to be listed: at the
            end of it, from there to there. What it returns then is waited for before the reply.
    """

    def __init__(
        self,
        name: str,
        filesystem: StoreFilesystem,
        *,
        uid: int = 0,
        gid: int = 0,
        reads: Callable[[int], None] | None = None,
        lists: Lists | None = None,
    ) -> None:
        self._name = name
        self._filesystem = filesystem
        self._uid, self._gid = uid, gid
        self._reads = reads
        self._lists = lists
        self.is_initialised = False
        self.complaints = Complaints(name)
        self._handlers: dict[int, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.GETATTR: self._getattr,
            Opcode.READLINK: self._readlink,
            Opcode.READ: self._read,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.STATFS: self._statfs,
            Opcode.INIT: self._init,
            Opcode.DESTROY: lambda header, body: reply(header.unique),
        }
        if filesystem.shows_xattr:
            self._handlers[Opcode.GETXATTR] = self._getxattr
            self._handlers[Opcode.LISTXATTR] = self._listxattr
        # Everything else is ENOSYS, OPEN and OPENDIR among them: the kernel does without from then on. That would be
        # right for OPEN even if it were slower: what is opened does not change, and nothing has to be kept for it.

    def answer(self, header: Header, request: bytes) -> Reply | Coroutine[Any, Any, Reply] | None:
        """The answer to a request, or a coroutine that yields it; ``None``: nobody waits for one.

        Neither raises anything, but the coroutine when it is cancelled.
        """
        handler = self._handlers.get(header.opcode)
        if handler is None:
            return _refusal(header, errno.EROFS if header.opcode in WRITING else errno.ENOSYS)
        body = request[HEADER_IN.size :]
        if len(body) < _LEAST_BYTES.get(header.opcode, 0):
            logger.error("%s: a request was cut off: %d", self._name, header.opcode)
            return _refusal(header, errno.EINVAL)
        try:
            answer = handler(header, body)
        except Exception as exc:
            failed = self._failed(header, exc)
            return None if header.opcode in UNANSWERED else failed
        return self._later(header, answer) if iscoroutine(answer) else answer

    async def _later(self, header: Header, answer: Awaitable[Reply]) -> Reply:
        try:
            return await answer
        except Exception as exc:
            return self._failed(header, exc)

    def _failed(self, header: Header, exc: Exception) -> Reply:
        """The errno for an exception. What is wrong with the store is EIO, and is told in the log only."""
        # No failure says that something is not there: what is not there is no exception.
        if isinstance(exc, OSError) and exc.errno and exc.errno != errno.ENOENT:
            return error_reply(header.unique, exc.errno)
        self.complaints.failed(exc, header.opcode)
        return error_reply(header.unique, errno.EIO)

    def _init(self, header: Header, body: bytes) -> Reply:
        major, minor, max_readahead, offered = INIT_IN.unpack_from(body)
        if major != 7 or minor < MINOR:
            logger.error("%s: the kernel speaks FUSE %d.%d, 7.%d is needed", self._name, major, minor, MINOR)
            return error_reply(header.unique, errno.EPROTO)
        self.is_initialised = True
        init = INIT_OUT.pack(
            7,
            MINOR,
            max_readahead,
            offered & _WANTED,
            0,  # max_background: the kernel's own
            0,
            _MAX_WRITE_BYTES,
            1,
            _MAX_READ_BYTES // _PAGE_BYTES,
            0,
            0,
            0,
        )
        return reply(header.unique, [init])

    def _lookup(self, header: Header, body: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        found = self._filesystem.lookup(header.node, body.rstrip(b"\0"))
        if iscoroutine(found):
            return self._looked_up_later(header, found)
        assert isinstance(found, Entry | Absent)
        return self._looked_up(header, found)

    async def _looked_up_later(self, header: Header, found: Awaitable[Entry | Absent]) -> Reply:
        return self._looked_up(header, await found)

    def _looked_up(self, header: Header, found: Entry | Absent) -> Reply:
        if isinstance(found, Entry):
            return reply(header.unique, [self._entry(found)])
        if not found.valid_s:
            return error_reply(header.unique, errno.ENOENT)
        seconds, ns = lifetime(found.valid_s)
        return reply(header.unique, [ENTRY_OUT.pack(0, 0, seconds, 0, ns, 0) + bytes(ATTR.size)])

    def _entry(self, entry: Entry) -> bytes:
        attributes = entry.attributes
        seconds, ns = lifetime(entry.valid_s)
        attr_seconds, attr_ns = lifetime(self._filesystem.attributes_valid_s(attributes.inode))
        return ENTRY_OUT.pack(attributes.inode, 0, seconds, attr_seconds, ns, attr_ns) + self._attr(attributes)

    def _attr(self, attributes: Attributes) -> bytes:
        mtime = attributes.mtime_s
        size = attributes.size
        blocks = 0 if stat.S_ISDIR(attributes.mode) else -(-size // _BLOCK_BYTES)
        return ATTR.pack(
            attributes.inode,
            size,
            blocks,
            mtime,
            mtime,
            mtime,
            0,
            0,
            0,
            attributes.mode,
            attributes.n_links,
            self._uid,
            self._gid,
            0,
            _PAGE_BYTES,
            0,
        )

    def _forget(self, header: Header, body: bytes) -> None:
        self._filesystem.forget(header.node, UNIQUE_IN.unpack_from(body)[0])

    def _batch_forget(self, header: Header, body: bytes) -> None:
        count, _ = COUNT_IN.unpack_from(body)
        count = min(count, (len(body) - COUNT_IN.size) // FORGET_ONE.size)
        for node, n_lookups in FORGET_ONE.iter_unpack(body[COUNT_IN.size :][: count * FORGET_ONE.size]):
            self._filesystem.forget(node, n_lookups)

    def _getattr(self, header: Header, body: bytes) -> Reply:
        attributes = self._filesystem.attributes(header.node)
        seconds, ns = lifetime(self._filesystem.attributes_valid_s(header.node))
        return reply(header.unique, [ATTR_OUT.pack(seconds, ns, 0), self._attr(attributes)])

    def _readlink(self, header: Header, body: bytes) -> Reply:
        return reply(header.unique, [self._filesystem.read_link(header.node)])

    def _read(self, header: Header, body: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        _, offset, size, *_ = READ_IN.unpack_from(body)
        size = min(size, _MAX_READ_BYTES)
        if self._reads is not None:
            self._reads(header.node)
        pieces = self._filesystem.read(header.node, offset, size)
        if iscoroutine(pieces):
            return self._read_later(header, pieces)
        return reply(header.unique, pieces)  # type: ignore[arg-type]

    async def _read_later(self, header: Header, pieces: Awaitable[Reply]) -> Reply:
        return reply(header.unique, await pieces)

    def _readdir(self, header: Header, body: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        return self._list(header, body, self._window)

    def _readdirplus(self, header: Header, body: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        return self._list(header, body, self._window_plus)

    def _list(self, header: Header, body: bytes, window: Window) -> Reply | Coroutine[Any, Any, Reply]:
        _, position, size, *_ = READ_IN.unpack_from(body)
        size = min(size, _MAX_READ_BYTES)
        listing = self._filesystem.listing(header.node, anew=position == 0)
        if iscoroutine(listing):
            return self._list_later(header, listing, position, size, window)
        assert isinstance(listing, Listing)
        return window(header, listing, position, size)

    async def _list_later(
        self, header: Header, listing: Awaitable[Listing], position: int, size: int, window: Window
    ) -> Reply:
        made = window(header, await listing, position, size)
        return await made if iscoroutine(made) else made  # type: ignore[return-value]

    # A listing has positions of its own; before them come "." and "..". A position in a message is that of the next.

    def _window(self, header: Header, listing: Listing, position: int, size: int) -> Reply:
        entries = _Window(size, b"")
        for dot in range(position, _N_DOTS):
            inode = self._dot_inode(header.node, dot)
            entries.add(b"", inode, dot + 1, b"." * (dot + 1), stat.S_IFDIR)
        for index in range(max(0, position - _N_DOTS), len(listing)):
            name = listing.name(index)
            if not name:
                continue
            if not entries.has_room(name):
                break
            entries.add(b"", _UNKNOWN_INODE, index + _N_DOTS + 1, name, _kind(listing.node(index)))
        return entries.reply(header.unique)

    def _window_plus(
        self, header: Header, listing: Listing, position: int, size: int
    ) -> Reply | Coroutine[Any, Any, Reply]:
        entries = _Window(size, _NO_LOOKUP)
        for dot in range(position, _N_DOTS):
            inode = self._dot_inode(header.node, dot)
            entries.add(_NO_LOOKUP, inode, dot + 1, b"." * (dot + 1), stat.S_IFDIR)
        enter = self._filesystem.enter
        n_listed = len(listing)
        first = index = min(max(0, position - _N_DOTS), n_listed)
        while index < n_listed:
            name = listing.name(index)
            if name:
                if not entries.has_room(name):
                    break
                # From here on it counts as looked up, so it has to be in the reply.
                entry = enter(header.node, name, listing.node(index))
                attributes = entry.attributes
                entries.add(self._entry(entry), attributes.inode, index + _N_DOTS + 1, name, attributes.mode)
            index += 1
        made = entries.reply(header.unique)
        waiting = None if self._lists is None else self._lists(header.node, first, index)
        # Only what enters nothing may wait: it can be interrupted, and then the kernel does not know what was entered.
        return made if waiting is None else self._reply_after(waiting, made)

    async def _reply_after(self, waiting: Awaitable[None], made: Reply) -> Reply:
        await waiting
        return made

    def _dot_inode(self, node: int, dot: int) -> int:
        inode = self._filesystem.inodes.get(node)
        return node if not dot or inode is None else inode.place

    def _statfs(self, header: Header, body: bytes) -> Reply:
        return reply(header.unique, [STATFS_OUT.pack(0, 0, 0, 0, 0, _PAGE_BYTES, 255, _PAGE_BYTES, 0)])

    def _getxattr(self, header: Header, body: bytes) -> Reply:
        size, _ = XATTR_IN.unpack_from(body)
        value = self._filesystem.xattr(header.node, body[XATTR_IN.size :].rstrip(b"\0"))
        if value is None:
            return error_reply(header.unique, errno.ENODATA)
        return _sized(header, size, value)

    def _listxattr(self, header: Header, body: bytes) -> Reply:
        size, _ = XATTR_IN.unpack_from(body)
        names = self._filesystem.xattr_names(header.node)
        return _sized(header, size, b"".join(name + b"\0" for name in names))


def _refusal(header: Header, number: int) -> Reply | None:
    return None if header.opcode in UNANSWERED else error_reply(header.unique, number)


def _sized(header: Header, size: int, value: bytes) -> Reply:
    """A value that has to fit into ``size`` bytes; for 0, how many it has."""
    if not size:
        return reply(header.unique, [XATTR_OUT.pack(len(value), 0)])
    if len(value) > size:
        return error_reply(header.unique, errno.ERANGE)
    return reply(header.unique, [value])


def _kind(node: Node) -> int:
    match node:
        case FileNode():
            return stat.S_IFREG
        case DirectoryNode():
            return stat.S_IFDIR
        case SymlinkNode():
            return stat.S_IFLNK


class _Window:
    """The part of a listing that goes into one reply.

    Args:
        n_bytes: How long it may get.
        before: As much as comes before each entry.
    """

    def __init__(self, n_bytes: int, before: bytes) -> None:
        self._left = n_bytes
        self._fixed = len(before) + DIRENT.size
        self._pieces: list[bytes] = []
        self._is_full = False

    def has_room(self, name: bytes) -> bool:
        """Whether an entry of this name finds room. Once one does not, it is full."""
        n_bytes = self._fixed + len(name)
        self._is_full = self._is_full or n_bytes + -n_bytes % 8 > self._left
        return not self._is_full

    def add(self, before: bytes, inode: int, following: int, name: bytes, mode: int) -> None:
        """Append an entry, if there is room."""
        if self.has_room(name):
            padding = bytes(-(self._fixed + len(name)) % 8)
            self._pieces.append(before + DIRENT.pack(inode, following, len(name), mode >> 12) + name + padding)
            self._left -= len(self._pieces[-1])

    def reply(self, unique: int) -> Reply:
        """The reply. An empty one would say that the directory has no more entries; EINVAL if it has."""
        if self._is_full and not self._pieces:
            return error_reply(unique, errno.EINVAL)
        return reply(unique, [b"".join(self._pieces)])
