"""Pieces of files in memory: a cache bounded by bytes, and those that are being fetched, each of them once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias

from tvix_store.errors import StoreError, Unavailable
from tvix_store.resource import AsyncResource, cancel_all
from tvix_store_fuse.lru import Lru

__all__ = ["ENTRY_BYTES", "Deliver", "Key", "Outcome", "Pieces"]

Key: TypeAlias = bytes | tuple[bytes, int, int]
"""The raw digest of a small blob or of a chunk; or, for a piece of a blob that is not split, the blob's raw digest,
its length in bytes, and the index of the piece."""

Outcome: TypeAlias = bytes | StoreError | None
"""A piece, what is wrong with it, or ``None`` if it is absent."""

Deliver: TypeAlias = Callable[[Key, Outcome], None]

ENTRY_BYTES = 256
"""What it takes to keep a piece, beside its bytes; else a cache full of tiny files would have no bound."""

_CLOSED = "the filesystem was closed while it was read"


class Pieces(AsyncResource):
    """Pieces by key: at hand, or under way. A failure is told to all who wait for the piece, and not remembered.

    Args:
        max_bytes: How much is kept, counting `ENTRY_BYTES` for each piece; one that is longer is kept alone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._cache: Lru[Key, bytes] = Lru(max_bytes)
        self._under_way: dict[Key, asyncio.Future[bytes | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.get = self._cache.get  # one call less, for what is asked with every read

    @property
    def n_bytes(self) -> int:
        """What is kept, in bytes."""
        return self._cache.weight

    def is_under_way(self, key: Key) -> bool:
        """Whether the piece is being fetched."""
        return key in self._under_way

    def drop(self, key: Key) -> None:
        """Forget a piece. One that is under way goes on, and is kept when it is there."""
        self._cache.drop(key)

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Those neither at hand nor under way. Those at hand count as used."""
        return [key for key in keys if self.get(key) is None and key not in self._under_way]

    def start(self, keys: Sequence[Key], load: Callable[[Deliver], Coroutine[Any, Any, None]]) -> None:
        """Have pieces fetched. It goes on whether somebody waits for them or not.

        Args:
            keys: From ``missing``, each of them once.
            load: Calls what it is given with each key, once, when it knows. What it raises, all others get.

        Raises:
            Unavailable: This is closed.
        """
        if self._closed:
            raise Unavailable(_CLOSED)
        loop = asyncio.get_running_loop()
        waited_for = {key: loop.create_future() for key in keys}
        self._under_way.update(waited_for)

        def settle(key: Key, outcome: bytes | BaseException | None) -> None:
            future = waited_for.pop(key)
            del self._under_way[key]
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
                future.exception()  # nobody may be left to look at it
                return
            if outcome is not None:
                self._cache.put(key, outcome, len(outcome) + ENTRY_BYTES)
            future.set_result(outcome)

        def landed(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            failure = Unavailable(_CLOSED) if task.cancelled() else task.exception()
            for key in list(waited_for):
                settle(key, failure or RuntimeError("a piece was neither found nor missed"))

        task = loop.create_task(load(settle))
        self._tasks.add(task)
        task.add_done_callback(landed)

    async def outcomes(self, keys: Iterable[Key]) -> dict[Key, Outcome]:
        """What becomes of pieces that are at hand or under way. To be cancelled leaves the fetching to others."""
        # Taken before anything is waited for, and from the futures: the cache may be too small for all of them.
        found: dict[Key, Outcome] = {}
        waited_for: dict[Key, asyncio.Future[bytes | None]] = {}
        for key in keys:
            future = self._under_way.get(key)
            if future is None:
                found[key] = self.get(key)
            else:
                waited_for[key] = future
        if waited_for:
            await asyncio.wait(waited_for.values())
        for key, future in waited_for.items():
            failure = future.exception()
            if failure is None:
                found[key] = future.result()
            elif isinstance(failure, StoreError):
                found[key] = failure
            else:
                raise failure
        return found

    async def wait(self, keys: Iterable[Key]) -> dict[Key, bytes | None]:
        """The same, if all goes well; ``None`` for what is absent.

        Raises:
            StoreError: What went wrong with one of them.
        """
        found: dict[Key, bytes | None] = {}
        for key, outcome in (await self.outcomes(keys)).items():
            if isinstance(outcome, StoreError):
                raise outcome
            found[key] = outcome
        return found

    async def aclose(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        self._closed = True
        await cancel_all(self._tasks)
        self._cache.clear()
