"""Decoding of zstd with bounded output, which the zstandard package has no interface for.

A block of four bytes may stand for 128 KiB, so input must be given to the decoder with an eye on what comes out.
This walks over the frame's structure, which takes no decoding, and gives the decoder whole blocks, a few at a time.
Source: RFC 8878, section 3.1.
"""

from __future__ import annotations

import zstandard

from tvix_store.errors import InvalidObject
from tvix_store.limits import KIB, MIB

__all__ = ["ZstdFrame"]

_BLOCK_BYTES = 128 * KIB
"""No block is larger, compressed or not."""

_MAX_WINDOW_BYTES = 128 * MIB
"""What the decoder may keep of its output; ``zstd --ultra -22`` needs this much, ``--long=31`` more."""

_MAGIC = 0xFD2FB528
_SKIPPABLE_MAGIC = 0x184D2A50
"""The last four bits may be anything."""

_RLE, _RESERVED = 1, 3

_HEADER, _BLOCK, _CHECKSUM, _SKIPPED = range(4)


class ZstdFrame:
    """Decodes one frame, and can be used like ``bz2.BZ2Decompressor``. A skippable frame decodes to nothing."""

    def __init__(self) -> None:
        self.eof = False
        self.needs_input = True
        self.unused_data: bytes | memoryview = b""
        self._decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj()
        self._state = _HEADER  # what comes next
        self._has_checksum = False
        self._to_skip = 0
        self._held = memoryview(b"")  # given, but not to the decoder yet

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """The next bytes of the content.

        Args:
            data: More of the stream; what is behind the end of the frame is then in ``unused_data``.
            max_length: Of the result, at least 128 KiB.

        Raises:
            InvalidObject: It is no frame, or one with a window of more than 128 MiB.
            zstandard.ZstdError: A block is corrupt.
        """
        held = memoryview(b"".join((self._held, data))) if self._held else memoryview(data)
        position = coded = 0  # of what is held: up to where it was taken, and up to where it is for the decoder
        left = max_length
        self.needs_input = False
        while not self.eof and left >= _BLOCK_BYTES:
            state = self._state
            n_bytes = self._take(held, position)
            if not n_bytes:
                self.needs_input = True
                break
            position += n_bytes
            if state is not _SKIPPED and self._state is not _SKIPPED:
                coded = position
            if state is _BLOCK:
                left -= _BLOCK_BYTES
        output = self._decoder.decompress(held[:coded]) if coded else b""
        if self.eof:
            self.unused_data, self._held = held[position:], memoryview(b"")
        else:
            self._held = held[position:]
        return output

    def _take(self, held: memoryview, position: int) -> int:
        """Step over what comes next; how long it is, or 0 if there is not all of it."""
        there = len(held) - position
        if self._state == _BLOCK:
            header = int.from_bytes(held[position : position + 3], "little")
            kind = header >> 1 & 3
            size = 1 if kind == _RLE else header >> 3
            if there >= 3 and (kind == _RESERVED or size > _BLOCK_BYTES or header >> 3 > _BLOCK_BYTES):
                raise InvalidObject("zstd stream is corrupt: bad block header")
            if there < 3 + size:
                return 0
            if header & 1:  # the last one
                self._state = _CHECKSUM
                self.eof = not self._has_checksum
            return 3 + size
        if self._state == _SKIPPED:
            n_bytes = min(there, self._to_skip)
            self._to_skip -= n_bytes
            self.eof = not self._to_skip
            return n_bytes
        if self._state == _CHECKSUM:
            self.eof = there >= 4
            return 4 if self.eof else 0
        return self._take_header(held, position, there)

    def _take_header(self, held: memoryview, position: int, there: int) -> int:
        if there < 5:  # of the shortest header
            return 0
        magic = int.from_bytes(held[position : position + 4], "little")
        if magic & ~0xF == _SKIPPABLE_MAGIC:
            if there < 8:
                return 0
            self._to_skip = int.from_bytes(held[position + 4 : position + 8], "little")
            self._state = _SKIPPED
            self.eof = not self._to_skip
            return 8
        if magic != _MAGIC:
            raise InvalidObject("zstd stream is corrupt, or goes on behind its end: no frame begins here")
        size = zstandard.frame_header_size(held[position : position + 5])
        if there < size:
            return 0
        parameters = zstandard.get_frame_parameters(held[position : position + size])
        if parameters.window_size > _MAX_WINDOW_BYTES:
            raise InvalidObject(
                f"zstd stream wants a window of {parameters.window_size} bytes, at most {_MAX_WINDOW_BYTES} are allowed"
            )
        self._has_checksum = parameters.has_checksum
        self._state = _BLOCK
        return size
