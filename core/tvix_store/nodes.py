"""What a tree is made of: names, the three kinds of node, and the Directory with its canonical encoding.

Source: the castore data model and ``castore.proto`` of tvix and snix; the encoding is proto3 with the choices
that make it canonical (ascending fields, defaults omitted, entries sorted by name, no unknown fields).
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject
from tvix_store.limits import U64_MAX

__all__ = [
    "MAX_NAME_BYTES",
    "MAX_TARGET_BYTES",
    "Directory",
    "DirectoryNode",
    "FileNode",
    "Node",
    "SymlinkNode",
    "quote",
    "validate_name",
    "validate_target",
]

MAX_NAME_BYTES = 255
MAX_TARGET_BYTES = 4095


def quote(name: bytes, limit: int = 80) -> str:
    """A name or target for a message: quoted, one line, shortened to about ``limit`` characters."""
    text = name[:limit].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return f'"{text}"' if len(name) <= limit else f'"{text}"... ({len(name)} bytes)'


def validate_name(name: bytes) -> None:
    """Check a path component.

    Args:
        name: Any bytes; need not be UTF-8.

    Raises:
        InvalidObject: Empty, ``..``, ``.``, over 255 bytes, or with a NUL or a slash.
    """
    if not name:
        raise InvalidObject("invalid name: empty")
    if name == b"..":
        raise InvalidObject('invalid name: ".." is the parent directory')
    if name == b".":
        raise InvalidObject('invalid name: "." is the current directory')
    if len(name) > MAX_NAME_BYTES:
        raise InvalidObject(f"invalid name: {quote(name)} is too long, at most {MAX_NAME_BYTES} bytes")
    if b"\0" in name:
        raise InvalidObject(f"invalid name: {quote(name)} contains a null byte")
    if b"/" in name:
        raise InvalidObject(f"invalid name: {quote(name)} contains a slash")


def validate_target(target: bytes) -> None:
    """Check a symlink target.

    Raises:
        InvalidObject: Empty, over 4095 bytes, or with a NUL.
    """
    if not target:
        raise InvalidObject("invalid symlink target: empty")
    if len(target) > MAX_TARGET_BYTES:
        raise InvalidObject(f"invalid symlink target: too long, {len(target)} bytes, at most {MAX_TARGET_BYTES}")
    if b"\0" in target:
        raise InvalidObject(f"invalid symlink target: {quote(target)} contains a null byte")


def _validate_size(size: int) -> None:
    if not 0 <= size <= U64_MAX:
        raise InvalidObject(f"invalid size: {size} does not fit 64 bits")


@dataclass(frozen=True, slots=True)
class FileNode:
    """A regular file.

    Args:
        digest: Of the contents.
        size: Length of the contents in bytes.
        executable: The owner's execute bit, the only mode bit kept.
    """

    digest: B3Digest
    size: int
    executable: bool = False

    def __post_init__(self) -> None:
        _validate_size(self.size)


@dataclass(frozen=True, slots=True)
class DirectoryNode:
    """A directory.

    Args:
        digest: Of the ``Directory`` message.
        size: What ``Directory.size`` or ``Directory.documented_size`` gives; a hint, not to be relied on.
    """

    digest: B3Digest
    size: int

    def __post_init__(self) -> None:
        _validate_size(self.size)


@dataclass(frozen=True, slots=True)
class SymlinkNode:
    """A symbolic link to ``target``, any bytes that ``validate_target`` accepts."""

    target: bytes

    def __post_init__(self) -> None:
        validate_target(self.target)


Node = FileNode | DirectoryNode | SymlinkNode


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: bytes, data: bytes) -> bytes:
    return b"%b%b%b" % (tag, _varint(len(data)), data) if data else b""


def _sized(name: bytes, node: FileNode | DirectoryNode) -> bytes:
    """Fields 1 to 3 of a file or directory entry; names and digests are never empty here."""
    size = b"\x18" + _varint(node.size) if node.size else b""
    return b"\x0a%b%b\x12\x20%b%b" % (_varint(len(name)), name, node.digest.raw, size)


class Directory:
    """The entries of one directory, valid and in canonical form.

    Args:
        entries: Names and nodes, in any order.

    Raises:
        InvalidObject: A bad or repeated name, or a total size that does not fit 64 bits.
    """

    __slots__ = ("_digest", "_encoded", "_entries")

    def __init__(self, entries: Mapping[bytes, Node] | Iterable[tuple[bytes, Node]] = ()) -> None:
        pairs = sorted(entries.items() if isinstance(entries, Mapping) else entries, key=lambda pair: pair[0])
        total = 0
        previous: bytes | None = None
        for name, node in pairs:
            validate_name(name)
            if name == previous:
                raise InvalidObject(f"{quote(name)} is a duplicate name")
            previous = name
            total += 1 + node.size if isinstance(node, DirectoryNode) else 1
            if total > U64_MAX:
                raise InvalidObject(f"total size exceeds 64 bits at entry {quote(name)}")
        self._entries: dict[bytes, Node] = dict(pairs)
        self._encoded: bytes | None = None
        self._digest: B3Digest | None = None

    @property
    def entries(self) -> Mapping[bytes, Node]:
        """Name to node, in ascending byte order of the names."""
        return MappingProxyType(self._entries)

    def items(self) -> ItemsView[bytes, Node]:
        """Names and nodes in ascending byte order of the names."""
        return self._entries.items()

    def directories(self) -> Iterator[tuple[bytes, DirectoryNode]]:
        """The entries that are directories, in ascending order of their names."""
        return ((name, node) for name, node in self._entries.items() if isinstance(node, DirectoryNode))

    def get(self, name: bytes) -> Node | None:
        """The node called ``name``, or ``None``."""
        return self._entries.get(name)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, Directory) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Directory({self.digest}, {len(self)} entries)"

    @property
    def size(self) -> int:
        """What a reference to this directory carries: twice the entries, plus the sizes of its directories.

        So today's tvix and snix compute it, and a directory's digest depends on it.
        """
        return 2 * len(self._entries) + self._size_of_directories()

    @property
    def documented_size(self) -> int:
        """The size as ``castore.proto`` documents it: the number of entries at any depth.

        Accepted wherever ``size`` is, never generated.
        """
        return len(self._entries) + self._size_of_directories()

    def _size_of_directories(self) -> int:
        return sum(node.size for _, node in self.directories())

    def encode(self) -> bytes:
        """The canonical protobuf encoding, whose BLAKE3 is ``digest``; empty for an empty directory."""
        if self._encoded is None:
            directories: list[bytes] = []
            files: list[bytes] = []
            symlinks: list[bytes] = []
            for name, node in self._entries.items():
                match node:
                    case FileNode():
                        files.append(_field(b"\x12", _sized(name, node) + (b"\x20\x01" if node.executable else b"")))
                    case DirectoryNode():
                        directories.append(_field(b"\x0a", _sized(name, node)))
                    case SymlinkNode():
                        symlinks.append(_field(b"\x1a", _field(b"\x0a", name) + _field(b"\x12", node.target)))
            self._encoded = b"".join((*directories, *files, *symlinks))
        return self._encoded

    @property
    def digest(self) -> B3Digest:
        """BLAKE3 of the canonical encoding."""
        if self._digest is None:
            self._digest = B3Digest.of(self.encode())
        return self._digest

    def node(self) -> DirectoryNode:
        """The node that refers to this directory."""
        return DirectoryNode(self.digest, self.size)
