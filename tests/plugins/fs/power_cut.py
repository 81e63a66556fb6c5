"""What a power cut may leave of a store: a model of a disk that keeps what was synced and any part of the rest.

Packs and the other files that Python writes are followed call by call. SQLite writes its files by itself, so they are
copied as they are at the cut; of the log, any part that was not synced is lost.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from plugins.fs.watched_os import watching
from tvix_store.sqlite import database

_BLOCK_BYTES = 4096


class Disk:
    """Follows what is written below ``root``, and makes what a power cut would leave of it.

    Args:
        root: What is there already survives.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls = 0
        self.after_call: Callable[[], None] = lambda: None
        self._lock = threading.RLock()
        self._index_log = root / "blobs" / "index.sqlite-wal"
        self._index_log_synced = 0
        self._synced: dict[int, bytes] = {}  # contents, by inode
        self._names: dict[int, set[str]] = {}  # of what is in a directory, by its inode
        self._removed: dict[Path, bytes] = {}  # files whose removal is not synced
        for path in (root, *root.rglob("*")):
            self._note_synced(path)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Within it, what pack stores do is followed. It is not synced, so it must not be used for anything else."""
        transaction = database.Database._transaction

        def followed(writer: database.Database, jobs: Sequence[Any]) -> Any:
            outcomes = transaction(writer, jobs)
            if any(job.durable for job in jobs):
                with self._lock:
                    self._index_log_synced = self._index_log.stat().st_size
            return outcomes

        setattr(database.Database, "_transaction", followed)  # noqa: B010
        try:
            with watching(self._carry_out):
                yield
        finally:
            setattr(database.Database, "_transaction", transaction)  # noqa: B010

    def _carry_out(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "open":
            return call(*arguments)
        with self._lock:
            self.calls += 1
            if name in ("fdatasync", "fsync"):
                result = None
                self._note_synced(Path(os.readlink(f"/proc/self/fd/{arguments[0]}")))
            else:
                if name == "unlink":
                    self._note_removed(Path(arguments[0]))
                result = call(*arguments)
            self.after_call()
        return result

    def _note_removed(self, path: Path) -> None:
        if path.exists():
            self._removed[path] = path.read_bytes()
            self._synced.pop(path.stat().st_ino, None)  # another file may get this inode

    def _note_synced(self, path: Path) -> None:
        if path.is_dir():
            self._names[path.stat().st_ino] = set(os.listdir(path))
            self._removed = {removed: data for removed, data in self._removed.items() if removed.parent != path}
        elif path.exists() and not _is_of_sqlite(path):
            self._synced[path.stat().st_ino] = path.read_bytes()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Within it, packs do not change."""
        with self._lock:
            yield

    def cut(self, target: Path, chance: random.Random) -> None:
        """Make ``target`` what a power cut at this instant may leave of the root; ``chance`` decides."""
        with self._lock:
            self._cut_directory(self.root, target, chance)

    def _cut_directory(self, source: Path, target: Path, chance: random.Random) -> None:
        target.mkdir()
        synced = self._names.get(source.stat().st_ino, set())
        for path in sorted(source.iterdir()):
            if path.name.startswith("upload-"):  # a lock, which may go at any time, and says nothing after a restart
                continue
            if path.name not in synced and not _is_of_sqlite(path) and chance.random() < 0.5:
                continue
            if path.is_dir():
                self._cut_directory(path, target / path.name, chance)
            elif not _is_of_sqlite(path):
                (target / path.name).write_bytes(self._torn(path, chance))
            elif not path.name.endswith("-shm"):  # which is made anew
                shutil.copyfile(path, target / path.name)
                if path == self._index_log:
                    self._shorten_log(target / path.name, chance)
        for path, data in self._removed.items():
            if path.parent == source and chance.random() < 0.5:
                (target / path.name).write_bytes(data)

    def _torn(self, path: Path, chance: random.Random) -> bytes:
        """What is left of a file: of what was not synced any blocks, and any length."""
        now = path.read_bytes()
        synced = self._synced.get(path.stat().st_ino, b"")
        size = chance.choice([len(synced), len(now), chance.randint(*sorted((len(synced), len(now))))])
        data = bytearray((now + synced[len(now) :])[:size])
        part = chance.choice([0.0, 0.5, 1.0])
        for start in range(0, size, _BLOCK_BYTES):
            end = min(start + _BLOCK_BYTES, size)
            old = synced[start:end].ljust(end - start, b"\0")
            if data[start:end] != old and chance.random() >= part:
                data[start:end] = old
        return bytes(data)

    def _shorten_log(self, path: Path, chance: random.Random) -> None:
        """Cut off any part that was not synced, which takes away the last transactions."""
        size = path.stat().st_size
        end = chance.choice([size, chance.randint(min(size, self._index_log_synced), size)])
        with path.open("r+b") as file:
            file.truncate(end)
            file.truncate(chance.choice([end, size]))


class Surely(random.Random):
    """Has no chance in it.

    Args:
        loses_packs: Whether of what was not synced nothing survives in packs and everything in the index, or the
            other way round.
    """

    def __init__(self, *, loses_packs: bool) -> None:
        super().__init__(0)
        self._loses_packs = loses_packs

    def random(self) -> float:
        return 0.99

    def choice(self, seq: Any) -> Any:
        return seq[0 if self._loses_packs else -1]

    def randint(self, a: int, b: int) -> int:
        return a


def _is_of_sqlite(path: Path) -> bool:
    return ".sqlite" in path.name


def empty_log(path: Path) -> None:
    """Bring what is in the log of a database, which was read from the disk, to the database itself."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
