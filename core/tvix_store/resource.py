"""What everything that must be closed has in common, and the loop behind default batch methods."""

from __future__ import annotations

import asyncio
from abc import ABC
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from tvix_store.limits import CONCURRENCY

__all__ = ["AsyncResource", "cancel_all", "map_bounded", "task_group"]

T = TypeVar("T")
R = TypeVar("R")


class AsyncResource(ABC):  # noqa: B024 - closing has a default: nothing to close
    """Something that is closed when done with; ``async with`` closes it."""

    async def aclose(self) -> None:  # noqa: B027 - see above
        """Close it. Safe to call twice; afterwards no other method may be called.

        Whatever is held is released even when this raises.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises the first failure as it is, since callers tell errors apart by their class."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from first.__cause__


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with."""
    ending = list(tasks)  # they may leave the set that they are in
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)


async def map_bounded(
    function: Callable[[T], Awaitable[R]], items: Sequence[T], concurrency: int = CONCURRENCY
) -> list[R]:
    """Results of ``function`` for each of ``items``, in their order, at most ``concurrency`` at once.

    The first failure cancels the rest and is raised as it is.
    """
    if len(items) == 1:
        return [await function(items[0])]
    results: list[R | None] = [None] * len(items)
    pending = iter(enumerate(items))

    async def work() -> None:
        for index, item in pending:
            results[index] = await function(item)

    async with task_group() as group:
        for _ in range(min(concurrency, len(items))):
            group.create_task(work())
    return results  # type: ignore[return-value]  # every slot is filled once all workers have ended
