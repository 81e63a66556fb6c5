"""Uploading one closure to one or two sides of a cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject, StoreError, Unavailable
from tvix_store.nodes import Directory
from tvix_store.resource import task_group
from tvix_store_cache.remembered import Remembered

__all__ = ["SidesPutter"]


class SidesPutter(DirectoryPutter):
    """Uploads to its sides at the same time, and finishes them one after the other: none has what an earlier refused.

    What fails once has failed for good.

    Args:
        name: Of the cache.
        putters: In the order in which they are finished; closed with this.
        absent: Forgets everything.
    """

    def __init__(self, name: str, putters: Sequence[DirectoryPutter], absent: Remembered) -> None:
        self._name = name
        self._putters = putters
        self._absent = absent
        self._failure: StoreError | None = None
        self._root: B3Digest | None = None

    @classmethod
    async def start(cls, name: str, sides: Sequence[DirectoryService], absent: Remembered) -> Self:
        """Start the closure at each side."""
        async with AsyncExitStack() as stack:
            putters = [await stack.enter_async_context(await side.put_multiple_start()) for side in sides]
            stack.pop_all()
        return cls(name, putters, absent)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        self._begin()
        try:
            if len(self._putters) == 1:
                await self._putters[0].put_many(directories)
            else:
                async with task_group() as group:
                    for putter in self._putters:
                        group.create_task(putter.put_many(directories))
        except StoreError as exc:
            self._failure = exc
            raise
        self._failure = None

    def _begin(self) -> None:
        """Go on, unless something failed; what is cancelled has failed, too.

        Raises:
            StoreError: What did.
        """
        if self._failure is not None:
            raise self._failure
        self._failure = Unavailable(f"{self._name}: the upload of directories was interrupted")

    async def close(self) -> B3Digest:
        if self._root is not None:
            return self._root
        self._begin()
        try:
            roots = [await putter.close() for putter in self._putters]
            if any(root != roots[0] for root in roots):
                raise CorruptObject(
                    f"{self._name}: the sides have different directories", expected=str(roots[0]), actual=str(roots[-1])
                )
        except StoreError as exc:
            self._failure = exc
            raise
        finally:
            self._absent.clear()  # there may have been many
        self._failure = None
        self._root = roots[0]
        return self._root

    async def aclose(self) -> None:
        async with AsyncExitStack() as stack:
            for putter in self._putters:
                stack.push_async_callback(putter.aclose)
