"""The file, and what a line in it says."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from tvix_store.config import Kind
from tvix_store.errors import OutOfSpace, StoreError, Unavailable
from tvix_store.resource import AsyncResource

__all__ = ["Audit", "AuditLog"]

T = TypeVar("T")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class AuditLog(AsyncResource):
    """A file that lines are appended to, each by one write, so that those of several processes do not mix.

    Args:
        path: For messages.
        descriptor: The file, opened to append; closed with this.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file; it is made if there is none, for its owner alone.

        Raises:
            Unavailable: It cannot be opened.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return cls(path, await asyncio.to_thread(os.open, path, flags, 0o600))
        except OSError as exc:
            raise Unavailable(f"audit: {path}: {exc.strerror}") from exc

    async def append(self, line: bytes) -> None:
        """Add a line.

        Raises:
            OutOfSpace: There is no room for it.
            Unavailable: It cannot be written.
        """
        try:
            await asyncio.to_thread(self._append, line)
        except OSError as exc:
            kind = OutOfSpace if exc.errno in _NO_ROOM else Unavailable
            raise kind(f"audit: {self._path}: {exc.strerror}") from exc

    def _append(self, line: bytes) -> None:
        assert self._descriptor is not None
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._descriptor)

    async def aclose(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            await asyncio.to_thread(os.close, descriptor)


class Audit:
    """Writes down what one entry did.

    Args:
        log: Where to.
        entry: Its name.
        who: Whom to name; ``None`` for the user that the program runs as.
    """

    def __init__(self, log: AuditLog, entry: str, who: str | None = None) -> None:
        self._log = log
        self._entry = entry
        self._who = who if who is not None else f"uid {os.getuid()}"

    async def around(
        self, kind: Kind, method: str, objects: Sequence[object], operation: Callable[[], Awaitable[T]]
    ) -> T:
        """Do something and write it down, also if it fails.

        Args:
            kind: Of the objects.
            method: What is done.
            objects: To which; empty if what the operation returns is what it is done to.
            operation: Does it. If it is cancelled there is no line: nobody was told that anything was done.

        Returns:
            What the operation returned. The line is in the file then, and on the disk.

        Raises:
            Unavailable: It was done, but cannot be written down.
            StoreError: As the operation raised it.
        """
        try:
            result = await operation()
        except StoreError as exc:
            await self._write(kind, method, objects, str(exc))
            raise
        await self._write(kind, method, objects or [result], None)
        return result

    async def _write(self, kind: Kind, method: str, objects: Sequence[object], error: str | None) -> None:
        record = {
            "when": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": self._who,
            "pid": os.getpid(),
            "entry": self._entry,
            "kind": kind.label,
            "did": method,
            "objects": [str(item) for item in objects],
            "error": error,
        }
        await self._log.append(json.dumps(record).encode() + b"\n")
