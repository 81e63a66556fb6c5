"""Uploading one closure to one or two sides of a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject, StoreError
from tvix_store.nodes import Directory
from tvix_store_cache.remembered import Remembered
from tvix_store_cache.sides_upload import SidesUpload, opened

__all__ = ["SidesPutter"]


class SidesPutter(SidesUpload[DirectoryPutter], DirectoryPutter):
    """Uploads to its sides at the same time, and finishes one after the other: none has what an earlier refused."""

    _root: B3Digest | None = None

    @classmethod
    async def start(cls, name: str, sides: Sequence[DirectoryService], absent: Remembered) -> Self:
        """Start the closure at each side."""
        return cls(name, "directories", await opened(side.put_multiple_start() for side in sides), absent)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self._at_each(lambda putter: putter.put_many(directories))

    async def close(self) -> B3Digest:
        if self._root is not None:
            return self._root
        self._begin()
        try:
            roots = [await putter.close() for putter in self._uploads]
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
