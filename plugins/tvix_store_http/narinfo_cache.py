"""Narinfos that were looked up a moment ago, as whole responses."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

__all__ = ["CachedNarinfo", "NarinfoCache"]

_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CachedNarinfo:
    """A narinfo, and until when it may be served.

    Args:
        response: Head and body of the response to GET.
        expires: On the monotonic clock.
    """

    response: bytes
    expires: float


class NarinfoCache:
    """Short-lived, because others may add signatures to a path info, or delete it, without our knowing.

    Absence is not kept: what was just put is there. Costs up to 16 MiB.

    Args:
        keep_s: How long a narinfo is served from here; 0 keeps nothing.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._cached: dict[bytes, CachedNarinfo] = {}
        self._n_bytes = 0
        self.generation = 0
        """Changes when something was forgotten: what was looked up before is not to be kept then."""

    def get(self, name: bytes) -> bytes | None:
        """The response for the narinfo of a path; ``None`` if it has to be looked up.

        Args:
            name: The hash part of the store path.
        """
        cached = self._cached.get(name)
        return cached.response if cached is not None and cached.expires > monotonic() else None

    def keep(self, name: bytes, response: bytes, generation: int) -> None:
        """Serve ``response`` from here for a moment.

        Args:
            name: The hash part of the store path.
            response: Head and body.
            generation: What ``generation`` was before the path info was looked up.
        """
        if not self._keep_s or generation != self.generation:
            return
        self._drop(name)
        now = monotonic()
        while self._cached:  # in the order in which they expire
            oldest = next(iter(self._cached))
            if self._cached[oldest].expires > now and self._n_bytes + len(response) <= _MAX_BYTES:
                break
            self._drop(oldest)
        self._cached[name] = CachedNarinfo(response, now + self._keep_s)
        self._n_bytes += len(response)

    def forget(self, name: bytes) -> None:
        """Look it up the next time."""
        self.generation += 1
        self._drop(name)

    def _drop(self, name: bytes) -> None:
        dropped = self._cached.pop(name, None)
        if dropped is not None:
            self._n_bytes -= len(dropped.response)
