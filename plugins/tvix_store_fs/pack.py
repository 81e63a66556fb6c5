"""The files that frames are appended to: opening, locking, reading by position, and walking through one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from tvix_store.errors import ConfigError, CorruptObject, OutOfSpace, StoreError, Unavailable
from tvix_store.limits import MIB
from tvix_store_fs import frame

__all__ = ["PACK_HEADER_BYTES", "OpenPack", "PackGone", "Packs", "ScannedFrame", "WritablePack", "translated"]

_HEADER = struct.Struct("<8sII")
_PACK_MAGIC = b"tvixpack"
_PACK_VERSION = 1
PACK_HEADER_BYTES = _HEADER.size
_NAME = re.compile(r"([0-9]{8,})\.pack")
_MAX_OPEN = 128
_SCAN_BYTES = 4 * MIB

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PackGone(Exception):
    """The pack has been removed, since what was alive in it is elsewhere by now: look again."""


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Within it, what the system reports of ``path`` is raised as an error of ours."""
    try:
        yield
    except OSError as exc:
        kind: type[StoreError] = OutOfSpace if exc.errno in _NO_SPACE else Unavailable
        raise kind(f"{path}: {exc.strerror}") from exc


def _read_exactly(descriptor: int, n_bytes: int, position: int) -> bytes:
    """``n_bytes`` from ``position``, fewer at the end of the file."""
    data = os.pread(descriptor, n_bytes, position)
    while len(data) < n_bytes and (more := os.pread(descriptor, n_bytes - len(data), position + len(data))):
        data += more
    return data


