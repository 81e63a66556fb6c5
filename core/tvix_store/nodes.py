"""What a tree is made of: names, the three kinds of node, and the Directory with its canonical encoding.

Source: the castore data model and ``castore.proto`` of tvix and snix; the encoding is proto3 with the choices
that make it canonical (ascending fields, defaults omitted, entries sorted by name, no unknown fields).
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import NoReturn, Self

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

_NO_NAMES = (b"", b".", b"..")


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
    if len(name) <= MAX_NAME_BYTES and name not in _NO_NAMES and b"\0" not in name and b"/" not in name:
        return
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
        if not 0 <= self.size <= U64_MAX:
            raise InvalidObject(f"invalid size: {self.size} does not fit 64 bits")


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
        if not 0 <= self.size <= U64_MAX:
            raise InvalidObject(f"invalid size: {self.size} does not fit 64 bits")


@dataclass(frozen=True, slots=True)
class SymlinkNode:
    """A symbolic link to ``target``, any bytes that ``validate_target`` accepts."""

    target: bytes

    def __post_init__(self) -> None:
        validate_target(self.target)


Node = FileNode | DirectoryNode | SymlinkNode


_ONE_BYTE = tuple(bytes((n,)) for n in range(0x80))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:  # most sizes of files
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: bytes, data: bytes) -> bytes:
    return b"%b%b%b" % (tag, _varint(len(data)), data) if data else b""


def _sized(tag: bytes, name: bytes, node: FileNode | DirectoryNode, end: bytes = b"") -> bytes:
    """A file or directory entry: fields 1 to 3 and ``end``; names and digests are never empty here."""
    size = b"\x18" + _varint(node.size) if node.size else b""
    name_bytes = _varint(len(name))
    n_bytes = len(name_bytes) + len(name) + len(size) + len(end) + 35  # with two tags, and digest with its length
    return b"".join((tag, _varint(n_bytes), b"\x0a", name_bytes, name, b"\x12\x20", node.digest.raw, size, end))


def _all_names_valid(names: Collection[bytes]) -> bool:
    """``validate_name`` for all at once, at a fifth of the time."""
    together = b"/".join(names)
    return not names or (
        together.count(b"/") == len(names) - 1
        and b"\0" not in together
        and not any(name in names for name in _NO_NAMES)
        and max(map(len, names)) <= MAX_NAME_BYTES
    )


def _refuse_names(names: Iterable[bytes]) -> NoReturn:
    """Say which of the names, in ascending order, is bad or repeated."""
    previous: bytes | None = None
    for name in names:
        validate_name(name)
        if name == previous:
            break
        previous = name
    raise InvalidObject(f"{quote(name)} is a duplicate name")


# Trees have many entries, so those that are known to be valid are made without the detour through dataclass __init__,
# which takes four times as long.
_new = object.__new__
_set_raw = B3Digest.raw.__set__  # type: ignore[misc,attr-defined]
_set_digest = FileNode.digest.__set__  # type: ignore[misc,attr-defined]
_set_size = FileNode.size.__set__  # type: ignore[misc,attr-defined]
_set_executable = FileNode.executable.__set__  # type: ignore[misc,attr-defined]


def _decode_entries(data: bytes) -> tuple[dict[bytes, Node], int] | None:
    """What a canonical encoding holds, in ascending order of the names, and the sum of the sizes of its directories.

    ``None`` if it is no canonical encoding.

    Raises:
        IndexError: It ends within an entry; not always noticed so.
    """
    entries: dict[bytes, Node] = {}
    n_entries = n_kinds = last_kind = total = position = 0
    end = len(data)
    previous = b""
    while position < end:
        kind = data[position]
        if kind != last_kind:
            if kind not in (0x0A, 0x12, 0x1A) or kind < last_kind:
                return None
            n_kinds += 1
            last_kind, previous = kind, b""
        length = data[position + 1]
        position += 2
        if length >= 0x80:
            length, position = _long_varint(data, position - 1)
        stop = position + length
        name_size = data[position + 1]
        if data[position] != 0x0A or stop > end:
            return None
        position += 2
        if name_size >= 0x80:
            name_size, position = _long_varint(data, position - 1)
            if name_size > MAX_NAME_BYTES:
                return None
        name = data[position : position + name_size]
        if name <= previous:
            return None
        previous = name
        position += name_size
        if kind == 0x1A:
            target, position = _decode_target(data, position)
            if target is None:
                return None
            entries[name] = SymlinkNode(target)
        else:
            if data[position] != 0x12 or data[position + 1] != 0x20:
                return None
            digest = _new(B3Digest)
            position += 34
            _set_raw(digest, data[position - 32 : position])
            size = 0
            executable = False
            if position < stop and data[position] == 0x18:
                size = data[position + 1]
                position += 2
                if size >= 0x80:
                    size, position = _long_varint(data, position - 1)
                elif not size:
                    return None
            if kind == 0x12:
                if position < stop and data[position] == 0x20:
                    if data[position + 1] != 1:
                        return None
                    executable = True
                    position += 2
                node = _new(FileNode)
                _set_digest(node, digest)
                _set_size(node, size)
                _set_executable(node, executable)
                entries[name] = node
            else:
                entries[name] = DirectoryNode(digest, size)
                total += size
        if position != stop:
            return None
        n_entries += 1
    if len(entries) < n_entries or n_entries + total > U64_MAX or not _all_names_valid(entries):
        return None
    return {name: entries[name] for name in sorted(entries)} if n_kinds > 1 else entries, total


def _long_varint(data: bytes, position: int) -> tuple[int, int]:
    """A canonical varint of two bytes or more, and where it ends.

    Raises:
        IndexError: It is cut off, has more bytes than it needs, or does not fit 64 bits.
    """
    value = shift = 0
    while (byte := data[position]) >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    value |= byte << shift
    if not byte or value > U64_MAX:
        raise IndexError
    return value, position + 1


def _decode_target(data: bytes, position: int) -> tuple[bytes | None, int]:
    """The target of a symlink, and where it ends; ``None`` if it is not valid."""
    if data[position] != 0x12:
        return None, position
    size = data[position + 1]
    position += 2
    if size >= 0x80:
        size, position = _long_varint(data, position - 1)
    target = data[position : position + size]
    is_valid = 0 < len(target) <= MAX_TARGET_BYTES and b"\0" not in target
    return (target if is_valid else None), position + size


class Directory:
    """The entries of one directory, valid and in canonical form.

    Args:
        entries: Names and nodes, in any order.

    Raises:
        InvalidObject: A bad or repeated name, or a total size that does not fit 64 bits.
    """

    __slots__ = ("_digest", "_encoded", "_entries", "_size_of_directories")

    def __init__(self, entries: Mapping[bytes, Node] | Iterable[tuple[bytes, Node]] = ()) -> None:
        pairs = sorted(entries.items() if isinstance(entries, Mapping) else entries, key=itemgetter(0))
        self._entries: dict[bytes, Node] = dict(pairs)
        if len(self._entries) < len(pairs) or not _all_names_valid(self._entries):
            _refuse_names(name for name, _ in pairs)
        self._size_of_directories = sum(node.size for _, node in self.directories())
        if len(pairs) + self._size_of_directories > U64_MAX:
            raise InvalidObject("total size exceeds 64 bits")
        self._encoded: bytes | None = None
        self._digest: B3Digest | None = None

    @classmethod
    def decode_canonical(cls, encoded: bytes) -> Self | None:
        """The directory that ``encode`` would turn into exactly these bytes; ``None`` if there is none.

        What else a message may be, and what is wrong with it, ``wire.decode_directory`` tells.
        """
        try:
            decoded = _decode_entries(encoded)
        except IndexError:  # it ends too soon
            decoded = None
        if decoded is None:
            return None
        directory = cls.__new__(cls)
        directory._entries, directory._size_of_directories = decoded
        directory._encoded = encoded
        directory._digest = None
        return directory

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
        return 2 * len(self._entries) + self._size_of_directories

    @property
    def documented_size(self) -> int:
        """The size as ``castore.proto`` documents it: the number of entries at any depth.

        Accepted wherever ``size`` is, never generated.
        """
        return len(self._entries) + self._size_of_directories

    def encode(self) -> bytes:
        """The canonical protobuf encoding, whose BLAKE3 is ``digest``; empty for an empty directory."""
        if self._encoded is None:
            directories: list[bytes] = []
            files: list[bytes] = []
            symlinks: list[bytes] = []
            for name, node in self._entries.items():
                match node:
                    case FileNode():
                        files.append(_sized(b"\x12", name, node, b"\x20\x01" if node.executable else b""))
                    case DirectoryNode():
                        directories.append(_sized(b"\x0a", name, node))
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
