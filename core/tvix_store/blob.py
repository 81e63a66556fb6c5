"""The blob service interface: contents keyed by their BLAKE3 digest."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from blake3 import blake3

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, LimitExceeded, Unsupported
from tvix_store.limits import BATCH_BYTES, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.resource import AsyncResource, map_bounded
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress, verify_in_batches

__all__ = ["BlobReader", "BlobService", "BlobWriter", "BytesReader", "ChunkMeta", "read_at_most"]

_VERIFY_COUNT = 64  # of BATCH_BYTES together, as long as none is longer than 128 KiB


@dataclass(frozen=True, slots=True)
class ChunkMeta:
    """A piece of a blob that is stored, and can be read, under its own digest.

    Args:
        digest: BLAKE3 of the piece.
        size: Its length in bytes, before any compression.
    """

    digest: B3Digest
    size: int


class BlobReader(AsyncResource):
    """One blob opened for reading, positioned at its start."""

    @abstractmethod
    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        """The next bytes: at least one and at most ``max_bytes`` of them, or ``b""`` at the end.

        Raises:
            CorruptObject: What is stored is not what the digest stands for. Nothing of it was returned that was
                not checked, but for a blob the backend keeps in one piece: there, the last bytes are withheld.
            Unavailable: The rest could not be had; the reader is of no further use.
        """

    @abstractmethod
    async def seek(self, position: int) -> None:
        """Go on reading at ``position`` bytes from the start; at or past the end, ``read`` gives ``b""``."""


class BlobWriter(AsyncResource):
    """One blob being written. Closing the resource without ``close`` discards what was written."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Append ``data``, of any length. Waits while the service cannot take more."""

    @abstractmethod
    async def close(self) -> B3Digest:
        """Finish: the blob is visible, and durable as the service states, once this returns.

        A second call gives the same answer. After a cancelled call the blob is either there as a whole or not
        at all.
        """