class OpenPack:
    """A pack opened for reading; closed with the last reference to it, so that no reader loses it midway."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, n_bytes: int, position: int) -> bytes:
        """``n_bytes`` from ``position``, fewer at the end of the file."""
        with translated(self.path):
            return _read_exactly(self._descriptor, n_bytes, position)

    def size(self) -> int:
        """Length of the file."""
        return os.fstat(self._descriptor).st_size

    def sync(self) -> None:
        """Return when what has been written of it survives power loss."""
        with translated(self.path):
            os.fdatasync(self._descriptor)

    def is_removed(self) -> bool:
        """Whether the file has no name any more."""
        return os.fstat(self._descriptor).st_nlink == 0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class WritablePack:
    """A pack that is locked, so that nobody else appends to it, cuts it or removes it."""

    def __init__(self, number: int, path: str, descriptor: int) -> None:
        self.number = number
        self.path = path
        self._descriptor = descriptor
        self.end = os.fstat(descriptor).st_size
        self.unsynced_bytes = 0

    def append(self, parts: Sequence[bytes]) -> int:
        """Append ``parts``; where they begin. The space for all of them is reserved first.

        Raises:
            OutOfSpace: Nothing is appended.
            Unavailable: Nothing is appended.
        """
        n_bytes = sum(map(len, parts))
        start = position = self.end
        self.unsynced_bytes += n_bytes
        with translated(self.path):
            try:
                os.posix_fallocate(self._descriptor, start, n_bytes)
                for group in _groups(parts):
                    position += _write(self._descriptor, group, position)
            except BaseException:
                self.end = start + n_bytes
                self.cut(start)
                raise
        self.end = position
        return start

    def cut(self, end: int) -> None:
        """Remove what is behind ``end``."""
        with translated(self.path):
            os.ftruncate(self._descriptor, end)
        self.unsynced_bytes = max(0, self.unsynced_bytes - max(0, self.end - end))
        self.end = end

    def sync(self) -> None:
        """Return when everything appended survives power loss.

        Raises:
            OutOfSpace, Unavailable: It may not.
        """
        if self.unsynced_bytes:
            with translated(self.path):
                os.fdatasync(self._descriptor)
            self.unsynced_bytes = 0

    def remove(self) -> None:
        """Remove the file."""
        with translated(self.path):
            os.unlink(self.path)

    def close(self) -> None:
        """Give up the lock."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _groups(parts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """As many as one system call takes."""
    for start in range(0, len(parts), 512):
        yield parts[start : start + 512]


def _write(descriptor: int, parts: Sequence[bytes], position: int) -> int:
    total = sum(map(len, parts))
    written = os.pwritev(descriptor, parts, position)
    if written < total:
        rest = memoryview(b"".join(parts))
        while written < total:
            written += os.pwrite(descriptor, rest[written:], position + written)
    return total


class ScannedFrame:
    """A frame found by walking through a pack.

    Args:
        position: Where it begins.
        header: What it says.
        payload: As stored.
    """

    __slots__ = ("header", "payload", "position")

    def __init__(self, position: int, header: frame.Frame, payload: bytes) -> None:
        self.position = position
        self.header = header
        self.payload = payload

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.position + self.header.size


class Packs:
    """The folder of packs.

    Args:
        directory: Is made if there is none.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._open: OrderedDict[int, OpenPack] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, number: int) -> str:
        """Of the pack with this number."""
        return os.path.join(self.directory, f"{number:08}.pack")

    def numbers(self) -> list[int]:
        """Of all packs that there are, ascending."""
        with translated(self.directory):
            names = os.listdir(self.directory)
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))

    def reader(self, number: int) -> OpenPack:
        """The pack, open for reading.

        Raises:
            PackGone: It is not there any more.
        """
        with self._lock:
            pack = self._open.get(number)
            if pack is not None and not pack.is_removed():
                self._open.move_to_end(number)
                return pack
            path = self.path(number)
            try:
                pack = OpenPack(path)
            except FileNotFoundError as exc:
                raise PackGone from exc
            except OSError as exc:
                raise Unavailable(f"{path}: {exc.strerror}") from exc
            self._open[number] = pack
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
            self._forget_removed()
            return pack

    def _forget_removed(self) -> None:
        for number in [number for number, pack in self._open.items() if pack.is_removed()]:
            del self._open[number]

    def forget_removed(self) -> None:
        """Close those that have been removed, whose space is not free before."""
        with self._lock:
            self._forget_removed()

    def forget(self) -> None:
        """Close what is open for reading."""
        with self._lock:
            self._open.clear()

    def lock(self, number: int) -> WritablePack | None:
        """The pack, locked for writing; ``None`` if it is locked by somebody else, or gone."""
        path = self.path(number)
        with translated(path):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return WritablePack(number, path, descriptor)
            except BlockingIOError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            return None

    def create(self, at_least: int, *, durable: bool) -> WritablePack:
        """A new pack, locked for writing.

        Args:
            at_least: Its number is not smaller.
            durable: Whether its name has to survive power loss.

        Raises:
            OutOfSpace: There is no room for it.
        """
        number = max([at_least, *(number + 1 for number in self.numbers()[-1:])])
        while True:
            path = self.path(number)
            with translated(path):
                try:
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                except FileExistsError:
                    number += 1
                    continue
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not os.fstat(descriptor).st_nlink:
                        raise BlockingIOError
                    os.pwrite(descriptor, _HEADER.pack(_PACK_MAGIC, _PACK_VERSION, 0), 0)
                    if durable:
                        os.fsync(descriptor)
                        self.sync_names()
                except BlockingIOError:  # somebody who looks for unfinished packs has found it before it was locked
                    os.close(descriptor)
                    number += 1
                    continue
                except BaseException:
                    os.close(descriptor)
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                    raise
            return WritablePack(number, path, descriptor)

    def sync(self, numbers: Sequence[int]) -> None:
        """Return when these packs survive power loss as far as they have been written, whoever did that."""
        for number in numbers:
            with contextlib.suppress(PackGone):
                self.reader(number).sync()

    def sync_names(self) -> None:
        """Return when it survives power loss which packs there are."""
        with translated(self.directory):
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def has_header(self, number: int) -> bool:
        """Whether the file begins as a pack does; ``False`` if it ends before.

        Raises:
            ConfigError: A newer version of this program made it.
        """
        data = self.reader(number).read(PACK_HEADER_BYTES, 0)
        if len(data) < PACK_HEADER_BYTES:
            return False
        magic, version, _ = _HEADER.unpack(data)
        if magic == _PACK_MAGIC and version != _PACK_VERSION:
            raise ConfigError(
                f"{self.path(number)}: its format has version {version}, this program knows version {_PACK_VERSION}"
            )
        return bool(magic == _PACK_MAGIC)

    def scan(self, number: int, start: int) -> Iterator[ScannedFrame]:
        """The frames from ``start`` on that are whole and undamaged; what lies between them is passed over.

        Args:
            number: Of the pack.
            start: Where a frame begins, or the file ends.
        """
        pack = self.reader(number)
        size = pack.size()
        position: int | None = start
        while position is not None and position + frame.FIXED_BYTES <= size:
            found = _frame_at(pack, position, size)
            if found is not None:
                yield found
                position = found.end
            else:
                position = _find_magic(pack, position + 1, size)


def _frame_at(pack: OpenPack, position: int, size: int) -> ScannedFrame | None:
    try:
        header_bytes = frame.header_bytes(pack.read(frame.FIXED_BYTES, position))
        if position + header_bytes > size:
            return None
        header = frame.parse_header(pack.read(header_bytes, position))
    except CorruptObject:
        return None
    if not header.is_sound() or position + header.size > size:
        return None
    payload = pack.read(header.stored_bytes, position + header_bytes)
    return ScannedFrame(position, header, payload) if header.has_payload(payload) else None


def _find_magic(pack: OpenPack, position: int, size: int) -> int | None:
    overlap = len(frame.MAGIC) - 1
    while position < size:
        found = pack.read(_SCAN_BYTES, position).find(frame.MAGIC)
        if found >= 0:
            return position + found
        position += _SCAN_BYTES - overlap
    return None
