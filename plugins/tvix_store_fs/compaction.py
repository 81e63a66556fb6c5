"""Giving the space of what was deleted back: what is alive in a pack moves to another, then the pack is removed."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from blake3 import blake3

from tvix_store.errors import CorruptObject
from tvix_store.limits import MIB
from tvix_store_fs import frame, index, recovery, upkeep
from tvix_store_fs.encoding import FRAME_BYTES, Piece
from tvix_store_fs.frame import EncodedFrame, Kind
from tvix_store_fs.index import Place
from tvix_store_fs.pack import WritablePack
from tvix_store_fs.store import PackStore

__all__ = ["compact", "evacuate"]

logger = logging.getLogger(__name__)

_WORTH_COMPACTING = 0.8
"""A pack of which more than this part is alive is left alone, and so is a frame."""

_MOVING_BYTES = 8 * MIB
_ATTEMPTS = 3


async def compact(store: PackStore) -> int:
    """Rewrite packs of which much is dead, those aside that somebody writes to.

    Returns:
        By how many bytes the store has shrunk; not below 0.

    Raises:
        OutOfSpace: There is no room for the copies; nothing is lost.
    """
    return await store.prepare(_compact, store)


def _compact(store: PackStore) -> int:
    before = store.layout.size()
    _drop_dead_uploads(store)
    store.appender.run(store.appender.leave_pack).result()
    used = store.database.submit_read(upkeep.usage).result()
    locked = [
        pack
        for usage in used
        if usage.live <= _WORTH_COMPACTING * usage.size and (pack := store.packs.lock(usage.pack)) is not None
    ]
    try:
        recovery.recover(store.packs, locked, store.database)
        for pack in locked:
            try:
                _empty(store, pack)
            except CorruptObject as exc:
                logger.error("%s: %s is left as it is: %s", store.name, pack.path, exc)
    finally:
        for pack in locked:
            pack.close()
    return max(0, before - store.layout.size())


def _drop_dead_uploads(store: PackStore) -> None:
    for name in store.database.submit_read(index.uploads).result():
        if not store.liveness.is_alive(name):
            store.database.submit(partial(index.drop_upload, name=name)).result()


def _empty(store: PackStore, pack: WritablePack) -> None:
    """Move what is alive, and remove the pack once nothing is."""
    for _ in range(_ATTEMPTS):  # something may come to life again meanwhile: a chunk that a new blob has, too
        listed = _move_live(store, pack.number)
        remove = partial(_remove, number=pack.number, listed=listed)
        if store.appender.submit([], remove, durable=True).result():
            pack.remove()
            store.packs.forget_removed()
            store.packs.sync_names()
            return


def _remove(
    connection: sqlite3.Connection, pack: int, entries: object, number: int, listed: dict[int, list[bytes]]
) -> bool:
    return upkeep.remove_pack(connection, number, listed)


@dataclass(slots=True)
class _Group:
    """Pieces that will share a frame, and the frames that they come from."""

    pieces: list[Piece] = field(default_factory=list)
    sources: dict[int, list[bytes]] = field(default_factory=dict)
    n_bytes: int = 0

    def add(self, place: Place, piece: Piece) -> None:
        self.pieces.append(piece)
        self.sources.setdefault(place.frame, []).append(piece[0])
        self.n_bytes += len(piece[1])


class _Mover:
    """Appends copies, a bounded number of bytes ahead of those that are stored."""

    def __init__(self, store: PackStore) -> None:
        self._store = store
        self._under_way: deque[tuple[Future[Any], int]] = deque()
        self._bytes = 0
        self._groups = {Kind.PIECES: _Group(), Kind.LISTS: _Group()}

    def copy(self, encoded: EncodedFrame, sources: dict[int, list[bytes]]) -> None:
        """Append a frame as it is."""
        step = partial(upkeep.move, moved=[sources])
        self._under_way.append((self._store.appender.submit([encoded], step, lazy=True, synced=True), encoded.size))
        self._bytes += encoded.size
        while self._bytes > _MOVING_BYTES:
            self._wait()

    def _wait(self) -> None:
        moving, size = self._under_way.popleft()
        moving.result()
        self._bytes -= size

    def add(self, kind: Kind, place: Place, piece: Piece) -> None:
        """Append a piece, or a list, in a frame together with others."""
        group = self._groups[kind]
        if group.pieces and group.n_bytes + len(piece[1]) > FRAME_BYTES:
            self._flush(kind)
            group = self._groups[kind]
        group.add(place, piece)

    def _flush(self, kind: Kind) -> None:
        group, self._groups[kind] = self._groups[kind], _Group()
        if group.pieces:
            self.copy(frame.encode(kind, group.pieces), group.sources)

    def finish(self) -> None:
        """Return when everything is stored."""
        for kind in list(self._groups):
            self._flush(kind)
        while self._under_way:
            self._wait()


def _move_live(store: PackStore, number: int) -> dict[int, list[bytes]]:
    """Copy what is alive in a pack; the digests that its frames list."""
    mover = _Mover(store)
    listed: dict[int, list[bytes]] = {}
    for place in store.database.submit_read(partial(index.frames_in, pack=number)).result():
        try:
            header, payload = store.reader.read_stored_sound(place)
        except CorruptObject:
            found = store.database.submit_read(partial(upkeep.digests_of, frame=place.frame)).result()
            listed[place.frame] = [digest for digest, _ in found]
            if any(store.database.submit_read(partial(_live, place=place, digests=listed[place.frame])).result()):
                raise
            continue
        records = header.records()
        listed[place.frame] = [record.digest for record in records]
        pieces, lists = store.database.submit_read(partial(_live, place=place, digests=listed[place.frame])).result()
        alive = pieces.keys() | lists
        if not alive:
            continue
        kind = Kind(header.kind)
        live_bytes = sum(record.length for record in records if record.digest in alive)
        if live_bytes > _WORTH_COMPACTING * header.raw_bytes:
            encoded = EncodedFrame(records, kind, header.raw_bytes, header.header, bytes(payload))
            mover.copy(encoded, {place.frame: list(alive)})
            continue
        raw = memoryview(_decode(store, place, header, payload))
        for digest, (start, end) in header.ranges().items():
            if digest in alive:
                mover.add(kind, place, (digest, raw[start:end], digest in lists or bool(pieces[digest] & 1)))
    mover.finish()
    return listed


def evacuate(store: PackStore, place: Place) -> None:
    """Copy what can be had of a damaged frame, so that nothing is in it any more. Blocks; in a preparing thread.

    What is wrong in it has been forgotten.
    """
    header, payload = store.reader.read_stored(place)
    raw = memoryview(_decode(store, place, header, payload))
    digests = [record.digest for record in header.records()]
    pieces, lists = store.database.submit_read(partial(_live, place=place, digests=digests)).result()
    mover = _Mover(store)
    for digest, (start, end) in header.ranges().items():
        if digest in lists or (digest in pieces and blake3(raw[start:end]).digest() == digest):
            is_blob = digest in lists or bool(pieces[digest] & 1)
            # The kind is not what the header says, which is damaged.
            kind = Kind.LISTS if digest in lists else Kind.PIECES
            mover.add(kind, place, (digest, raw[start:end], is_blob))
    mover.finish()


def _decode(store: PackStore, place: Place, header: frame.Frame, payload: memoryview) -> bytes:
    try:
        return frame.decode(header, payload)
    except CorruptObject as exc:
        raise store.reader.corrupt(place, str(exc)) from exc


def _live(
    connection: sqlite3.Connection, place: Place, digests: Sequence[bytes]
) -> tuple[dict[bytes, int], set[bytes]]:
    protected = index.first_protected_frame(connection)
    pieces, lists = upkeep.pieces_in(connection, place.frame, digests)
    return {digest: uses for digest, uses in pieces.items() if uses > 0 or place.frame >= protected}, lists
