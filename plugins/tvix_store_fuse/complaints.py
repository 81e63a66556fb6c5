"""What goes wrong with requests, in the log: told, but not a thousand times a second when the store is gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from tvix_store.errors import StoreError

__all__ = ["Complaints"]

logger = logging.getLogger(__name__)

_INTERVAL_S = 1.0


@dataclass(slots=True)
class _Kind:
    """Failures of one kind.

    Args:
        told_at: When a line was written last.
        n_left_out: How many there were since.
    """

    told_at: float
    n_left_out: int = 0


class Complaints:
    """Writes at most one line a second for each class of exceptions, with the number of those that it left out.

    Args:
        name: What the requests are made to.
        clock: Seconds since whenever.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._kinds: dict[type[Exception], _Kind] = {}

    def failed(self, exc: Exception, opcode: int) -> None:
        """A request has failed. What is no StoreError is a bug, and is told with its traceback."""
        now = self._clock()
        kind = self._kinds.get(type(exc))
        if kind is not None and now - kind.told_at < _INTERVAL_S:
            kind.n_left_out += 1
            return
        left_out = "" if kind is None else _left_out(kind)
        self._kinds[type(exc)] = _Kind(now)
        if isinstance(exc, StoreError):
            logger.warning("%s: %s%s", self._name, exc, left_out)
        else:
            logger.error("%s: request %d failed%s", self._name, opcode, left_out, exc_info=exc)

    def tell_rest(self) -> None:
        """Say how many were left out since the last line; for the end."""
        for class_, kind in self._kinds.items():
            if kind.n_left_out:
                logger.warning("%s: %s%s", self._name, class_.__name__, _left_out(kind))
                kind.n_left_out = 0


def _left_out(kind: _Kind) -> str:
    return f" (and {kind.n_left_out} more of the kind)" if kind.n_left_out else ""
