"""Compression and decompression of streams, by the methods that NARs in binary caches are compressed with.

The work is done in threads, in steps of about 1 MiB. What a compressed stream claims about itself never decides
how much memory is taken: output comes in bounded pieces, and windows have a limit.
"""

from __future__ import annotations

import asyncio
import bz2
import lzma
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Protocol

import brotli  # type: ignore[import-untyped]
import zstandard

from tvix_store.compression_decoding import Decoding
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.limits import KIB, MIB
from tvix_store.nar import START

__all__ = ["DETECT_BYTES", "SUFFIXES", "compressed", "decompressed", "detect", "with_head"]

_NONE = "none"

SUFFIXES = {_NONE: "", "xz": ".xz", "bzip2": ".bz2", "gzip": "", "zstd": ".zst", "br": ".br"}
"""Method to what Nix appends to ``nar/FILEHASH.nar``: nothing for gzip, so ``.nar`` alone does not mean "none"."""

DETECT_BYTES = 64 * KIB
"""How much of a stream ``detect`` wants to see: brotli has no magic bytes, and may need this much to show content."""

_STEP_BYTES = 1 * MIB
"""About how much a call to a thread takes or gives; pieces are not longer."""

_LEVELS = {"xz": (0, 9, 6), "bzip2": (1, 9, 9), "gzip": (0, 9, 6), "zstd": (-7, 22, 3), "br": (0, 11, 5)}
"""Lowest and highest level, and the one taken if none is given."""

_BZIP2_MAGIC = tuple(
    b"BZh%d" % level + magic for level in range(1, 10) for magic in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
)
_MAGIC: dict[str, tuple[bytes, ...]] = {
    "xz": (b"\xfd7zXZ\0",),
    "bzip2": _BZIP2_MAGIC,
    "gzip": (b"\x1f\x8b\x08",),
    "zstd": (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16))),
    _NONE: (START[:24],),
}


def detect(head: bytes) -> str | None:
    """The compression of a NAR by its first bytes.

    Args:
        head: The first ``DETECT_BYTES``, or all there is. 24 bytes are enough for all methods but ``br``.

    Returns:
        A key of ``SUFFIXES``; ``None`` if it is neither a NAR nor looks like a compressed one.
    """
    for method, magic in _MAGIC.items():
        if head.startswith(magic):
            return method
    try:
        start = brotli.Decompressor().process(head[:DETECT_BYTES], output_buffer_limit=len(START))
    except brotli.error:
        return None
    return "br" if start.startswith(_MAGIC[_NONE]) else None


async def with_head(pieces: AsyncIterator[bytes], n_bytes: int) -> tuple[bytes, AsyncGenerator[bytes]]:
    """The first ``n_bytes`` of a stream, or a little more, or all there are; and the whole stream again."""
    gathered: list[bytes] = []
    left = n_bytes
    while left > 0 and (piece := await anext(pieces, None)) is not None:
        gathered.append(piece)
        left -= len(piece)
    head = b"".join(gathered)

    async def whole() -> AsyncGenerator[bytes]:
        yield head
        async for piece in pieces:
            yield piece

    return head, whole()


async def decompressed(
    pieces: AsyncIterator[bytes], compression: str, *, max_bytes: int | None = None
) -> AsyncGenerator[bytes]:
    """Decompress a stream. Several compressed streams that follow each other count as one, as their tools have it.

    Args:
        pieces: Of any size; read only as fast as the result is. Closing it is left to the caller.
        compression: A key of ``SUFFIXES``.
        max_bytes: How much may come out.

    Yields:
        Pieces that are not empty and not longer than 1 MiB.

    Raises:
        InvalidObject: The method is unknown, or the input is corrupt, ends too early or goes on behind its end.
            Pieces before that may have been given.
        LimitExceeded: More than ``max_bytes`` would come out.
    """
    total = 0
    async with aclosing(_cut(pieces) if compression == _NONE else _decoded(pieces, compression)) as output:
        async for piece in output:
            total += len(piece)
            if max_bytes is not None and total > max_bytes:
                raise LimitExceeded(f"{compression} stream has more than {max_bytes} bytes of content")
            yield piece


