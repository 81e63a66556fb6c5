"""From blobs to frames: what is there already is left out, what is large is cut, neighbours share a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from tvix_store.chunking import cut
from tvix_store.limits import KIB
from tvix_store_fs.frame import EncodedFrame, Kind, chunk_bytes, encode

__all__ = [
    "FRAME_BYTES",
    "Encoders",
    "Piece",
    "Pieces",
    "frames_of_chunks",
    "frames_of_lists",
    "frames_of_pieces",
    "split",
]

FRAME_BYTES = 768 * KIB
"""Small pieces are gathered up to here. Larger frames compress better; reading one piece decodes all of its frame."""

Piece = tuple[bytes, bytes | memoryview, bool]
"""Digest, contents, and whether it is a blob by itself."""


@dataclass(slots=True)
class Pieces:
    """What blobs consist of.

    Args:
        pieces: In the order of the blobs, each once.
        lists: Blobs of several pieces, with digest and size of each.
    """

    pieces: list[Piece] = field(default_factory=list)
    lists: list[tuple[bytes, list[tuple[bytes, int]]]] = field(default_factory=list)


def split(blobs: Iterable[tuple[bytes, bytes]], avg_chunk_size: int) -> Pieces:
    """Cut those blobs that are more than one chunk; given with their digests."""
    made = Pieces()
    for blob, data in blobs:
        chunks = cut(data, avg_chunk_size) if len(data) > avg_chunk_size // 2 else []
        if len(chunks) < 2:
            made.pieces.append((blob, data, True))
            continue
        listed = []
        for chunk in chunks:
            digest = blake3(chunk).digest()
            listed.append((digest, len(chunk)))
            made.pieces.append((digest, chunk, False))
        made.lists.append((blob, listed))
    return made


def frames_of_pieces(pieces: Sequence[Piece], encoders: Encoders) -> list[EncodedFrame]:
    """Frames of neighbouring pieces, encoded side by side. Blocks; not to be called in one of the encoders."""
    return encoders.encode(list(_grouped(pieces)))


def frames_of_chunks(pieces: Sequence[Piece], encoders: Encoders) -> list[EncodedFrame]:
    """A frame for each piece, so that reading from the middle of a large blob decodes no more than one. Blocks."""
    return encoders.encode([[piece] for piece in pieces])


class Encoders:
    """Threads that encode frames.

    Args:
        n_threads: How many.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._executor = ThreadPoolExecutor(n_threads, thread_name_prefix="fs-encoder")

    def encode(self, groups: Sequence[Sequence[Piece]]) -> list[EncodedFrame]:
        """A frame of each group; every thread gets a share of them at once, since each hand-over costs."""
        shares = [groups[start :: self._n_threads] for start in range(min(self._n_threads, len(groups)))]
        encoded: list[EncodedFrame | None] = [None] * len(groups)
        for start, frames in enumerate(self._executor.map(_encode, shares)):
            encoded[start :: self._n_threads] = frames
        return [frame for frame in encoded if frame is not None]

    def shutdown(self) -> None:
        """Wait for what is under way."""
        self._executor.shutdown()


def _encode(groups: Sequence[Sequence[Piece]]) -> list[EncodedFrame]:
    return [encode(Kind.PIECES, group) for group in groups]


def _grouped(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    n_bytes = 0
    for piece in pieces:
        group.append(piece)
        n_bytes += len(piece[1])
        if n_bytes >= FRAME_BYTES:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def frames_of_lists(lists: Sequence[tuple[bytes, Sequence[tuple[bytes, int]]]]) -> list[EncodedFrame]:
    """One frame with the lists of some blobs; none if there are none."""
    if not lists:
        return []
    pieces = [(blob, b"".join(chunk_bytes(digest, size) for digest, size in chunks), True) for blob, chunks in lists]
    return [encode(Kind.LISTS, pieces)]
