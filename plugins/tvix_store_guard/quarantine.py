"""Where it is written down what was found to be corrupt."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Quarantine"]

logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Quarantine:
    """A directory with a line of JSON for each finding, in ``corrupt.jsonl``; older ones are in ``corrupt.jsonl.1``.

    What cannot be written down is logged: it is no reason to fail the call that found it.

    Args:
        entry: Whose findings they are.
        directory: Is made when there is something to write.
        max_bytes: How long the newer file gets; then it takes the place of the older.
        now: The time, with its zone.
    """

    def __init__(self, entry: str, directory: str, max_bytes: int, now: Callable[[], datetime] = _now) -> None:
        self._entry = entry
        self._file = Path(directory, "corrupt.jsonl")
        self._max_bytes = max_bytes
        self._now = now
        self._lock = threading.Lock()

    async def note(self, kind: str, digest: str | None, reason: str) -> None:
        """Write a finding down.

        Args:
            kind: ``blob``, ``directory``, ``path info`` and the like.
            digest: Of the object, as text; ``None`` if it is not known which one of a batch it is.
            reason: What is wrong with it.
        """
        time = self._now().isoformat(timespec="milliseconds")
        finding = {"time": time, "entry": self._entry, "kind": kind, "digest": digest, "reason": reason}
        line = json.dumps(finding).encode() + b"\n"
        try:
            await asyncio.to_thread(self._append, line)
        except OSError as exc:
            logger.warning("%s: what is corrupt cannot be written to %s: %s", self._entry, self._file, exc)

    def _append(self, line: bytes) -> None:
        with self._lock:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._file.exists() and self._file.stat().st_size + len(line) > self._max_bytes:
                os.replace(self._file, self._file.with_name(self._file.name + ".1"))
            with self._file.open("ab", buffering=0) as file:  # one write, so that lines of others are not cut
                file.write(line)
