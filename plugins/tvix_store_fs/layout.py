"""The folder of a store: which files there are, what is recorded in it, and the locks that processes hold."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from tvix_store.chunking import AVERAGE_CHUNK_BYTES, Chunker
from tvix_store.errors import ConfigError, Unavailable

__all__ = ["Layout", "Parameters"]

_FORMAT = 1
_DATABASE_HEADER_BYTES = 100


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a store was made with, which stays.

    Args:
        avg_chunk_size: What large blobs are cut into on average, in bytes.
    """

    avg_chunk_size: int


class Layout:
    """The files of the store at ``path``, an absolute path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.packs = os.path.join(path, "packs")
        self.index = os.path.join(path, "index.sqlite")
        self.uploads = os.path.join(path, "upload")
        self._store = os.path.join(path, "store.json")
        self._opening = os.path.join(path, "opening.lock")
        self._users = os.path.join(path, "users.lock")

    def create(self) -> None:
        """Make the folders, where there are none.

        Raises:
            ConfigError: There is no place for them.
        """
        try:
            _make_folder(self.packs)
        except OSError as exc:
            raise ConfigError(f"{self.path}: the folder of the store cannot be made: {exc.strerror}") from exc
        for folder in (self.path, self.packs):
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise ConfigError(f"{folder}: the folder of the store is not readable and writable")

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Within it, no other process opens the store."""
        descriptor = self._open_lock(self._opening)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def use(self) -> int:
        """Say that this process uses the store until it closes the descriptor returned. Within ``opening`` only."""
        descriptor = self._open_lock(self._users)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def is_used(self) -> bool:
        """Whether any process uses the store, this one included. Within ``opening`` only."""
        descriptor = self._open_lock(self._users)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _open_lock(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise Unavailable(f"{path}: {exc.strerror}") from exc

    def parameters(self, avg_chunk_size: int | None) -> Parameters:
        """What the store was made with; if it is new, what it is made with. Within ``opening`` only.

        Args:
            avg_chunk_size: What is wanted; ``None`` if anything will do.

        Raises:
            ConfigError: It was made with something else, or by a newer version, or what is recorded is damaged.
        """
        try:
            with open(self._store, encoding="utf-8") as file:
                recorded = json.load(file)
            version = int(recorded["format"])
            average = int(recorded["avg_chunk_size"])
            Chunker(average)  # nothing else says which averages there are
        except FileNotFoundError:
            parameters = Parameters(AVERAGE_CHUNK_BYTES if avg_chunk_size is None else avg_chunk_size)
            self._record(parameters)
            return parameters
        except OSError as exc:
            raise Unavailable(f"{self._store}: {exc.strerror}") from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise ConfigError(
                f'{self._store}: is damaged; it should read {{"format": {_FORMAT}, "avg_chunk_size": NUMBER}}'
            ) from exc
        if version != _FORMAT:
            raise ConfigError(f"{self._store}: the store has format {version}, this program knows format {_FORMAT}")
        if avg_chunk_size not in (None, average):
            raise ConfigError(
                f"{self._store}: the store was made with avg_chunk_size = {average}, not {avg_chunk_size}; "
                "chunks of different averages would not be shared"
            )
        return Parameters(average)

    def _record(self, parameters: Parameters) -> None:
        new = f"{self._store}.new"
        try:
            with open(new, "w", encoding="utf-8") as file:
                json.dump({"format": _FORMAT, "avg_chunk_size": parameters.avg_chunk_size}, file)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._store)
            _sync_names(self.path)
        except OSError as exc:
            raise Unavailable(f"{self._store}: {exc.strerror}") from exc

    def set_index_aside(self) -> str:
        """Rename the index, which is damaged, in place of one that was set aside before; its new name."""
        self.drop_log()
        aside = f"{self.index}.damaged"
        os.replace(self.index, aside)
        return aside

    def drop_log(self) -> None:
        """Remove the index's write-ahead log: without the index it belongs to nothing."""
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.index + suffix)

    def has_index(self) -> bool:
        """Whether there is a file of that name."""
        return os.path.exists(self.index)

    def is_index(self, application_id: int) -> bool:
        """Whether the file says of itself that it is the database of an index."""
        try:
            with open(self.index, "rb") as file:
                header = file.read(_DATABASE_HEADER_BYTES)
        except OSError as exc:
            raise Unavailable(f"{self.index}: {exc.strerror}") from exc
        return header.startswith(b"SQLite format 3\0") and header[68:72] == application_id.to_bytes(4)

    def ask_for_new_index(self) -> None:
        """Have the index made anew by whoever next opens the store when nobody uses it."""
        try:
            with open(f"{self.index}.distrusted", "w", encoding="utf-8"):
                pass
        except OSError as exc:
            raise Unavailable(f"{self.index}.distrusted: {exc.strerror}") from exc

    def is_new_index_asked_for(self) -> bool:
        """Whether that was asked for."""
        return os.path.exists(f"{self.index}.distrusted")

    def forget_request_for_new_index(self) -> None:
        """The damaged one has been set aside."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.index}.distrusted")

    def size(self) -> int:
        """Bytes of all files of the store, as their lengths."""
        total = 0
        for directory in (self.path, self.packs):
            with os.scandir(directory) as entries:
                total += sum(entry.stat().st_size for entry in entries if entry.is_file(follow_symlinks=False))
        return total


def _make_folder(path: str) -> None:
    """Make it and those above it, so that they survive power loss together with what is put in them."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_folder(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    _sync_names(parent)


def _sync_names(path: str) -> None:
    """Return when it survives power loss what is in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
