"""The blob service interface: contents keyed by their BLAKE3 digest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import LimitExceeded, Unsupported
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.resource import AsyncResource, map_bounded

__all__ = ["BlobReader", "BlobService", "BlobWriter", "BytesReader", "ChunkMeta", "read_at_most"]


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
