"""Reading frames from packs: decoded as a whole, and kept for a while, since their neighbours are wanted next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

from tvix_store.errors import CorruptObject
from tvix_store_fs import frame
from tvix_store_fs.index import Place
from tvix_store_fs.pack import Packs

__all__ = ["Decoded", "FrameReader"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A frame in memory.

    Args:
        raw: Its payload, decoded.
        ranges: Where each piece is in it, by digest.
    """

    raw: bytes
    ranges: dict[bytes, tuple[int, int]]

    def piece(self, digest: bytes) -> bytes | None:
        """The piece with this digest, not checked; ``None`` if it is not listed in the frame."""
        found = self.ranges.get(digest)
        if found is None:
            return None
        start, end = found
        return self.raw if end - start == len(self.raw) else self.raw[start:end]


class FrameReader:
    """Reads frames, in any thread. What several threads ask for at once is decoded once.

    Args:
        packs: Where they are.
        cache_bytes: How much is kept, decoded. Frames of a single piece are not kept: whoever reads a large blob
            has the piece that it is at already.
    """

    def __init__(self, packs: Packs, cache_bytes: int) -> None:
        self.packs = packs
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._cached: OrderedDict[int, tuple[Future[Decoded], int]] = OrderedDict()
        self._cached_bytes = 0

    def read(self, place: Place) -> Decoded:
        """The frame at ``place``. Its pieces are not checked against their digests.

        Raises:
            CorruptObject: It is damaged so that it cannot be decoded.
            PackGone: The pack has been removed; look up again where things are.
            Unavailable: It could not be read.
        """
        with self._lock:
            found = self._cached.get(place.frame)
            if found is None:
                mine: Future[Decoded] = Future()
                self._cached[place.frame] = (mine, place.raw)
                self._cached_bytes += place.raw
            else:
                self._cached.move_to_end(place.frame)
        if found is not None:
            return found[0].result()
        try:
            decoded = self.read_uncached(place)
        except BaseException as exc:
            mine.set_exception(exc)
            self._forget(place.frame, mine)
            raise
        mine.set_result(decoded)
        if len(decoded.ranges) == 1:
            self._forget(place.frame, mine)
        else:
            self._evict()
        return decoded

    def _forget(self, number: int, mine: Future[Decoded]) -> None:
        with self._lock:
            found = self._cached.get(number)
            if found is not None and found[0] is mine:
                del self._cached[number]
                self._cached_bytes -= found[1]

    def _evict(self) -> None:
        with self._lock:
            while self._cached_bytes > self._cache_bytes and self._cached:
                _, (_, size) = self._cached.popitem(last=False)
                self._cached_bytes -= size

    def read_uncached(self, place: Place) -> Decoded:
        """As ``read``, from the disk."""
        header, payload = self.read_stored(place)
        try:
            return Decoded(frame.decode(header, payload), header.ranges())
        except CorruptObject as exc:
            raise self.corrupt(place, str(exc)) from exc

    def read_sound(self, place: Place) -> Decoded:
        """As ``read``, with all checksums checked.

        Raises:
            CorruptObject: Anything is wrong with it.
        """
        header, payload = self.read_stored_sound(place)
        return Decoded(frame.decode(header, payload), header.ranges())

    def read_stored_sound(self, place: Place) -> tuple[frame.Frame, memoryview]:
        """As ``read_stored``, with all checksums checked.

        Raises:
            CorruptObject: Anything is wrong with it.
        """
        header, payload = self.read_stored(place)
        if not header.is_sound():
            raise self.corrupt(place, "its header is damaged")
        if not header.has_payload(payload):
            raise self.corrupt(place, "its payload is damaged")
        return header, payload

    def read_stored(self, place: Place) -> tuple[frame.Frame, memoryview]:
        """The header of the frame at ``place``, and its payload as it is stored.

        Raises:
            CorruptObject: The header is none, or not of a frame of this length.
            PackGone: The pack has been removed.
        """
        pack = self.packs.reader(place.pack)
        if place.position < 0 or place.size < 0 or place.position + place.size > pack.size():
            raise self.corrupt(place, "the index says that there is more, or it has been cut off")
        data = pack.read(place.size, place.position)
        try:
            header = frame.parse_header(data)
            if header.size != place.size or len(data) < place.size or header.raw_bytes != place.raw:
                raise CorruptObject("its header is damaged, or it has been cut off")
        except CorruptObject as exc:
            raise self.corrupt(place, str(exc)) from exc
        return header, memoryview(data)[len(header.header) :]

    def corrupt(self, place: Place, reason: str) -> CorruptObject:
        """The error for what is wrong with the frame at ``place``."""
        return CorruptObject(f"{self.packs.path(place.pack)} at {place.position}: {reason}")

    def clear(self) -> None:
        """Keep nothing any more."""
        with self._lock:
            self._cached.clear()
            self._cached_bytes = 0
