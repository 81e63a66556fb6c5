"""Getting contents by their digests: from the index to frames to pieces, in one thread and for a whole batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tvix_store.errors import CorruptObject
from tvix_store_fs import index
from tvix_store_fs.frame import Chunk, iter_chunks
from tvix_store_fs.frame_reader import FrameReader
from tvix_store_fs.index import Place
from tvix_store_fs.pack import PackGone

__all__ = ["Contents", "Found", "TooLong"]

T = TypeVar("T")

_ATTEMPTS = 4
_LISTS_PAGE = 256


@dataclass(frozen=True, slots=True)
class TooLong:
    """In the place of contents that are longer than asked for."""

    size: int


Found = bytes | TooLong | None
"""The contents of a blob; ``None`` if absent."""


class Contents:
    """What is in the packs, for functions that are given a connection to the index.

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

    def get_many(self, connection: sqlite3.Connection, digests: Sequence[bytes], max_blob_bytes: int) -> list[Found]:
        """The contents of small blobs, in the order of ``digests``, not checked.

        Raises:
            CorruptObject: One cannot be read.
        """

        def look() -> list[Found]:
            found: list[Found] = list(self._pieces(connection, digests))
            missing = [index for index, data in enumerate(found) if data is None]
            if missing:
                lists = self._lists(connection, [digests[index] for index in missing])
                for position in missing:
                    chunks = lists.get(digests[position])
                    if chunks is not None:
                        found[position] = self._join(connection, digests[position], chunks, max_blob_bytes)
            for position, data in enumerate(found):
                if isinstance(data, bytes) and len(data) > max_blob_bytes:
                    found[position] = TooLong(len(data))
            return found

        return self._settled(look)

    def _pieces(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bytes | None]:
        frames = index.frames_of(connection, digests)
        places = index.places(connection, sorted({frame for frame in frames if frame is not None}))
        by_frame: dict[int, list[int]] = {}
        for position, frame in enumerate(frames):
            if frame is not None:
                by_frame.setdefault(frame, []).append(position)
        pieces: list[bytes | None] = [None] * len(digests)
        for frame, positions in by_frame.items():
            place = places.get(frame)
            if place is None:
                raise PackGone
            decoded = self._named(digests[positions[0]], place, self.reader.read)
            for position in positions:
                piece = pieces[position] = decoded.piece(digests[position])
                if piece is None:
                    reason = self.reader.corrupt(place, "it is not in this frame")
                    raise self._corrupt(digests[position], str(reason))
        return pieces

    def _named(self, digest: bytes, place: Place, read: Callable[[Place], T]) -> T:
        """Name the object in what goes wrong."""
        try:
            return read(place)
        except CorruptObject as exc:
            raise self._corrupt(digest, str(exc)) from exc

    def _corrupt(self, digest: bytes, reason: str) -> CorruptObject:
        return CorruptObject(f"{self.name}: blob blake3-{digest.hex()} is corrupt: {reason}")

    def _join(
        self, connection: sqlite3.Connection, digest: bytes, chunks: Sequence[Chunk], max_blob_bytes: int
    ) -> Found:
        size = sum(size for _, size in chunks)
        if size > max_blob_bytes:
            return TooLong(size)
        pieces = self._pieces(connection, [chunk for chunk, _ in chunks])
        parts = []
        for (chunk, _), piece in zip(chunks, pieces, strict=True):
            if piece is None:
                raise self._corrupt(digest, f"its chunk blake3-{chunk.hex()} does not exist")
            parts.append(piece)
        return b"".join(parts)

    def pieces(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bytes | None]:
        """The contents of pieces, chunks or not, not checked; ``None`` where absent."""
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
        frames = index.frame_of_list(connection, digests)
        places = index.places(connection, sorted({frame for frame in frames if frame is not None}))
        lists: dict[bytes, list[Chunk]] = {}
        for digest, frame in zip(digests, frames, strict=True):
            if frame is None:
                continue
            if frame not in places:
                raise PackGone
            lists[digest] = self._list(digest, places[frame])
        return lists

    def _list(self, digest: bytes, place: Place) -> list[Chunk]:
        """A list, which is checked: nothing else would tell that it is not of this blob."""
        decoded = self._named(digest, place, self.reader.read_sound)
        data = decoded.piece(digest)
        if data is None:
            raise self._corrupt(digest, str(self.reader.corrupt(place, "its list is not in this frame")))
        return list(iter_chunks(data))

    def broken_lists(self, connection: sqlite3.Connection) -> Iterator[tuple[bytes, list[bytes], str]]:
        """Blobs that cannot be read since their list is damaged or a chunk is gone: digest, chunks and the reason.

        Goes through all lists.
        """
        last = b""
        while page := index.lists_after(connection, last, _LISTS_PAGE):
            last = page[-1][0]
            for digest, _ in page:
                try:
                    chunks = self.lists(connection, [digest]).get(digest)
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
