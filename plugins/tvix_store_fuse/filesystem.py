"""The store as a filesystem: names, inodes, attributes, listings and contents, without the protocol that carries them.

Everything happens in one event loop. What can be answered from memory is answered at once; anything else is a
coroutine, which the caller runs. An ordinary refusal is an ``OSError`` with its errno; a ``StoreError`` says that the
store has failed, which is never the same as that something is not there.
"""

from __future__ import annotations

import contextlib
import errno
import math
import stat
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from tvix_store.errors import StoreError
from tvix_store.frontend import Services
from tvix_store.limits import U64_MAX
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.resource import AsyncResource
from tvix_store.store_path import StorePath
from tvix_store_fuse.directories import Directories
from tvix_store_fuse.inodes import ROOT, Inode, InodeTable
from tvix_store_fuse.listings import DirectoryListing, Listing, Listings
from tvix_store_fuse.store_paths import StorePaths, parse_name
from tvix_store_fuse.xattrs import xattrs_of

__all__ = [
    "FOREVER",
    "Absent",
    "Answer",
    "Attributes",
    "Counts",
    "Entry",
    "FileContents",
    "FilesystemOptions",
    "Listing",
    "StoreFilesystem",
]

T = TypeVar("T")

Answer: TypeAlias = T | Coroutine[Any, Any, T]
"""What was asked for, or what gives it once it is awaited."""

FOREVER = math.inf
"""How long the kernel may believe what cannot change."""

MTIME_S = 1
"""As in a Nix store: 1970-01-01 00:00:01."""

MAX_SIZE = U64_MAX >> 1
"""Linux refuses an entry that states more. Only a directory's size, which is a hint, can be so large in earnest."""

_NO_XATTRS: dict[bytes, bytes] = {}


class FileContents(Protocol):
    """What reads files."""

    def read(self, node: FileNode, offset: int, size: int) -> Answer[Sequence[bytes | memoryview]]:
        """The contents from ``offset``, in pieces: ``size`` bytes, which the file has there.

        Raises:
            StoreError: They could not be had, or are not what they should be.
        """


@dataclass(frozen=True, slots=True)
class Attributes:
    """What ``stat`` shows. Each inode has one link; owner and group are not the filesystem's to say.

    Args:
        inode: The number.
        mode: With the bits of its type.
        size: Of a file, its length in bytes; of a symlink, that of its target; of a directory, what the node that
            refers to it states.
        n_links: How many names it has, as far as anybody should count on them.
        mtime_s: When it changed, in seconds since 1970. The other times are the same.
    """

    inode: int
    mode: int
    size: int
    n_links: int = 1
    mtime_s: int = MTIME_S


@dataclass(frozen=True, slots=True)
class Entry:
    """A name that was found.

    Args:
        attributes: Of what it names.
        valid_s: How long the name may be believed, in seconds.
    """

    attributes: Attributes
    valid_s: float


