"""Questions to the blob service: each has its time, and a bad blob does not spoil the batch that it is in."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tvix_store.blob import BlobService, ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, LimitExceeded, StoreError
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, SMALL_BLOB_BYTES
from tvix_store.resource import map_bounded
from tvix_store_fuse.in_time import in_time
from tvix_store_fuse.pieces import Deliver

__all__ = ["Asking", "Wanted"]

T = TypeVar("T")

_BATCHES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob or a chunk that is to be fetched whole.

    Args:
        raw: Its digest, 32 bytes.
        size: Its length in bytes, as whoever refers to it says.
    """

    raw: bytes
    size: int


class Asking:
    """Asks a blob service.

    Args:
        blobs: The service.
        timeout_s: How long it may take to answer, in seconds.
    """

    def __init__(self, blobs: BlobService, timeout_s: float) -> None:
        self.blobs = blobs
        self._timeout_s = timeout_s

    async def call(self, name: str, answer: Awaitable[T]) -> T:
        """The answer, if it comes in time.

        Raises:
            Unavailable: It did not; says ``name``.
        """
        return await in_time(answer, self._timeout_s, name)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        """As `BlobService.chunks`."""
        return await self.call(f"blob {digest}", self.blobs.chunks(digest))

    async def fetch(self, wanted: Sequence[Wanted], deliver: Deliver) -> None:
        """Fetch some, in batches, and deliver each of them, or what is wrong with it, under its raw digest."""

        async def fetch(batch: Sequence[Wanted]) -> None:
            await self._fetch_batch(batch, deliver)

        await map_bounded(fetch, list(_batches(wanted)), _BATCHES_AT_ONCE)

    async def _fetch_batch(self, batch: Sequence[Wanted], deliver: Deliver) -> None:
        digests = [B3Digest(one.raw) for one in batch]
        name = f"blob {digests[0]}" + (f" and {len(batch) - 1} more" if len(batch) > 1 else "")
        longest = max(one.size for one in batch)
        try:
            answers = await self.call(name, self.blobs.get_many(digests, max_blob_bytes=longest))
        except (CorruptObject, LimitExceeded) as exc:
            if len(batch) > 1:  # which one it is only shows when it is asked for alone
                half = len(batch) // 2
                await self._fetch_batch(batch[:half], deliver)
                await self._fetch_batch(batch[half:], deliver)
            elif isinstance(exc, CorruptObject):
                deliver(batch[0].raw, exc)
            elif longest < SMALL_BLOB_BYTES:  # another node, that does not lie, may wait for the same blob
                await self._fetch_batch([Wanted(batch[0].raw, SMALL_BLOB_BYTES)], deliver)
            else:
                deliver(batch[0].raw, CorruptObject(f"{name} is longer than the {batch[0].size} bytes it should have"))
        except StoreError as exc:
            for one in batch:
                deliver(one.raw, exc)
        else:
            for one, answer in zip(batch, answers, strict=True):
                deliver(one.raw, answer)


def _batches(wanted: Iterable[Wanted]) -> Iterator[Sequence[Wanted]]:
    """Within the limits of a batch, as long as one alone is."""
    batch: list[Wanted] = []
    n_bytes = 0
    for one in wanted:
        if batch and (n_bytes + one.size > BATCH_BYTES or len(batch) == BATCH_COUNT):
            yield batch
            batch, n_bytes = [], 0
        batch.append(one)
        n_bytes += one.size
    if batch:
        yield batch
