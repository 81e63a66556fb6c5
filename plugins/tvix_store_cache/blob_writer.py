"""Writing one blob to one or two sides of a cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, StoreError, Unavailable
from tvix_store.resource import task_group
from tvix_store_cache.remembered import Remembered

__all__ = ["SidesWriter"]


class SidesWriter(BlobWriter):
    """Writes to its sides at the same time, and finishes them one after the other: none has what an earlier refused.

    What fails once has failed for good.

    Args:
        name: Of the cache.
        writers: In the order in which they are finished; closed with this.
        absent: Forgets the blob.
    """

    def __init__(self, name: str, writers: Sequence[BlobWriter], absent: Remembered) -> None:
        self._name = name
        self._writers = writers
        self._absent = absent
        self._failure: StoreError | None = None
        self._digest: B3Digest | None = None

    @classmethod
    async def open(cls, name: str, sides: Sequence[BlobService], absent: Remembered) -> Self:
        """Start the blob at each side."""
        async with AsyncExitStack() as stack:
            writers = [await stack.enter_async_context(await side.open_write()) for side in sides]
            stack.pop_all()
        return cls(name, writers, absent)

    async def write(self, data: bytes) -> None:
        self._begin()
        try:
            if len(self._writers) == 1:
                await self._writers[0].write(data)
            else:
                async with task_group() as group:
                    for writer in self._writers:
                        group.create_task(writer.write(data))
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
        self._failure = Unavailable(f"{self._name}: the upload of a blob was interrupted")

    async def close(self) -> B3Digest:
        if self._digest is not None:
            return self._digest
        self._begin()
        try:
            digests = [await writer.close() for writer in self._writers]
            if any(digest != digests[0] for digest in digests):
                raise CorruptObject(
                    f"{self._name}: the sides have different blobs", expected=str(digests[0]), actual=str(digests[-1])
                )
        except BaseException as exc:
            self._absent.clear()  # it may be there, and nobody knows under which digest
            if isinstance(exc, StoreError):
                self._failure = exc
            raise
        self._absent.forget([digests[0].raw])
        self._failure = None
        self._digest = digests[0]
        return self._digest

    async def aclose(self) -> None:
        async with AsyncExitStack() as stack:
            for writer in self._writers:
                stack.push_async_callback(writer.aclose)
