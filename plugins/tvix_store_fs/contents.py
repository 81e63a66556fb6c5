"""Getting contents by their digests: from the index to frames to pieces, in one thread and for a whole batch."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from blake3 import blake3

from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, LimitExceeded
from tvix_store_fs import index
from tvix_store_fs.frame import Chunk, iter_chunks
from tvix_store_fs.frame_reader import FrameReader
from tvix_store_fs.index import Place
from tvix_store_fs.pack import PackGone

__all__ = ["Contents"]

T = TypeVar("T")

_ATTEMPTS = 4
_LISTS_PAGE = 256


class Contents:
    """What is in the packs, for functions that are given a connection to the index.

    Pieces are hashed as they are read, and lists are checked with their frames, so all that these methods give is
    what was put.

    Args:
        name: Of the service, for messages.
        reader: Reads the packs.
    """

    def __init__(self, name: str, reader: FrameReader) -> None:
        self.name = name
        self.reader = reader

    def _settled(self, look: Callable[[], T]) -> T:
        """What ``look`` finds, repeated when packs are compacted between looking up and reading."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return look()
            except PackGone:
                continue
        try:
            return look()
        except PackGone as exc:
            raise CorruptObject(f"{self.name}: a pack is missing that the index refers to: {exc.__cause__}") from exc

    def get_many(
        self, connection: sqlite3.Connection, digests: Sequence[bytes], max_blob_bytes: int
    ) -> list[bytes | None]:
        """The contents of small blobs, in the order of ``digests``.

        Raises:
            CorruptObject: One is damaged; says which.
            LimitExceeded: One is longer than ``max_blob_bytes``; if it is in chunks, they are not read.
        """

        def look() -> list[bytes | None]:
            found = self._pieces(connection, digests)
            missing = [index for index, data in enumerate(found) if data is None]
            if missing:
                lists = self._lists(connection, [digests[index] for index in missing])
                for blob, chunks in lists.items():
                    self._check_length(blob, sum(size for _, size in chunks), max_blob_bytes)
                joined = self._join(connection, lists)
                for position in missing:
                    found[position] = joined.get(digests[position])
            for digest, data in zip(digests, found, strict=True):
                if data is not None and len(data) > max_blob_bytes:
                    self._check_length(digest, len(data), max_blob_bytes)
            return found

        return self._settled(look)

    def _pieces(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bytes | None]:
        pieces: list[bytes | None] = [None] * len(digests)
        for place, positions in _by_frame(connection, index.frames_of(connection, digests)):
            decoded = self._named(digests[positions[0]], place, self.reader.read)
            for position in positions:
                digest = digests[position]
                piece = pieces[position] = decoded.piece(digest)
                if piece is None:
                    raise self._corrupt(digest, str(self.reader.corrupt(place, "it is not in this frame")))
                if (actual := blake3(piece).digest()) != digest:
                    where = self.reader.corrupt(place, f"what is stored hashes to {B3Digest(actual)}")
                    raise self._corrupt(digest, str(where), B3Digest(actual))
        return pieces

    def _named(self, digest: bytes, place: Place, read: Callable[[Place], T]) -> T:
        """Name the object in what goes wrong."""
        try:
            return read(place)
        except CorruptObject as exc:
            raise self._corrupt(digest, str(exc)) from exc

    def _corrupt(self, digest: bytes, reason: str, actual: B3Digest | None = None) -> CorruptObject:
        return CorruptObject(
            f"{self.name}: blob blake3-{digest.hex()} is corrupt: {reason}",
            expected=str(B3Digest(digest)),
            actual=None if actual is None else str(actual),
        )

    def _check_length(self, digest: bytes, size: int, max_blob_bytes: int) -> None:
        if size > max_blob_bytes:
            raise LimitExceeded(
                f"{self.name}: blob {B3Digest(digest)} has {size} bytes, more than the {max_blob_bytes} asked for"
            )

    def _join(self, connection: sqlite3.Connection, lists: Mapping[bytes, Sequence[Chunk]]) -> dict[bytes, bytes]:
        """The contents of blobs in chunks."""
        joined: dict[bytes, bytes] = {}
        wanted = list({digest: None for chunks in lists.values() for digest, _ in chunks})
        pieces = dict(zip(wanted, self._pieces(connection, wanted), strict=True)) if wanted else {}
        for blob, chunks in lists.items():
            parts = []
            for digest, _ in chunks:
                piece = pieces[digest]
                if piece is None:
                    raise self._corrupt(blob, f"its chunk blake3-{digest.hex()} does not exist")
                parts.append(piece)
            joined[blob] = b"".join(parts)
        return joined

    def pieces(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bytes | None]:
        """The contents of pieces, chunks or not; ``None`` where absent."""
        return self._settled(lambda: self._pieces(connection, digests))

    def open(self, connection: sqlite3.Connection, digest: bytes) -> bytes | list[Chunk] | None:
        """A blob of one piece, or the chunks of one of several."""

        def look() -> bytes | list[Chunk] | None:
            (piece,) = self._pieces(connection, [digest])
            return piece if piece is not None else self._lists(connection, [digest]).get(digest)

        return self._settled(look)

    def chunks(self, connection: sqlite3.Connection, digest: bytes) -> list[Chunk] | None:
        """The chunks of a blob; empty if it is in one piece; ``None`` if absent."""

        def look() -> list[Chunk] | None:
            chunks = self._lists(connection, [digest]).get(digest)
            if chunks is not None and len(chunks) > 1:
                return chunks
            return [] if chunks is not None or index.frames_of(connection, [digest])[0] is not None else None

        return self._settled(look)

    def lists(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> dict[bytes, list[Chunk]]:
        """The chunks of those among ``digests`` that are kept in several."""
        return self._settled(lambda: self._lists(connection, digests))

    def _lists(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> dict[bytes, list[Chunk]]:
        lists: dict[bytes, list[Chunk]] = {}
        for place, positions in _by_frame(connection, index.frame_of_list(connection, digests)):
            # Checked as a whole: nothing else would tell that a list is not of its blob.
            decoded = self._named(digests[positions[0]], place, self.reader.read_sound)
            for position in positions:
                data = decoded.piece(digests[position])
                if data is None:
                    reason = self.reader.corrupt(place, "its list is not in this frame")
                    raise self._corrupt(digests[position], str(reason))
                lists[digests[position]] = list(iter_chunks(data))
        return lists

    def broken_lists(self, connection: sqlite3.Connection) -> Iterator[tuple[bytes, list[bytes], str]]:
        """Blobs that cannot be read since their list is damaged or a chunk is gone: digest, chunks and the reason.

        Goes through all lists.
        """
        last = b""
        while page := index.lists_after(connection, last, _LISTS_PAGE):
            last = page[-1][0]
            known: dict[bytes, list[Chunk]] | None = None
            with contextlib.suppress(CorruptObject):  # then they are looked at one by one
                known = self.lists(connection, [digest for digest, _ in page])
            for digest, _ in page:
                try:
                    chunks = (self.lists(connection, [digest]) if known is None else known).get(digest)
                except CorruptObject as exc:
                    yield digest, [], str(exc)
                    continue
                if chunks is None:  # deleted meanwhile
                    continue
                digests = [chunk for chunk, _ in chunks]
                for chunk, frame in zip(digests, index.frames_of(connection, digests), strict=True):
                    if frame is None:
                        yield digest, digests, f"its chunk blake3-{chunk.hex()} does not exist"
                        break


def _by_frame(connection: sqlite3.Connection, frames: Sequence[int | None]) -> Iterator[tuple[Place, list[int]]]:
    """Where each frame is that is named in ``frames``, with the positions there; each once, in their order.

    Raises:
        PackGone: One is not there any more.
    """
    positions: dict[int, list[int]] = {}
    for position, frame in enumerate(frames):
        if frame is not None:
            positions.setdefault(frame, []).append(position)
    places = index.places(connection, sorted(positions))
    for frame, found in positions.items():
        if frame not in places:
            raise PackGone
        yield places[frame], found
