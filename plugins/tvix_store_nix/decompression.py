"""Decompression of NARs: what core knows, and what Nix can write besides but hardly anybody lets it."""

from __future__ import annotations

import asyncio
import lzma
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from tvix_store import compression as core
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.limits import MIB

__all__ = ["METHODS", "decompressed"]

_LZMA = ("lzma", "lzip")
"""Methods that liblzma tells apart by itself; lzip from its version 5.4 on."""

METHODS = (*core.SUFFIXES, *_LZMA)

_PIECE_BYTES = 1 * MIB
_MAX_MEMORY_BYTES = 256 * MIB


async def decompressed(pieces: AsyncIterator[bytes], method: str, max_bytes: int) -> AsyncGenerator[bytes]:
    """Decompress a stream, as ``tvix_store.compression.decompressed`` does.

    Args:
        pieces: Of any size.
        method: One of ``METHODS``.
        max_bytes: How much may come out.

    Raises:
        InvalidObject: The method is unknown, or the input is corrupt, truncated or goes on behind its end.
        LimitExceeded: More would come out.
    """
    if method not in METHODS:
        raise InvalidObject(f"compression {method[:40]!r} is none of {', '.join(METHODS)}")
    if method not in _LZMA:
        async with aclosing(core.decompressed(pieces, method, max_bytes=max_bytes)) as decoded:
            async for piece in decoded:
                yield piece
        return
    total = 0
    async with aclosing(_lzma_decoded(pieces, method)) as decoded:
        async for piece in decoded:
            total += len(piece)
            if total > max_bytes:
                raise LimitExceeded(f"{method} stream has more than {max_bytes} bytes of content")
            yield piece


async def _lzma_decoded(pieces: AsyncIterator[bytes], method: str) -> AsyncGenerator[bytes]:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_AUTO, _MAX_MEMORY_BYTES)
    async for piece in pieces:
        rest = piece
        while rest or not (decoder.needs_input or decoder.eof):
            if decoder.eof:  # of one member; lzip may have several
                decoder = lzma.LZMADecompressor(lzma.FORMAT_AUTO, _MAX_MEMORY_BYTES)
            try:
                output = await asyncio.to_thread(decoder.decompress, rest, _PIECE_BYTES)
            except (lzma.LZMAError, EOFError) as exc:
                raise InvalidObject(f"{method} stream is corrupt, or goes on behind its end: {exc}") from exc
            rest = decoder.unused_data if decoder.eof else b""
            if output:
                yield output
    if not decoder.eof:
        raise InvalidObject(f"{method} stream is truncated")
