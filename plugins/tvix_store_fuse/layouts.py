"""How a large file lies in the store: as chunks, or in one piece that is read through an open reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from tvix_store.blob import ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, StoreError
from tvix_store.limits import MIB
from tvix_store_fuse.asking import Asking, Wanted
from tvix_store_fuse.pieces import Deliver, Key
from tvix_store_fuse.readers import Readers

__all__ = ["MAX_CHUNK_BYTES", "ChunkedLayout", "Layout", "UnsplitLayout"]

MAX_CHUNK_BYTES = 64 * MIB
"""A blob with a longer chunk is read as if it was not split."""

_PIECE_BYTES = 1 * MIB
_DIGEST_BYTES = 32


class Layout(ABC):
    """The pieces of a blob, each of which can be fetched by itself. Their indices count from 0.

    Args:
        digest: Of the blob.
        size: Its length in bytes, as its node says.
    """

    def __init__(self, digest: B3Digest, size: int) -> None:
        self.digest = digest
        self.size = size

    @property
    @abstractmethod
    def weight(self) -> int:
        """How many chunks it lists; at least 1."""

    @abstractmethod
    def indices(self, offset: int, end: int) -> range:
        """The pieces that have bytes from ``offset`` up to ``end``, which are both in the blob."""

    @abstractmethod
    def start(self, index: int) -> int:
        """Where a piece starts in the blob, in bytes; the index may be one past the last piece."""

    @abstractmethod
    def key(self, index: int) -> Key:
        """What the piece is called among all pieces."""

    @abstractmethod
    async def load(self, missing: Mapping[Key, int], deliver: Deliver) -> None:
        """Fetch pieces, given by key with their indices, and deliver each of them or what is wrong with it."""

    def cut(
        self, indices: range, pieces: Sequence[bytes | None], offset: int, end: int
    ) -> Sequence[bytes | memoryview]:
        """The bytes from ``offset`` up to ``end``, without a copy.

        Args:
            indices: What ``indices`` gave for these bytes.
            pieces: The pieces there; ``None`` if absent.
            offset: The first byte.
            end: One past the last byte.

        Raises:
            DanglingReference: A piece is absent.
            CorruptObject: A piece has another length than it should have.
        """
        parts: list[bytes | memoryview] = []
        position = self.start(indices.start)
        for index, piece in zip(indices, pieces, strict=True):
            after = self.start(index + 1)
            if piece is None or len(piece) != after - position:
                raise self._wrong(index, piece)
            if offset <= position and after <= end:
                parts.append(piece)
            else:
                parts.append(memoryview(piece)[max(offset - position, 0) : end - position])
            position = after
        return parts

    def _wrong(self, index: int, piece: bytes | None) -> StoreError:
        key = self.key(index)
        chunk = f"blob {self.digest}: " + (f"chunk {B3Digest(key)}" if isinstance(key, bytes) else f"piece {index}")
        if piece is None:
            return DanglingReference(f"{chunk} does not exist")
        n_bytes = self.start(index + 1) - self.start(index)
        return CorruptObject(f"{chunk} has {len(piece)} bytes, the list says {n_bytes}")


class ChunkedLayout(Layout):
    """A blob that is stored in chunks.

    Args:
        asking: Fetches the chunks.
        digest: Of the blob.
        size: Its length in bytes, as its node says.
        chunks: In blob order, at least one.

    Raises:
        CorruptObject: The chunks do not make up ``size`` bytes.
    """

    def __init__(self, asking: Asking, digest: B3Digest, size: int, chunks: Sequence[ChunkMeta]) -> None:
        super().__init__(digest, size)
        self._asking = asking
        sizes = [chunk.size for chunk in chunks]
        if sum(sizes) != size or min(sizes) < 0:
            raise CorruptObject(f"blob {digest} has {sum(sizes)} bytes in its chunks, its node says {size}")
        # 40 bytes for each chunk rather than 200: a blob may have a million.
        self._raws = b"".join(chunk.digest.raw for chunk in chunks)
        self._starts = array("Q", accumulate(sizes, initial=0))

    @property
    def weight(self) -> int:
        return len(self._starts) - 1

    def indices(self, offset: int, end: int) -> range:
        return range(bisect_right(self._starts, offset) - 1, bisect_left(self._starts, end))

    def start(self, index: int) -> int:
        return self._starts[index]

    def key(self, index: int) -> bytes:
        return self._raws[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES]

    async def load(self, missing: Mapping[Key, int], deliver: Deliver) -> None:
        wanted = [Wanted(self.key(index), self.start(index + 1) - self.start(index)) for index in missing.values()]
        await self._asking.fetch(wanted, deliver)


class UnsplitLayout(Layout):
    """A blob that is kept in one piece; its pieces here are 1 MiB each, but the last.

    Args:
        readers: Read it.
        digest: Of the blob.
        size: Its length in bytes, as its node says.
    """

    def __init__(self, readers: Readers, digest: B3Digest, size: int) -> None:
        super().__init__(digest, size)
        self._readers = readers

    @property
    def weight(self) -> int:
        return 1

    def indices(self, offset: int, end: int) -> range:
        return range(offset // _PIECE_BYTES, -(-end // _PIECE_BYTES))

    def start(self, index: int) -> int:
        return min(index * _PIECE_BYTES, self.size)

    def key(self, index: int) -> Key:
        return (self.digest.raw, self.size, index)

    async def load(self, missing: Mapping[Key, int], deliver: Deliver) -> None:
        failure: StoreError | None = None
        for key, index in missing.items():
            try:
                if failure is None:
                    piece = await self._read(index)
            except StoreError as exc:
                failure = exc  # for what follows, too: a service that hangs is not to be waited for twice
            deliver(key, piece if failure is None else failure)

    async def _read(self, index: int) -> bytes:
        start, end = self.start(index), self.start(index + 1)
        is_last = end == self.size
        # One byte more than there should be: only so does it show that the blob is longer.
        piece = await self._readers.read(self.digest, start, end - start + is_last)
        if len(piece) != end - start:
            less_or_more = "less" if len(piece) < end - start else "more"
            raise CorruptObject(f"blob {self.digest} has {less_or_more} than the {self.size} bytes its node says")
        return piece
