"""Frames, which packs consist of: pieces of contents compressed together, behind a header that lists them.

The format is written down in README.md; this module is the only one that knows its bytes.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import zstandard
from blake3 import blake3

from tvix_store.errors import CorruptObject
from tvix_store.limits import KIB, MIB

__all__ = [
    "FIXED_BYTES",
    "MAGIC",
    "MAX_RAW_BYTES",
    "Chunk",
    "Codec",
    "EncodedFrame",
    "Frame",
    "Kind",
    "Record",
    "chunk_bytes",
    "decode",
    "encode",
    "header_bytes",
    "iter_chunks",
    "parse_header",
]

MAGIC = b"TVXF"
_FIXED = struct.Struct("<4sBBxxIII8s8s")
_RECORD = struct.Struct("<32sI")
_CHUNK = struct.Struct("<32sI")
FIXED_BYTES = _FIXED.size
_BLOB_FLAG = 1 << 31
_CHECKSUM_BYTES = 8

MAX_RAW_BYTES = 1 << 31
"""No payload is longer, decoded."""

_COMPRESSION_LEVEL = 3
_SAMPLE_BYTES = 4 * KIB
_N_SAMPLES = 8
_WORTH_COMPRESSING = 0.985
"""What does not get shorter than this part of its length is stored as it is, so that reading it costs nothing."""

Chunk = tuple[bytes, int]
"""Digest and size of a piece of a blob."""

_threads = threading.local()  # contexts of zstd, which are costly to make and not to be shared


class Kind(IntEnum):
    """What a frame holds."""

    PIECES = 1
    LISTS = 2


class Codec(IntEnum):
    """How a payload is stored."""

    RAW = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One of the things in a frame.

    Args:
        digest: BLAKE3 of the piece; in a frame of lists, of the blob that the list is of.
        length: Of the piece or list in the decoded payload, in bytes.
        is_blob: Whether it was put as a blob; otherwise it is only a chunk. Always, for a list.
    """

    digest: bytes
    length: int
    is_blob: bool


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame ready to be appended to a pack.

    Args:
        records: What is in it, in its order.
        kind: What they are.
        raw_bytes: Length of the payload, decoded.
        header: The bytes before the payload.
        payload: As it is stored.
    """

    records: Sequence[Record]
    kind: Kind
    raw_bytes: int
    header: bytes
    payload: bytes

    @property
    def size(self) -> int:
        """What it takes in a pack, in bytes."""
        return len(self.header) + len(self.payload)


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of a frame as it was found in a pack.

    Args:
        kind: What it holds.
        codec: How the payload is stored.
        raw_bytes: Length of the payload, decoded.
        stored_bytes: Length of the payload as stored.
        payload_checksum: Of the payload as stored.
        checksum: Of the header, as it states.
        header: All of it.
    """

    kind: int
    codec: int
    raw_bytes: int
    stored_bytes: int
    payload_checksum: bytes
    checksum: bytes
    header: bytes

    @property
    def size(self) -> int:
        """What it takes in the pack, in bytes."""
        return len(self.header) + self.stored_bytes

    def records(self) -> list[Record]:
        """What is in it, in the order of the payload."""
        rows = _RECORD.iter_unpack(memoryview(self.header)[FIXED_BYTES:])
        return [Record(digest, length & ~_BLOB_FLAG, length >= _BLOB_FLAG) for digest, length in rows]

    def ranges(self) -> dict[bytes, tuple[int, int]]:
        """Start and end of each piece in the decoded payload."""
        ranges: dict[bytes, tuple[int, int]] = {}
        start = 0
        for digest, length in _RECORD.iter_unpack(memoryview(self.header)[FIXED_BYTES:]):
            end = start + (length & ~_BLOB_FLAG)
            ranges[digest] = (start, end)
            start = end
        return ranges

    def is_sound(self) -> bool:
        """Whether the header has the checksum that it states, and the lengths add up."""
        return (
            _header_checksum(self.header) == self.checksum
            and sum(record.length for record in self.records()) == self.raw_bytes
        )

    def has_payload(self, payload: bytes | memoryview) -> bool:
        """Whether ``payload`` is what was stored."""
        return len(payload) == self.stored_bytes and _checksum(payload) == self.payload_checksum


def _checksum(data: bytes | memoryview) -> bytes:
    return blake3(data).digest(_CHECKSUM_BYTES)


def _header_checksum(header: bytes) -> bytes:
    """Of all but the place for itself, which is the end of the fixed part."""
    hasher = blake3(header[: FIXED_BYTES - _CHECKSUM_BYTES])
    hasher.update(header[FIXED_BYTES:])
    return hasher.digest(_CHECKSUM_BYTES)


