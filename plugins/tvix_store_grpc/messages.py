"""Encoding of the messages that carry contents, without the copies that a protobuf message would make.

All of them are one field, number 1, of bytes: once in ``BlobChunk``, any number of times in the batches. Whatever
does not look as we write it ourselves is left to protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tvix_store.limits import KIB
from tvix_store.proto.tvix.castore.protos.rpc_blobstore_pb2 import BlobChunk
from tvix_store.proto.tvix_store.batch.v1.batch_pb2 import Digests

__all__ = [
    "MESSAGE_BYTES",
    "MESSAGE_COUNT",
    "Slot",
    "TOO_LARGE",
    "blob_chunk",
    "blob_chunk_data",
    "cut",
    "repeated",
    "slots",
]

T = TypeVar("T")

MESSAGE_BYTES = 512 * KIB
"""A message of a batch is sent as soon as it holds this much; a larger object travels alone."""

MESSAGE_COUNT = 1024

_SHORT_BYTES = KIB
"""Protobuf is faster than we are if there are many short items, and far slower if they are long."""

_ABSENT_SLOT = b"\x0a\x00"
_TOO_LARGE_SLOT = b"\x0a\x02\x10\x01"
_TAG = b"\x0a"  # field 1, length-delimited


def _header(length: int) -> bytes:
    if length < 0x80:
        return bytes((0x0A, length))
    if length < 0x4000:
        return bytes((0x0A, length & 0x7F | 0x80, length >> 7))
    out = bytearray(_TAG)
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def blob_chunk(data: bytes | memoryview) -> bytes:
    """A ``BlobChunk`` message (of either package: they are the same)."""
    return b"".join((_header(len(data)), data)) if data else b""


def blob_chunk_data(encoded: bytes) -> bytes:
    """The contents of a ``BlobChunk`` message.

    Raises:
        google.protobuf.message.DecodeError: It is none.
    """
    length = shift = 0
    if encoded.startswith(_TAG):
        for position in range(1, min(len(encoded), 6)):
            byte = encoded[position]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if position + 1 + length == len(encoded):
                    return encoded[position + 1 :]
                break
    return BlobChunk.FromString(encoded).data


def repeated(items: Sequence[bytes]) -> bytes:
    """A message whose field 1 is repeated bytes."""
    if sum(map(len, items)) < _SHORT_BYTES * len(items):
        return Digests(digests=items).SerializeToString()  # any message of that form
    parts: list[bytes] = []
    for item in items:
        parts.append(_header(len(item)))
        parts.append(item)
    return b"".join(parts)


class TooLarge:
    """Stands for a blob that is longer than was asked for."""


TOO_LARGE = TooLarge()

Slot = bytes | TooLarge | None
"""The answer for one digest: its object, or that it is too large, or absent."""


def slots(answers: Sequence[Slot]) -> bytes:
    """A message of slots: ``BlobBatch`` and its like."""
    parts: list[bytes] = []
    for answer in answers:
        if isinstance(answer, bytes):
            header = _header(len(answer))
            parts.append(_header(len(header) + len(answer)))
            parts.append(header)
            parts.append(answer)
        else:
            parts.append(_ABSENT_SLOT if answer is None else _TOO_LARGE_SLOT)
    return b"".join(parts)


def cut(
    items: Sequence[T], sizes: Iterable[int], max_bytes: int = MESSAGE_BYTES, max_count: int = MESSAGE_COUNT
) -> Iterator[Sequence[T]]:
    """``items`` in runs of at most ``max_count`` and, but for single items, ``max_bytes`` by ``sizes``."""
    start = n_bytes = 0
    for end, size in enumerate(sizes):
        if end > start and (end - start == max_count or n_bytes + size > max_bytes):
            yield items[start:end]
            start, n_bytes = end, 0
        n_bytes += size
    if start < len(items):
        yield items[start:]
