"""Putting objects into replicas that lack them, in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Generic, TypeVar

from tvix_store.errors import CorruptObject, StoreError
from tvix_store.resource import AsyncResource

__all__ = ["REPAIR_BATCH_COUNT", "Repairs", "lacked_by", "mended_from"]

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")

REPAIR_BATCH_COUNT = 64
_MAX_WAITING = 65_536  # digests for each replica, a few MiB; what is more is noticed again when it is read again


class Repairs(AsyncResource, Generic[K]):
    """The objects that replicas lack, which one task puts there batch by batch.

    Only digests wait. What a repair puts is read afresh, and never while a put or delete of the same object is under
    way, so that it cannot bring back what was deleted or replaced. Failures are logged and counted, and not repeated.

    Args:
        name: Of the entry, for messages.
        n_members: How many replicas there are.
        mend: Puts what others have of some objects into the member at this position; how many it put.

    Attributes:
        repaired: How many objects were put.
        failed: How many could not be.
        dropped: How many there was no room to wait for.
    """

    def __init__(self, name: str, n_members: int, mend: Callable[[int, Sequence[K]], Awaitable[int]]) -> None:
        self._name = name
        self._mend = mend
        self._waiting: list[dict[K, None]] = [{} for _ in range(n_members)]
        self._held: set[K] = set()
        self._now: frozenset[K] = frozenset()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._failing: set[int] = set()  # told of in the log
        self.repaired = self.failed = self.dropped = 0

    def notice(self, key: K, lacking: Iterable[int]) -> None:
        """Have an object put into these members, as soon as may be."""
        if self._closed or key in self._held:
            return
        for member in lacking:
            waiting = self._waiting[member]
            if len(waiting) < _MAX_WAITING:
                waiting[key] = None
            else:
                self.dropped += 1
        if self._task is None and any(self._waiting):
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while any(self._waiting):
                for member, waiting in enumerate(self._waiting):
                    await self._batch(member, waiting)
        finally:
            self._task = None

    async def _batch(self, member: int, waiting: dict[K, None]) -> None:
        keys = list(islice(waiting, REPAIR_BATCH_COUNT))
        if not keys:
            return
        for key in keys:
            del waiting[key]
        self._now = frozenset(keys)
        try:
            self.repaired += await self._mend(member, keys)
            self._failing.discard(member)
        except StoreError as exc:
            self.failed += len(keys) + len(waiting)
            waiting.clear()
            if member not in self._failing:  # once is enough while it is down
                self._failing.add(member)
                logger.warning("%s: replica %d could not be repaired: %s", self._name, member, exc)
        except Exception:
            logger.exception("%s: replica %d could not be repaired", self._name, member)
        finally:
            self._now = frozenset()
            self._tell()

    @asynccontextmanager
    async def kept_off(self, keys: Iterable[K]) -> AsyncIterator[None]:
        """Nothing else that says so, and no repair, touches ``keys`` meanwhile; waits for what does."""
        keys = frozenset(keys)
        while not (self._held.isdisjoint(keys) and self._now.isdisjoint(keys)):
            await self._changed.wait()
        self._held |= keys
        try:
            for waiting in self._waiting:
                for key in keys & waiting.keys():
                    del waiting[key]
            yield
        finally:
            self._held -= keys
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def settle(self) -> None:
        """Wait until nothing is left to repair."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Give up what is under way; nothing of it is visible."""
        self._closed = True
        if self._task is not None:
            task = self._task
            task.cancel()
            await asyncio.wait([task])


async def lacked_by(
    keys: Sequence[K], get_many: Callable[[Sequence[K]], Awaitable[Sequence[object | None]]]
) -> Sequence[K]:
    """Those of ``keys`` that a replica does not have, or has had to forget because it was corrupt."""
    try:
        answers = await get_many(keys)
    except CorruptObject:  # one of them
        if len(keys) == 1:
            return keys
        half = len(keys) // 2
        return [*await lacked_by(keys[:half], get_many), *await lacked_by(keys[half:], get_many)]
    return [key for key, answer in zip(keys, answers, strict=True) if answer is None]


async def mended_from(
    sources: Sequence[S], lacking: Collection[K], copy: Callable[[S, Sequence[K]], Awaitable[Collection[K]]]
) -> int:
    """Copy objects from whoever has them.

    Args:
        sources: Asked in their order for what is left.
        lacking: The objects.
        copy: Copies what a source has of some; which those were.

    Returns:
        How many were copied. Those that no source has are no error: they were deleted since.

    Raises:
        StoreError: Some are left, and a source failed.
    """
    left = list(lacking)
    failure: StoreError | None = None
    for source in sources:
        if not left:
            break
        try:
            copied = await copy(source, left)
        except StoreError as exc:
            failure = failure or exc
            continue
        left = [key for key in left if key not in copied]
    if left and failure is not None:
        raise failure
    return len(lacking) - len(left)
