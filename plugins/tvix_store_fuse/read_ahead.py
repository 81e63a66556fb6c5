"""Which pieces of large files are fetched before they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from tvix_store.limits import KIB, MIB
from tvix_store_fuse.layouts import Layout

__all__ = ["ReadAhead"]

_LEAST_BYTES = 512 * KIB
_BATCH_BYTES = 2 * MIB
_NEAR_BYTES = 1 * MIB
"""The kernel reads ahead with several requests at once, which may arrive in any order."""

_MAX_STREAMS = 256
_MAX_PIECES = 4096
"""Started with one read, should the chunks be tiny."""

_IDLE_READS = 256
"""Whoever did not read on while so many others read gives way to them."""


class _Stream:
    """Where the reading of a blob has come to."""

    __slots__ = ("end", "frontier", "n_read", "window")

    def __init__(self, end: int) -> None:
        self.end = end  # one past the last byte that was read
        self.frontier = end  # one past the last byte that was asked for
        self.window = 0  # how much is asked for ahead; 0: it is not read from start to end
        self.n_read = 0  # the number of the last read

    @property
    def ahead(self) -> int:
        return max(self.frontier - self.end, 0)


class ReadAhead:
    """Recognises blobs that are read from start to end, and has what follows fetched.

    A read is taken for such a one if it starts within 1 MiB of where the blob was read last. The more is read, the
    more is fetched ahead: 512 KiB at first, in batches of 2 MiB at most.

    Args:
        start: Has pieces of a layout fetched that follow each other; those at hand or under way it passes over.
        max_bytes: How much at most lies between a reader and what was asked for.
        budget_bytes: The same for all together.
    """

    def __init__(self, start: Callable[[Layout, range], None], max_bytes: int, budget_bytes: int) -> None:
        self._start = start
        self._max_bytes = max_bytes
        self._budget_bytes = budget_bytes
        self._streams: OrderedDict[tuple[bytes, int], _Stream] = OrderedDict()  # the one read last is last
        self._ahead_bytes = 0  # of all streams
        self._n_reads = 0

    def note(self, layout: Layout, offset: int, end: int) -> None:
        """Somebody reads these bytes of a blob."""
        self._n_reads += 1
        key = (layout.digest.raw, layout.size)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(end)
            if len(self._streams) > _MAX_STREAMS:
                self._retire(next(iter(self._streams)))
        else:
            self._streams.move_to_end(key)
            before = stream.ahead
            reads_on = abs(offset - stream.end) <= _NEAR_BYTES
            if not reads_on:
                stream.end = stream.frontier = end
                stream.window = 0
            stream.end = max(end, stream.end)
            self._ahead_bytes += stream.ahead - before
            if reads_on:
                self._go_on(layout, stream)
        stream.n_read = self._n_reads

    def _go_on(self, layout: Layout, stream: _Stream) -> None:
        """Ask for more, if half of what was asked for has been read."""
        if stream.ahead * 2 >= stream.window > 0:
            return
        stream.window = min(max(2 * stream.window, _LEAST_BYTES), self._max_bytes)
        before = stream.ahead
        frontier = max(stream.frontier, stream.end)
        target = min(stream.end + stream.window, layout.size)
        if frontier >= target:
            return
        most = stream.end + self._room(target - stream.end, stream)
        first = last = layout.indices(frontier, target).start
        for last in layout.indices(frontier, target)[:_MAX_PIECES]:
            after = layout.start(last + 1)
            if after > most:
                break
            frontier = after
            if after - layout.start(first) >= _BATCH_BYTES:
                self._start(layout, range(first, last + 1))
                first = last + 1
        else:
            last += 1
        if first < last:
            self._start(layout, range(first, last))
        stream.frontier = frontier
        self._ahead_bytes += stream.ahead - before

    def _room(self, n_bytes: int, stream: _Stream) -> int:
        """How much may be ahead of a reader who would like ``n_bytes``."""
        others = self._ahead_bytes - stream.ahead
        while others + n_bytes > self._budget_bytes:
            key, oldest = next(iter(self._streams.items()))
            if self._n_reads - oldest.n_read < _IDLE_READS or oldest is stream:
                break
            others -= oldest.ahead
            self._retire(key)
        return self._budget_bytes - others

    def _retire(self, key: tuple[bytes, int]) -> None:
        self._ahead_bytes -= self._streams.pop(key).ahead
