"""Content-defined chunk boundaries, the same that the Rust stores choose, so that stores can share chunks.

FastCDC in its 2020 form, normalisation level 1, with half the average as the least and twice the average as the
greatest length. Boundaries follow from content and average alone, never from how the data arrived.

Source: Xia and others, "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems"
(IEEE TPDS 31, 2020), in the byte-wise form of the Rust crate ``fastcdc`` 3.1.
"""

from __future__ import annotations

from pyfastcdc import FastCDC

from tvix_store.limits import KIB

__all__ = ["AVERAGE_CHUNK_BYTES", "Chunker", "cut"]

AVERAGE_CHUNK_BYTES = 256 * KIB
"""What stores use unless told otherwise; with another average they share no chunks."""

_LEAST_AVERAGE_BYTES = 512
_GREATEST_AVERAGE_BYTES = 2 * 1024 * KIB + 1


def _fastcdc(average_bytes: int) -> FastCDC:
    if not _LEAST_AVERAGE_BYTES <= average_bytes <= _GREATEST_AVERAGE_BYTES:
        raise ValueError(
            f"average chunk size {average_bytes} is not between {_LEAST_AVERAGE_BYTES} and {_GREATEST_AVERAGE_BYTES}"
        )
    return FastCDC(average_bytes, min_size=average_bytes // 2, max_size=average_bytes * 2, normalized_chunking=1)


def cut(data: bytes | memoryview, average_bytes: int = AVERAGE_CHUNK_BYTES) -> list[memoryview]:
    """The chunks of ``data`` in their order, not copied; none if it is empty.

    Raises:
        ValueError: ``average_bytes`` is not between 512 and 2097153.
    """
    return [chunk.data for chunk in _fastcdc(average_bytes).cut_buf(data)]


class Chunker:
    """Cuts a stream into chunks as it comes; holds less than one of the greatest length meanwhile.

    Args:
        average_bytes: The average that is aimed at.

    Raises:
        ValueError: ``average_bytes`` is not between 512 and 2097153.
    """

    def __init__(self, average_bytes: int = AVERAGE_CHUNK_BYTES) -> None:
        self._fastcdc = _fastcdc(average_bytes)
        self.min_bytes = average_bytes // 2
        self.max_bytes = average_bytes * 2
        self._held: list[bytes] = []
        self._held_bytes = 0

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take what comes next, of any length; the chunks whose ends are now known."""
        if self._held_bytes + len(data) < self.max_bytes:
            # The next boundary may depend on what follows. Not to look before it cannot keeps tiny pieces cheap.
            self._held.append(bytes(data))
            self._held_bytes += len(data)
            return []
        buffer = b"".join((*self._held, data)) if self._held else data
        self._held.clear()
        self._held_bytes = 0
        return self._cut(buffer, more=True)

    def finish(self) -> list[bytes]:
        """The last chunks, at the end of the stream; the chunker is then ready for another."""
        buffer = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return self._cut(buffer, more=False)

    def _cut(self, buffer: bytes | memoryview, *, more: bool) -> list[bytes]:
        chunks: list[bytes] = []
        for chunk in self._fastcdc.cut_buf(buffer):
            if more and chunk.offset + chunk.length == len(buffer) and chunk.length < self.max_bytes:
                # It ends here only because the data does: no boundary was found in it.
                self._held.append(bytes(chunk.data))
                self._held_bytes = chunk.length
            else:
                chunks.append(bytes(chunk.data))
        return chunks