async def _decoded(pieces: AsyncIterator[bytes], compression: str) -> AsyncGenerator[bytes]:
    decoding = Decoding(compression)
    async for piece in pieces:
        decoding.feed(piece)
        while decoding.has_work:
            if output := await asyncio.to_thread(decoding.step):
                yield output
    decoding.close()


async def compressed(pieces: AsyncIterator[bytes], compression: str, level: int | None = None) -> AsyncGenerator[bytes]:
    """Compress a stream; the same bytes in give the same bytes out, however they are cut.

    Args:
        pieces: Of any size; read only as fast as the result is. Closing it is left to the caller.
        compression: A key of ``SUFFIXES``.
        level: In the method's own terms; by default 6 for xz and gzip, 9 for bzip2, 3 for zstd, 5 for br.

    Yields:
        Pieces that are not empty and not longer than 1 MiB.

    Raises:
        InvalidObject: The method or the level is unknown.
    """
    compressor = None if compression == _NONE else _compressor(compression, level)
    async with aclosing(_cut(pieces) if compressor is None else _portions(pieces)) as parts:
        async for part in parts:
            if compressor is None:
                yield part
                continue
            for output in _slices(await asyncio.to_thread(compressor.compress, part), _STEP_BYTES):
                yield output
    if compressor is not None:
        for output in _slices(await asyncio.to_thread(compressor.flush), _STEP_BYTES):
            yield output


def _slices(data: bytes, n_bytes: int) -> Iterator[bytes]:
    if len(data) <= n_bytes:
        if data:
            yield data
        return
    for start in range(0, len(data), n_bytes):
        yield data[start : start + n_bytes]


async def _cut(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for piece in pieces:
        for part in _slices(piece, _STEP_BYTES):
            yield part


async def _portions(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The stream in pieces of 1 MiB, the last one aside: what brotli makes of it depends on how it is cut."""
    gathered: list[bytes] = []
    left = _STEP_BYTES
    async for piece in pieces:
        start = 0
        while len(piece) - start >= left:
            gathered.append(piece[start : start + left])
            start += left
            yield b"".join(gathered)
            gathered.clear()
            left = _STEP_BYTES
        if start < len(piece):
            gathered.append(piece[start:])
            left -= len(piece) - start
    if gathered:
        yield b"".join(gathered)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _BrotliCompressor:
    def __init__(self, level: int) -> None:
        self._compressor = brotli.Compressor(quality=level)

    def compress(self, data: bytes) -> bytes:
        output: bytes = self._compressor.process(data)
        return output

    def flush(self) -> bytes:
        output: bytes = self._compressor.finish()
        return output


_COMPRESSORS: dict[str, Callable[[int], _Compressor]] = {
    "xz": lambda level: lzma.LZMACompressor(lzma.FORMAT_XZ, preset=level),
    "bzip2": bz2.BZ2Compressor,
    "gzip": lambda level: zlib.compressobj(level, wbits=31),
    "zstd": lambda level: zstandard.ZstdCompressor(level, write_checksum=True).compressobj(),
    "br": _BrotliCompressor,
}


def _compressor(compression: str, level: int | None) -> _Compressor:
    try:
        new = _COMPRESSORS[compression]
    except KeyError:
        raise _unknown(compression) from None
    lowest, highest, default = _LEVELS[compression]
    if level is None:
        level = default
    elif not lowest <= level <= highest:
        raise InvalidObject(f"{compression} has levels {lowest} to {highest}, not {level}")
    return new(level)


def _unknown(compression: str) -> InvalidObject:
    return InvalidObject(f"compression {compression[:40]!r} is none of {', '.join(SUFFIXES)}")