class BlobService(AsyncResource):
    """Blobs keyed by their BLAKE3 digest. Backends write three methods; the rest build on them.

    Methods that take several objects are what import, render and copy use. Their defaults call the single ones,
    some at a time; a backend that can do better overrides them. Whatever a service returns is checked against
    the digest around it, in core.
    """

    relays: ClassVar[bool] = False
    """Whether all it gives is what services that it was given gave it, unchanged. Core has checked that, and does not
    check it again. What a subclass says of itself holds for its subclasses."""

    @property
    def capabilities(self) -> Capabilities:
        """What this service can do beside the abstract methods; nothing, unless overridden."""
        return Capabilities()

    @abstractmethod
    async def has(self, digest: B3Digest) -> bool:
        """Whether the blob, or a chunk with this digest, is present."""

    @abstractmethod
    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        """Open for reading; ``None`` if absent."""

    @abstractmethod
    async def open_write(self) -> BlobWriter:
        """Start a blob; nothing is visible before ``BlobWriter.close`` returns its digest."""

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        """The pieces the blob is stored in, in their order.

        Returns:
            ``None`` if absent; empty if present and not split further (this default). Every chunk listed can be
            read from this service as a blob of its own.
        """
        return [] if await self.has(digest) else None

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        """``has`` for each of ``digests``, in their order."""
        return await map_bounded(self.has, digests)

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        """The whole contents of small blobs, in the order of ``digests``; ``None`` where absent.

        Callers know the sizes from the nodes they follow and keep the sum within ``limits.BATCH_BYTES``.

        Raises:
            LimitExceeded: A blob is longer than ``max_blob_bytes``; it is not read whole to find out.
            CorruptObject: One of them does not hash to its digest.
        """

        async def get(digest: B3Digest) -> bytes | None:
            reader = await self.open_read(digest)
            if reader is None:
                return None
            async with reader:
                return await read_at_most(reader, max_blob_bytes, f"blob {digest}")

        return await map_bounded(get, digests)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        """Store small blobs; all are visible, and durable as the service states, once this returns.

        After a failure or a cancelled call, some of them may be there, each of them whole.
        """

        async def put(blob: HashedBlob) -> None:
            async with await self.open_write() as writer:
                await writer.write(blob.data)
                await writer.close()

        await map_bounded(put, blobs)

    def list(self) -> AsyncIterator[B3Digest]:
        """The digests of all blobs, in no particular order; chunks that are no blobs are left out.

        What is put or deleted meanwhile may be listed or not.

        Raises:
            Unsupported: The service does not state the capability.
        """
        raise Unsupported(f"{type(self).__name__} cannot list blobs")

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        """Remove blobs; those that are absent are passed over.

        Chunks that another blob is made of stay. Readers that are open may fail.

        Raises:
            Unsupported: The service does not state the capability.
        """
        raise Unsupported(f"{type(self).__name__} cannot delete blobs")

    async def discard_corrupt(self, digest: B3Digest) -> None:
        """Forget the blob if what is stored under ``digest`` does not hash to it, so that the next put heals it.

        Core calls this after it found that out, or after the service raised CorruptObject. A service that stores
        nothing itself does nothing (this default).
        """

    async def stats(self) -> ServiceStats:
        """How many blobs there are, and how much space they take.

        Raises:
            Unsupported: The service cannot say.
        """
        raise Unsupported(f"{type(self).__name__} has no statistics")

    async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        """Read everything there is, and yield what is wrong with it.

        What is wrong is forgotten (``discard_corrupt``), at the latest when this ends, so that the next put heals it.
        What is put or deleted meanwhile may be checked or not. This default lists the blobs and reads each.

        Args:
            progress: Told how many bytes have been checked.

        Raises:
            Unsupported: The service cannot list what it holds.
            Unavailable: Something could not be read for another reason.
        """
        try:
            total = (await self.stats()).logical_bytes
        except Unsupported:
            total = None
        wrong: list[B3Digest] = []
        async for damage in verify_in_batches(
            self.list(), self._verify_batch, progress, batch_count=_VERIFY_COUNT, total=total
        ):
            assert damage.digest is not None
            wrong.append(B3Digest.parse(damage.digest))
            yield damage
        for digest in wrong:  # not before: blobs that share what is wrong go together, and each is to be told of
            await self.discard_corrupt(digest)

    async def _verify_batch(self, digests: Sequence[B3Digest]) -> tuple[Sequence[Damage], int]:
        """What is wrong with these, and how many bytes they have.

        Halves a batch until the service takes it: one blob in it is too long, or wrong, and which one it is only
        shows when it is asked for alone.
        """
        if len(digests) == 1:
            return await self._verify_one(digests[0])
        try:
            blobs = await self.get_many(digests, max_blob_bytes=min(BATCH_BYTES // len(digests), SMALL_BLOB_BYTES))
        except (CorruptObject, LimitExceeded):
            half = len(digests) // 2
            damages, checked = await self._verify_batch(digests[:half])
            more_damages, more_checked = await self._verify_batch(digests[half:])
            return [*damages, *more_damages], checked + more_checked
        suspects = await asyncio.to_thread(_suspects, digests, blobs)
        damages = [damage for digest in suspects for damage in (await self._verify_one(digest))[0]]
        return damages, sum(len(blob) for blob in blobs if blob is not None)

    async def _verify_one(self, digest: B3Digest) -> tuple[Sequence[Damage], int]:
        hasher = blake3()
        n_bytes = 0
        try:
            reader = await self.open_read(digest)
            if reader is None:
                return [], 0  # deleted since it was listed
            async with reader:
                while piece := await reader.read(PIECE_BYTES):
                    hasher.update(piece)
                    n_bytes += len(piece)
        except CorruptObject as exc:
            reason = str(exc)
        else:
            if (raw := hasher.digest()) == digest.raw:
                return [], n_bytes
            reason = f"what is stored hashes to {B3Digest(raw)}"
        return [Damage("blob", str(digest), None, reason)], n_bytes

    async def compact(self) -> int:
        """Give the space of deleted blobs back to the file system.

        Returns:
            How many bytes were freed.

        Raises:
            Unsupported: The service does not state the capability.
        """
        raise Unsupported(f"{type(self).__name__} cannot compact")

    async def sync(self) -> None:
        """Wait until everything that was put before is durable, if the service promises durability at all.

        A service whose puts are durable when they return, or never, has nothing to do (this default). One that
        states ``Durability.BATCHED`` overrides it, and a combinator asks the services it writes to.
        """


class BytesReader(BlobReader):
    """Reads a blob that is in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        piece = self._data[self._position : self._position + max_bytes]
        self._position += len(piece)
        return piece

    async def seek(self, position: int) -> None:
        self._position = position


async def read_at_most(reader: BlobReader, max_bytes: int, name: str) -> bytes:
    """Everything from the reader's position to the end.

    Args:
        reader: Is left at the end, and open.
        max_bytes: How much is accepted.
        name: What is read, for the message.

    Raises:
        LimitExceeded: There is more than ``max_bytes``.
    """
    pieces: list[bytes] = []
    left = max_bytes
    while piece := await reader.read(min(left + 1, PIECE_BYTES)):
        left -= len(piece)
        if left < 0:
            raise LimitExceeded(f"{name} is longer than the {max_bytes} bytes asked for")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _suspects(digests: Sequence[B3Digest], blobs: Sequence[bytes | None]) -> list[B3Digest]:
    """Those whose blob, if there is one, hashes to something else."""
    pairs = zip(digests, blobs, strict=True)
    return [digest for digest, blob in pairs if blob is not None and blake3(blob).digest() != digest.raw]
