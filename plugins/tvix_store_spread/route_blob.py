"""Small blobs in one service, large ones in another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.resource import task_group
from tvix_store_spread.asking import Asking
from tvix_store_spread.blob import SeveralBlobService
from tvix_store_spread.capabilities import part_capabilities

__all__ = ["SizeRouteBlobService"]


class SizeRouteBlobService(SeveralBlobService):
    """Blobs go to one of two services by their size. Nobody knows it when they are read, so both are asked in turn.

    Args:
        name: Of the entry.
        small: Asked first; not closed with this.
        large: Asked for the rest; not closed with this.
        max_small_bytes: The longest blob that goes to ``small``; so much of a blob is held in memory.
    """

    def __init__(self, name: str, small: BlobService, large: BlobService, max_small_bytes: int) -> None:
        members: Mapping[str, BlobService] = {"small": small, "large": large}
        super().__init__(name, members, Asking([small, large], skips_errors=False))
        self.small = small
        self.large = large
        self.max_small_bytes = max_small_bytes

    @property
    def capabilities(self) -> Capabilities:
        return part_capabilities([self.small.capabilities, self.large.capabilities])

    async def open_write(self) -> BlobWriter:
        return _SizingWriter(self)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        async with task_group() as group:
            if small := [blob for blob in blobs if len(blob) <= self.max_small_bytes]:
                group.create_task(self.small.put_many(small))
            if large := [blob for blob in blobs if len(blob) > self.max_small_bytes]:
                group.create_task(self.large.put_many(large))


class _SizingWriter(BlobWriter):
    """Holds a blob until it is too long to be small, or at its end."""

    def __init__(self, service: SizeRouteBlobService) -> None:
        self._service = service
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._large: BlobWriter | None = None
        self._digest: B3Digest | None = None

    async def write(self, data: bytes) -> None:
        if self._large is None and self._held_bytes + len(data) <= self._service.max_small_bytes:
            self._held.append(data)
            self._held_bytes += len(data)
            return
        if self._large is None:
            self._large = await self._service.large.open_write()
        if self._held:
            held, self._held = self._held, []
            await self._large.write(b"".join(held))
        await self._large.write(data)

    async def close(self) -> B3Digest:
        if self._large is not None:
            return await self._large.close()
        if self._digest is None:
            blob = HashedBlob(b"".join(self._held))
            await self._service.small.put_many([blob])
            self._digest = blob.digest
        return self._digest

    async def aclose(self) -> None:
        self._held.clear()
        if self._large is not None:
            await self._large.aclose()
