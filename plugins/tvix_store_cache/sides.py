"""What caches of all kinds have in common: where puts go, what two services can do together, failures let pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from tvix_store.capabilities import Capabilities, Durability
from tvix_store.errors import CorruptObject, StoreError, Unavailable

__all__ = ["REMEMBERED_COUNT", "CachePolicy", "NearFailures", "WriteTo", "capabilities_of", "is_lost"]

logger = logging.getLogger(__name__)

REMEMBERED_COUNT = 65_536
"""How many absent objects a cache remembers at most; about 12 MiB."""

_LOG_EVERY_S = 60.0


class WriteTo(Enum):
    """Where puts go."""

    NEAR = "near"
    FAR = "far"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What a cache does with its two sides.

    Args:
        write_to: Where puts go.
        fills: Whether what is found far is put near.
        negative_ttl_s: For how long what far lacked is not asked for again, in seconds; 0: not at all.
        skip_near_errors: Whether far answers, and near is not filled, where near is Unavailable.
    """

    write_to: WriteTo = WriteTo.NEAR
    fills: bool = True
    negative_ttl_s: float = 0.0
    skip_near_errors: bool = False


_DURABILITIES = (Durability.NONE, Durability.BATCHED, Durability.COMMIT)


def capabilities_of(near: Capabilities, far: Capabilities, write_to: WriteTo) -> Capabilities:
    """What a cache can do: it lists the side that has all that was put, and a put is as durable as where it went.

    What is far would come back if it was deleted near, and is not the cache's to delete. So where puts go far, nothing
    is deleted through it.
    """
    whole = near if write_to is WriteTo.NEAR else far
    sides = {WriteTo.NEAR: [near], WriteTo.FAR: [far], WriteTo.BOTH: [near, far]}[write_to]
    return Capabilities(
        put=all(side.put for side in sides),
        list=whole.list,
        delete=near.delete and write_to is WriteTo.NEAR,
        chunks=near.chunks or far.chunks,
        verifies=near.verifies and far.verifies,
        compact=near.compact,
        durability=max((side.durability for side in sides), key=_DURABILITIES.index),
    )


class NearFailures:
    """Tells which failures of near are let pass, and logs them, at most once a minute.

    Args:
        name: Of the entry.
        skip: Whether any are.
        clock: Seconds that only ever grow.
    """

    def __init__(self, name: str, skip: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._skip = skip
        self._clock = clock
        self._quiet_until: float | None = None

    def may_pass(self, failure: StoreError) -> bool:
        """Whether to go on without near, since it is Unavailable, which covers OutOfSpace."""
        if not self._skip or not isinstance(failure, Unavailable):
            return False
        now = self._clock()
        if self._quiet_until is None or now >= self._quiet_until:
            self._quiet_until = now + _LOG_EVERY_S
            logger.warning("%s: the near side fails, going on without it: %s", self._name, failure)
        return True

    def goes_far(self, failure: StoreError) -> bool:
        """Whether far is asked after near failed like this: what is corrupt near is taken from there again."""
        return isinstance(failure, CorruptObject) or self.may_pass(failure)


def is_lost(damage: CorruptObject, asked: Collection[str], lacking: Collection[str]) -> bool:
    """Whether what was corrupt near may be one of those that nobody has any more, so that they are no misses.

    Args:
        damage: Of the first call.
        asked: All that it was about, as text.
        lacking: Those of them that were found nowhere afterwards.
    """
    return bool(lacking) and (damage.expected in lacking or damage.expected not in asked)
