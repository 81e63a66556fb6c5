"""When to ask again after a request has failed, and when not to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Backoff", "Trouble", "may_pass", "parse_retry_after"]

_NEVER_PASS = (501, 505, 511)  # not implemented, HTTP version, network login


class Trouble(Exception):
    """A request that failed in a way that may pass.

    Args:
        reason: For people.
        retry_after_s: How long the server wants not to be asked; ``None`` if it did not say.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


def may_pass(status: int) -> bool:
    """Whether the same request may be answered differently some seconds later."""
    return status in (408, 429) or (500 <= status < 600 and status not in _NEVER_PASS)


def parse_retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait according to a Retry-After header, a number or a date; ``None`` if it is neither.

    Source: RFC 9110, section 10.2.3.
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often to try, and how long to wait between.

    Args:
        retries: How many attempts may follow the first.
        first_s: The wait after the first failure, which doubles each time.
        longest_s: The longest wait that is our own choice.
        patience_s: The longest wait that a server may ask for.
        sleep: How to wait.
    """

    retries: int = 4
    first_s: float = 0.25
    longest_s: float = 10.0
    patience_s: float = 60.0
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def delay_s(self, failures: int, trouble: Trouble) -> float | None:
        """How long to wait after this many failures in a row; ``None`` if it is time to give up.

        Half of it is left to chance, so that clients which failed together do not come back together.
        """
        if failures > self.retries:
            return None
        asked_s = trouble.retry_after_s or 0.0
        if asked_s > self.patience_s:
            return None
        own_s = min(self.first_s * 2.0 ** (failures - 1), self.longest_s)
        return max(asked_s, own_s / 2) + random.random() * own_s / 2
