"""What verification finds, how it tells how far it is, and the loop behind the default ``verify`` methods."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

__all__ = ["Damage", "VerifyProgress", "no_progress", "verify_in_batches"]

T = TypeVar("T")

_BATCHES_UNDER_WAY = 4


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in a store that is not as it should be.

    Args:
        kind: ``blob``, ``chunk``, ``directory``, ``path info``, ``index`` or ``pack``.
        digest: Of the object, as text: as ``str(B3Digest)`` has it, or the 40 hex digits of a path info's digest.
            ``None`` if it cannot be told.
        location: Where it is stored, such as ``pack 00000003.pack at 123456``; ``None`` if there is nothing to say.
        reason: What is wrong with it, on one line.
    """

    kind: str
    digest: str | None
    location: str | None
    reason: str

    def __str__(self) -> str:
        what = self.kind if self.digest is None else f"{self.kind} {self.digest}"
        where = "" if self.location is None else f" ({self.location})"
        return " ".join(f"{what}{where}: {self.reason}".split())


class VerifyProgress(Protocol):
    """Is told how far a verification is."""

    def __call__(self, done: int, total: int | None) -> None:
        """Called from the event loop, now and then.

        Args:
            done: What has been checked so far: bytes of content for blobs, objects for directories and path infos.
            total: How much there is, in the same unit, as far as is known; ``None`` if it is not.
        """


def no_progress(done: int, total: int | None) -> None:
    """A ``VerifyProgress`` for those who do not want to know."""


async def verify_in_batches(
    items: AsyncIterator[T],
    check: Callable[[Sequence[T]], Awaitable[tuple[Sequence[Damage], int]]],
    progress: VerifyProgress,
    *,
    batch_count: int,
    total: int | None = None,
) -> AsyncIterator[Damage]:
    """Check what a service lists, several batches at the same time.

    Args:
        items: What to check.
        check: Given at most ``batch_count`` of them, says what is wrong and how much was checked.
        progress: Told after each batch.
        batch_count: How many make a batch.
        total: For ``progress``.

    Raises:
        StoreError: Of ``items`` or ``check``; the batches under way are given up.
    """
    done = 0
    under_way: deque[asyncio.Future[tuple[Sequence[Damage], int]]] = deque()
    batch: list[T] = []
    try:
        async for item in items:
            batch.append(item)
            if len(batch) < batch_count:
                continue
            under_way.append(asyncio.ensure_future(check(batch)))
            batch = []
            if len(under_way) == _BATCHES_UNDER_WAY:
                damages, checked = await under_way.popleft()
                progress(done := done + checked, total)
                for damage in damages:
                    yield damage
        if batch:
            under_way.append(asyncio.ensure_future(check(batch)))
        while under_way:
            damages, checked = await under_way.popleft()
            progress(done := done + checked, total)
            for damage in damages:
                yield damage
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
