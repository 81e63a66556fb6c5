"""Writing one blob to one or two sides of a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, StoreError
from tvix_store_cache.remembered import Remembered
from tvix_store_cache.sides_upload import SidesUpload, opened

__all__ = ["SidesWriter"]


class SidesWriter(SidesUpload[BlobWriter], BlobWriter):
    """Writes to its sides at the same time, and finishes them one after the other: none has what an earlier refused."""

    _digest: B3Digest | None = None

    @classmethod
    async def open(cls, name: str, sides: Sequence[BlobService], absent: Remembered) -> Self:
        """Start the blob at each side."""
        return cls(name, "a blob", await opened(side.open_write() for side in sides), absent)

    async def write(self, data: bytes) -> None:
        await self._at_each(lambda writer: writer.write(data))

    async def close(self) -> B3Digest:
        if self._digest is not None:
            return self._digest
        self._begin()
        try:
            digests = [await writer.close() for writer in self._uploads]
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