@dataclass(frozen=True, slots=True)
class Absent:
    """A name that there is not.

    Args:
        valid_s: How long that may be believed, in seconds; 0 for not at all.
    """

    valid_s: float


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is held.

    Args:
        n_inodes: That the kernel knows, beside the mount root.
        n_directories: That were read and need not be read again.
    """

    n_inodes: int
    n_directories: int


@dataclass(frozen=True, slots=True)
class FilesystemOptions:
    """What can be set.

    Args:
        list_root: Whether the mount root can be listed.
        show_xattr: Whether there are extended attributes.
        negative_s: How long it is believed that a store path is absent, or that the store still has it when it does
            not answer.
        path_s: How long a store path is believed to be there.
        timeout_s: How long a call on the store may take.
    """

    list_root: bool = False
    show_xattr: bool = True
    negative_s: float = 1.0
    path_s: float = 60.0
    timeout_s: float = 60.0


class StoreFilesystem(AsyncResource):
    """All store paths in one directory, the mount root, with what is below them. Nobody can write.

    Methods take the number of an inode. One that is not known, because it was never given out or was forgotten, is
    ``OSError(ESTALE)`` in all of them.

    Args:
        services: The store; not closed with this.
        contents: What reads files; not closed with this.
        options: See there.
        clock: The time of day in seconds.
    """

    def __init__(
        self,
        services: Services,
        contents: FileContents,
        options: FilesystemOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options or FilesystemOptions()
        self.inodes = InodeTable()
        self.directories = Directories(services.directories, timeout_s=self.options.timeout_s)
        self._store_paths = StorePaths(services.path_infos, self.options.timeout_s)
        self._listings = Listings()
        self._contents = contents
        self._clock = clock

    @property
    def shows_xattr(self) -> bool:
        """Whether there are extended attributes at all; if not, nobody need ask for them."""
        return self.options.show_xattr

    def counts(self) -> Counts:
        """How much is held now."""
        return Counts(len(self.inodes), len(self.directories))

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        """Find a name in a directory. What is found counts as looked up once more.

        ``.`` is the inode itself, of any kind, and ``..`` the directory it is in.

        Raises:
            OSError: ENOTDIR, ``parent`` is no directory.
            DanglingReference: The directory is absent from the store.
            StoreError: The store could not say.
        """
        inode = self._inode(parent)
        if name in (b".", b".."):
            return self._enter_again(inode if name == b"." else self._inode(inode.place))
        if inode.node is None:
            path = parse_name(name)
            return Absent(FOREVER) if path is None else self._find_store_path(path, name)
        node = _directory_node(inode)
        directory = self.directories.at_hand(node.digest)
        if directory is None:
            return self._lookup_after_reading(parent, node, name)
        return self._lookup_in(directory, parent, name)

    async def _find_store_path(self, path: StorePath, name: bytes) -> Entry | Absent:
        found = await self._store_paths.find(path)
        if found is None:
            return Absent(self.options.negative_s)
        inode = self.inodes.enter(ROOT, name, found.path_info.node, found.path_info)
        return Entry(self._attributes(inode), self.options.path_s if found.is_certain else self.options.negative_s)

    async def _lookup_after_reading(self, parent: int, node: DirectoryNode, name: bytes) -> Entry | Absent:
        return self._lookup_in(await self.directories.get(node.digest), parent, name)

    def _lookup_in(self, directory: Directory, parent: int, name: bytes) -> Entry | Absent:
        node = directory.get(name)
        return Absent(FOREVER) if node is None else self.enter(parent, name, node)

    def _enter_again(self, inode: Inode) -> Entry:
        inode.n_lookups += 1
        is_store_path = inode.place == ROOT and inode.node is not None
        return Entry(self._attributes(inode), self.options.path_s if is_store_path else FOREVER)

    def enter(self, parent: int, name: bytes, node: Node, path_info: PathInfo | None = None) -> Entry:
        """The entry of a directory that is known to have it, as a listing does. It counts as looked up once more.

        Args:
            parent: The number of the directory.
            name: The name in it.
            node: What is there.
            path_info: In the mount root, of the store path; what was listed last unless it is given.
        """
        if parent != ROOT:
            return Entry(self._attributes(self.inodes.enter(parent, name, node)), FOREVER)
        inode = self.inodes.enter(ROOT, name, node, path_info or self._store_paths.known(name))
        return Entry(self._attributes(inode), self.options.path_s)

    def forget(self, inode: int, n_lookups: int) -> None:
        """The kernel has forgotten so many lookups of an inode; all is well if it is not known."""
        self.inodes.forget(inode, n_lookups)

    def attributes(self, inode: int) -> Attributes:
        """What ``stat`` shows. Only those of the mount root change, if it can be listed."""
        return self._attributes(self._inode(inode))

    def attributes_valid_s(self, inode: int) -> float:
        """How long the attributes may be believed, in seconds."""
        return self.options.negative_s if inode == ROOT and self.options.list_root else FOREVER

    def _attributes(self, inode: Inode) -> Attributes:
        node = inode.node
        if isinstance(node, FileNode):
            mode = stat.S_IFREG | (0o555 if node.executable else 0o444)
            return Attributes(inode.number, mode, min(node.size, MAX_SIZE))
        if isinstance(node, DirectoryNode):
            return Attributes(inode.number, stat.S_IFDIR | 0o555, min(node.size, MAX_SIZE))
        if node is not None:
            return Attributes(inode.number, stat.S_IFLNK | 0o777, len(node.target))
        return Attributes(ROOT, stat.S_IFDIR | 0o555, 0, mtime_s=self._root_mtime_s())

    def _root_mtime_s(self) -> int:
        """Steps with time if the root can be listed: the kernel reads a directory anew only if it has changed."""
        if not self.options.list_root:
            return MTIME_S
        step_s = max(1, math.ceil(self.options.negative_s))
        return int(self._clock()) // step_s * step_s

    def read_link(self, inode: int) -> bytes:
        """The target of a symlink.

        Raises:
            OSError: EINVAL, it is none.
        """
        node = self._inode(inode).node
        if not isinstance(node, SymlinkNode):
            raise OSError(errno.EINVAL, f"inode {inode} is not a symlink")
        return node.target

    def read(self, inode: int, offset: int, size: int) -> Answer[Sequence[bytes | memoryview]]:
        """What a file has from ``offset``, in pieces: ``size`` bytes, or as many as are there; none past the end.

        Raises:
            OSError: EISDIR or EINVAL, it is a directory or a symlink.
            StoreError: The contents could not be had, or are not what they should be.
        """
        node = self._inode(inode).node
        if not isinstance(node, FileNode):
            if isinstance(node, SymlinkNode):
                raise OSError(errno.EINVAL, f"inode {inode} is a symlink")
            raise OSError(errno.EISDIR, f"inode {inode} is a directory")
        size = min(size, node.size - offset)
        return self._contents.read(node, offset, size) if size > 0 else ()

    def listing(self, inode: int, anew: bool = False) -> Answer[Listing]:
        """The entries of a directory, without ``.`` and ``..``.

        Args:
            inode: The number of the directory.
            anew: Whether somebody begins at its start. The mount root is read again then; nothing else changes.

        Raises:
            OSError: ENOTDIR, it is no directory; EPERM, it is the mount root, which is not to be listed.
            DanglingReference: The directory is absent from the store.
            StoreError: The store could not say, or cannot list store paths.
        """
        found = self._inode(inode)
        if found.node is None:
            if not self.options.list_root:
                raise OSError(errno.EPERM, "the mount root is not to be listed")
            found.was_listed = True
            listing = self._store_paths.listing
            return self._store_paths.list() if anew or listing is None else listing
        node = _directory_node(found)
        found.was_listed = True
        present = self._listings.at_hand(node.digest)
        if present is not None:
            return present
        directory = self.directories.at_hand(node.digest)
        return (
            self._list_after_reading(found, node) if directory is None else self._listings.make(node.digest, directory)
        )

    async def _list_after_reading(self, inode: Inode, node: DirectoryNode) -> DirectoryListing:
        parent = self.inodes.get(inode.place)
        if parent is not None and parent.was_listed and isinstance(parent.node, DirectoryNode):
            # Somebody walks through the tree, and will come to what is beside and below this directory.
            top = node if self.directories.closure_was_read(parent.node.digest) else parent.node
            with contextlib.suppress(StoreError):  # it may be about a directory that nobody wants
                await self.directories.get_closure(top.digest)
        return self._listings.make(node.digest, await self.directories.get(node.digest))

    def xattr_names(self, inode: int) -> Sequence[bytes]:
        """The names of the extended attributes; the mount root has none."""
        return tuple(self._xattrs(inode))

    def xattr(self, inode: int, name: bytes) -> bytes | None:
        """An extended attribute; ``None`` if there is none called so.

        Files and symlinks are shared by all places that have them. What they have as the root of a store path is
        that of the place where they were looked up last, and nothing if that was deeper in a store path.
        """
        if not name.startswith(b"user."):
            self._inode(inode)
            return None
        return self._xattrs(inode).get(name)

    def _xattrs(self, inode: int) -> dict[bytes, bytes]:
        found = self._inode(inode)
        return _NO_XATTRS if found.node is None else xattrs_of(found.node, found.path_info)

    def _inode(self, number: int) -> Inode:
        inode = self.inodes.get(number)
        if inode is None:
            raise OSError(errno.ESTALE, f"inode {number} is not known")
        return inode

    async def aclose(self) -> None:
        """Cancel what is under way on the store."""
        try:
            await self.directories.aclose()
        finally:
            await self._store_paths.aclose()


def _directory_node(inode: Inode) -> DirectoryNode:
    if not isinstance(inode.node, DirectoryNode):
        raise OSError(errno.ENOTDIR, f"inode {inode.number} is not a directory")
    return inode.node