def encode(kind: Kind, pieces: Sequence[tuple[bytes, bytes | memoryview, bool]]) -> EncodedFrame:
    """Make a frame.

    Args:
        kind: What the pieces are.
        pieces: Digest, contents and whether it is a blob, at least one; ``MAX_RAW_BYTES`` at most altogether.
    """
    raw = pieces[0][1] if len(pieces) == 1 else b"".join(data for _, data, _ in pieces)
    codec, payload = (Codec.RAW, bytes(raw)) if kind is Kind.LISTS else _compress(raw)
    records = [Record(digest, len(data), is_blob) for digest, data, is_blob in pieces]
    table = b"".join(_RECORD.pack(record.digest, record.length | _BLOB_FLAG * record.is_blob) for record in records)
    fixed = (MAGIC, kind, codec, len(records), len(raw), len(payload), _checksum(payload))
    checksum = _header_checksum(_FIXED.pack(*fixed, b"") + table)
    header = _FIXED.pack(*fixed, checksum) + table
    return EncodedFrame(records, kind, len(raw), header, payload)


def _compress(raw: bytes | memoryview) -> tuple[Codec, bytes]:
    compressor = getattr(_threads, "compressor", None)
    if compressor is None:
        compressor = _threads.compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL)
        _threads.tester = zstandard.ZstdCompressor(level=1, write_content_size=False)
    if _seems_incompressible(raw):
        return Codec.RAW, bytes(raw)
    payload: bytes = compressor.compress(raw)
    if len(payload) > _WORTH_COMPRESSING * len(raw):
        return Codec.RAW, bytes(raw)
    return Codec.ZSTD, payload


def _seems_incompressible(raw: bytes | memoryview) -> bool:
    """Judged by some samples at the fastest level."""
    if len(raw) < 2 * _N_SAMPLES * _SAMPLE_BYTES:
        return False
    view = memoryview(raw)
    distance = len(raw) // _N_SAMPLES
    sample = b"".join(view[index * distance : index * distance + _SAMPLE_BYTES] for index in range(_N_SAMPLES))
    return len(_threads.tester.compress(sample)) > len(sample)


def parse_header(data: bytes | memoryview) -> Frame:
    """Read the header at the start of ``data``, which may be damaged; ``Frame.is_sound`` says whether it is.

    Raises:
        CorruptObject: It is no header, or ``data`` ends within it.
    """
    if len(data) < FIXED_BYTES:
        raise CorruptObject("ends within the header of a frame")
    magic, kind, codec, n_records, raw_bytes, stored_bytes, payload_checksum, checksum = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise CorruptObject("is no frame")
    end = FIXED_BYTES + n_records * _RECORD.size
    if len(data) < end:
        raise CorruptObject("ends within the header of a frame")
    return Frame(kind, codec, raw_bytes, stored_bytes, payload_checksum, checksum, bytes(data[:end]))


def header_bytes(fixed: bytes) -> int:
    """Length of the header that begins with the ``FIXED_BYTES`` given.

    Raises:
        CorruptObject: It is no header.
    """
    magic, _, _, n_records, *_ = _FIXED.unpack(fixed)
    if magic != MAGIC:
        raise CorruptObject("is no frame")
    return FIXED_BYTES + int(n_records) * _RECORD.size


def decode(frame: Frame, payload: bytes | memoryview) -> bytes:
    """The payload as it was before it was stored.

    Raises:
        CorruptObject: It cannot be decoded, or its length is not what the header says.
    """
    if frame.codec == Codec.RAW:
        raw = bytes(payload)
    elif frame.codec == Codec.ZSTD:
        decompressor = getattr(_threads, "decompressor", None)
        if decompressor is None:
            decompressor = _threads.decompressor = zstandard.ZstdDecompressor(max_window_size=8 * MIB)
        try:
            # A length other than the expected is refused before anything of it is decoded.
            if zstandard.frame_content_size(payload) != frame.raw_bytes:
                raise CorruptObject("its payload is damaged: the length is another")
            raw = decompressor.decompress(payload, max_output_size=frame.raw_bytes)
        except zstandard.ZstdError as exc:
            raise CorruptObject(f"its payload is damaged: {exc}") from exc
    else:
        raise CorruptObject(f"its header is damaged: codec {frame.codec}")
    if len(raw) != frame.raw_bytes:
        raise CorruptObject("its payload is damaged: the length is another")
    return raw


def chunk_bytes(digest: bytes, size: int) -> bytes:
    """One chunk as it stands in a list."""
    return _CHUNK.pack(digest, size)


def iter_chunks(data: bytes | memoryview) -> Iterator[Chunk]:
    """The chunks of a list, in blob order.

    Raises:
        CorruptObject: It is no list.
    """
    if len(data) % _CHUNK.size:
        raise CorruptObject("its list of chunks is damaged")
    return _CHUNK.iter_unpack(data)
