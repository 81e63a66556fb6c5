"""Decoding of compressed streams in steps, with bounded output; without threads or a loop."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

import brotli  # type: ignore[import-untyped]
import zstandard

from tvix_store.compression_zstd import ZstdFrame
from tvix_store.errors import InvalidObject
from tvix_store.limits import KIB, MIB

__all__ = ["Decoding"]

_STEP_BYTES = 1 * MIB
"""About how much one step gives; pieces are not longer."""

_INPUT_BYTES = 64 * KIB
"""What decoders are given at once; but for zstd, they copy what is left of it at the end of each of many streams."""

_MAX_MEMORY_BYTES = 256 * MIB
"""What an xz decoder may take: the largest preset needs 65 MiB, and dictionaries of 128 MiB exist."""

_ERRORS = (lzma.LZMAError, zlib.error, brotli.error, zstandard.ZstdError, OSError, EOFError)
"""What decoders raise; OSError is bz2's."""

_NO_DATA = memoryview(b"")


class _Decoder(Protocol):
    """Decodes one compressed stream; the interface of ``lzma`` and ``bz2``."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | memoryview: ...

    def decompress(self, data: memoryview, max_length: int) -> bytes: ...


class _GzipMember:
    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._is_full = False  # there may be more output without more input

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._is_full

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: memoryview, max_length: int) -> bytes:
        output = self._decoder.decompress(self._decoder.unconsumed_tail or data, max_length)
        self._is_full = len(output) == max_length or bool(self._decoder.unconsumed_tail)
        return output


class _BrotliStream:
    unused_data = b""  # what follows the end is an error of process()

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self._is_full = False  # there may be more output without more input

    @property
    def eof(self) -> bool:
        return bool(self._decoder.is_finished())

    @property
    def needs_input(self) -> bool:
        return not self._is_full

    def decompress(self, data: memoryview, max_length: int) -> bytes:
        # The limit may be exceeded by the last of the blocks of growing size that the output is gathered in.
        limit = max_length // 4
        output: bytes = self._decoder.process(data, output_buffer_limit=limit)
        self._is_full = len(output) >= limit or not self._decoder.can_accept_more_data()
        return output


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_MEMORY_BYTES)


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "xz": _xz_stream,
    "bzip2": bz2.BZ2Decompressor,
    "gzip": _GzipMember,
    "zstd": ZstdFrame,
    "br": _BrotliStream,
}


class Decoding:
    """Decodes a sequence of streams, in steps."""

    def __init__(self, compression: str) -> None:
        try:
            self._new = _DECODERS[compression]
        except KeyError:
            raise InvalidObject(f"compression {compression[:40]!r} is none of none, {', '.join(_DECODERS)}") from None
        self._compression = compression
        self._decoder = self._new()
        self._input_bytes = _STEP_BYTES if compression == "zstd" else _INPUT_BYTES
        self._input = _NO_DATA
        self._position = 0
        self._n_streams = 0
        self._is_inside = False

    def feed(self, data: bytes) -> None:
        """Take more input; all there was must be used up."""
        self._input = memoryview(data)
        self._position = 0

    @property
    def has_work(self) -> bool:
        """Whether ``step`` can go on with what there is."""
        return self._position < len(self._input) or (self._is_inside and not self._decoder.needs_input)

    def step(self) -> bytes:
        """About the next 1 MiB of output; less if the input is used up."""
        pieces: list[bytes] = []
        left = _STEP_BYTES
        while left > _STEP_BYTES // 2 and self.has_work:
            piece = self._decode(left)
            left -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _decode(self, max_bytes: int) -> bytes:
        data = _NO_DATA
        if not self._is_inside or self._decoder.needs_input:
            if self._n_streams and self._compression == "br":
                raise InvalidObject("br stream goes on behind its end")
            data = self._input[self._position : self._position + self._input_bytes]
            self._position += len(data)
            self._is_inside = True
        try:
            output = self._decoder.decompress(data, max_bytes)
        except _ERRORS as exc:
            what = "is corrupt, or goes on behind its end" if self._n_streams else "is corrupt"
            raise InvalidObject(f"{self._compression} stream {what}: {exc}") from exc
        if self._decoder.eof:
            self._position -= len(self._decoder.unused_data)
            self._decoder = self._new()
            self._is_inside = False
            self._n_streams += 1
        return output

    def close(self) -> None:
        """Check that the input was complete.

        Raises:
            InvalidObject: It was not.
        """
        if self._is_inside or not self._n_streams:
            what = "is truncated, or goes on behind its end" if self._n_streams else "is truncated"
            raise InvalidObject(f"{self._compression} stream {what}")
