"""Bringing index and packs together again, after a crash or when the index is lost.

What a pack holds behind the point up to which the index knows it to be durable was written by somebody who did not get
to the end: whole frames are taken in, the rest is cut off.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tvix_store.limits import MIB
from tvix_store.sqlite.database import Database
from tvix_store_fs import index, upkeep
from tvix_store_fs.contents import Contents
from tvix_store_fs.frame import Kind
from tvix_store_fs.frame_reader import FrameReader
from tvix_store_fs.index import Entry
from tvix_store_fs.pack import PACK_HEADER_BYTES, PackGone, Packs, ScannedFrame, WritablePack

__all__ = ["recover", "recover_all", "restore"]

logger = logging.getLogger(__name__)

_BATCH_BYTES = 8 * MIB


def recover_all(packs: Packs, database: Database) -> None:
    """Recover the packs that nobody writes to, as far as they need it; before anything is read from the store.

    Blocks; not to be called in the thread that writes to the index.
    """
    known = database.submit_read(index.packs).result()
    there = packs.numbers()
    for number in sorted(known.keys() - set(there)):
        _forget_pack(packs, number, database)
    locked: list[WritablePack] = []
    try:
        for number in there:
            pack = None
            with contextlib.suppress(PackGone):  # compacted meanwhile
                row = known.get(number)
                if row is not None and row.end == row.synced == packs.reader(number).size():
                    continue
                pack = packs.lock(number)
            if pack is None:  # its writer is alive, and takes care of it
                continue
            locked.append(pack)
            if not packs.has_header(number):
                locked.pop()
                _put_aside(pack)
                if number in known:
                    _forget_pack(packs, number, database)
        recover(packs, locked, database)
    finally:
        for pack in locked:
            pack.close()


def _forget_pack(packs: Packs, number: int, database: Database) -> None:
    """Forget a pack that is not there, with all that was in it."""
    frames = [place.frame for place in database.submit_read(partial(index.frames_in, pack=number)).result()]
    if frames:
        logger.error("%s is missing, and what was in it is lost until it is put again", packs.path(number))
    database.submit(partial(_forget, packs=packs, number=number, frames=frames)).result()


def _put_aside(pack: WritablePack) -> None:
    """See to a file that is called like a pack and is none."""
    if pack.end < PACK_HEADER_BYTES:  # its writer was killed when it had just made it
        pack.remove()
    else:
        logger.error("%s: is no pack, and passed over", pack.path)
    pack.close()


def recover(packs: Packs, locked: Sequence[WritablePack], database: Database) -> None:
    """Bring packs and what the index has of them together. Blocks.

    Args:
        packs: Where they are.
        locked: The packs, which are locked.
        database: The index.
    """
    known = database.submit_read(index.packs).result()
    lists: list[tuple[int, list[Entry]]] = []
    settled: list[_Settled] = []
    for pack in locked:
        row = known.get(pack.number)
        if row is not None and row.end == row.synced == pack.end:
            continue
        start = end = PACK_HEADER_BYTES if row is None else min(row.synced, pack.end)
        found: set[int] = set()
        for batch in _batches(packs.scan(pack.number, start)):
            found.update(entry.position for entry in batch)
            end = batch[-1].position + batch[-1].size
            pieces = [entry for entry in batch if entry.kind == Kind.PIECES]
            database.submit(partial(index.add, pack=pack.number, entries=pieces)).result()
            lists.append((pack.number, [entry for entry in batch if entry.kind == Kind.LISTS]))
        if pack.end > end:
            logger.warning("%s: cut off %d bytes that were not written to their end", pack.path, pack.end - end)
            pack.cut(end)
        pack.unsynced_bytes = pack.end - start  # nobody knows what of it is durable
        pack.sync()
        places = database.submit_read(partial(index.frames_in, pack=pack.number)).result()
        torn = [place.frame for place in places if place.position >= start and place.position not in found]
        settled.append(_Settled(pack.number, end, torn))
    for number, entries in lists:  # their chunks may be in any of the packs
        database.submit(partial(index.add, pack=number, entries=entries, strictly=False)).result()
    if settled:  # until this is done, all of the above is done again
        # Durable, since other frames will be where torn ones were, and must never be taken for them.
        database.submit(partial(_settle, packs=packs, settled=settled), durable=True).result()


@dataclass(frozen=True, slots=True)
class _Settled:
    number: int
    end: int
    torn: Sequence[int]


def _batches(frames: Iterator[ScannedFrame]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    n_bytes = 0
    for scanned in frames:
        header = scanned.header
        payload = scanned.payload if header.kind == Kind.LISTS else b""
        batch.append(Entry(scanned.position, header.size, header.kind, header.raw_bytes, header.records(), payload))
        n_bytes += header.size
        if n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _settle(connection: sqlite3.Connection, packs: Packs, settled: Sequence[_Settled]) -> None:
    for pack in settled:
        index.drop_frames(connection, pack.torn)
        index.set_pack(connection, pack.number, pack.end, pack.end)
    if any(pack.torn for pack in settled):
        _drop_broken_lists(connection, packs)


def _forget(connection: sqlite3.Connection, packs: Packs, number: int, frames: Sequence[int]) -> None:
    index.drop_frames(connection, frames)
    _drop_broken_lists(connection, packs)
    index.forget_pack(connection, number)


def _drop_broken_lists(connection: sqlite3.Connection, packs: Packs) -> None:
    """Forget the blobs whose chunks are lost, so that the next put stores them again."""
    contents = Contents("recovery", FrameReader(packs, 0))
    index.drop_lists(connection, {digest: chunks for digest, chunks, _ in contents.broken_lists(connection)})


def restore(packs: Packs, database: Database) -> None:
    """Take everything that packs hold into the index again, as far as it is missing there. Blocks.

    What was deleted since the last compaction comes back with it.
    """
    lists: list[tuple[int, list[Entry]]] = []
    for number, known in sorted(database.submit_read(index.packs).result().items()):
        for batch in _batches(packs.scan(number, PACK_HEADER_BYTES)):
            entries = [entry for entry in batch if entry.position < known.end]
            pieces = [entry for entry in entries if entry.kind == Kind.PIECES]
            database.submit(partial(upkeep.restore, pack=number, entries=pieces)).result()
            lists.append((number, [entry for entry in entries if entry.kind == Kind.LISTS]))
    for number, entries in lists:  # their chunks may be in any of the packs
        database.submit(partial(upkeep.restore, pack=number, entries=entries)).result()
