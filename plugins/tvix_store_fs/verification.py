"""Checking the whole store, forgetting what is damaged in it, and counting what it holds."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial

from tvix_store.digest import DIGEST_BYTES, B3Digest
from tvix_store.errors import CorruptObject
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, verify_in_batches
from tvix_store_fs import index, recovery, upkeep
from tvix_store_fs.checking import Checked, Wrong, check
from tvix_store_fs.compaction import evacuate
from tvix_store_fs.index import Place
from tvix_store_fs.pack import PackGone
from tvix_store_fs.store import PackStore

__all__ = ["discard", "stats", "verify"]

logger = logging.getLogger(__name__)

_FRAMES_AT_ONCE = 16


async def verify(store: PackStore, progress: VerifyProgress) -> AsyncIterator[Damage]:
    """Read every frame, check every piece in it, and compare with the index; what is damaged is forgotten.

    If the index turns out to be wrong, it is completed from the packs.
    """
    misplaced = False
    try:
        for fault in await store.read(_index_faults):
            await asyncio.to_thread(store.layout.ask_for_new_index)
            yield Damage("index", None, store.layout.index, f"{fault}; it is made anew at the next start")
        for digest in await store.database.write(upkeep.drop_strays):
            misplaced = True
            yield Damage("index", _text(digest), store.layout.index, "is in a frame that does not exist")
        places = await store.read(_all_places)
        counts = await store.read(upkeep.counts)
    except CorruptObject as exc:
        await asyncio.to_thread(store.layout.ask_for_new_index)
        yield Damage("index", None, store.layout.index, f"{exc}; it is made anew at the next start")
        return

    async def items() -> AsyncIterator[Place]:
        for place in places:
            yield place

    dropping = asyncio.Lock()

    async def check_some(some: Sequence[Place]) -> tuple[Sequence[Damage], int]:
        nonlocal misplaced
        were_listed = False
        found = await store.read(_check_frames, store, some, counts)
        damages: list[Damage] = []
        for checked in found:
            misplaced = misplaced or checked.is_misplaced
            damages += _damages(store, checked)
            if checked.wrong and await _forget(store, checked.place.frame, checked.wrong):
                were_listed = True
            if checked.sound:
                await store.prepare(evacuate, store, checked.place)
            if checked.hidden:
                drop = partial(index.drop_pieces, frame=checked.place.frame, digests=checked.hidden)
                await store.database.write(drop)
        if were_listed:  # blobs that lack a chunk must not seem to be there until the end of this
            async with dropping:
                damages += await _drop_broken_lists(store)
        return damages, sum(place.size for place in some)

    total = sum(place.size for place in places)
    async for damage in verify_in_batches(items(), check_some, progress, batch_count=_FRAMES_AT_ONCE, total=total):
        yield damage
    if misplaced:
        await asyncio.to_thread(recovery.restore, store.packs, store.database)
    for damage in await _drop_broken_lists(store):
        yield damage


def _text(digest: bytes) -> str | None:
    """A digest from the index as text; ``None`` if it is damaged."""
    return str(B3Digest(digest)) if len(digest) == DIGEST_BYTES else None


def _index_faults(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("PRAGMA integrity_check(8)").fetchall()
    return [text for (text,) in rows if text != "ok"]


def _all_places(connection: sqlite3.Connection) -> list[Place]:
    return [place for pack in upkeep.packs_of_frames(connection) for place in index.frames_in(connection, pack)]


def _check_frames(
    connection: sqlite3.Connection, store: PackStore, places: Sequence[Place], counts: dict[int, int]
) -> list[Checked]:
    found: list[Checked] = []
    for place in places:
        try:
            checked = check(connection, store.reader, place, counts.get(place.frame, 0))
        except PackGone:
            if place.frame in index.places(connection, [place.frame]):
                checked = Checked(place, faults=["the pack is missing"], is_misplaced=True)
                rows = upkeep.digests_of(connection, place.frame)
                checked.wrong = [Wrong(digest, bool(uses & 1), "its pack is missing") for digest, uses in rows]
            else:
                continue  # compacted meanwhile
        if checked.wrong or (checked.faults and (checked.sound or checked.hidden)):
            found.append(checked)
    return found


def _damages(store: PackStore, checked: Checked) -> list[Damage]:
    place = checked.place
    location = f"{store.packs.path(place.pack)} at {place.position}"
    damages = [
        Damage("blob" if wrong.is_blob else "chunk", _text(wrong.digest), location, wrong.reason)
        for wrong in checked.wrong
    ]
    return damages or [Damage("pack", None, location, fault) for fault in checked.faults]


async def _forget(store: PackStore, frame: int, wrong: Sequence[Wrong]) -> bool:
    """Forget what cannot be had of a frame, unless it is elsewhere by now; whether chunks of blobs were among it."""
    digests = [one.digest for one in wrong]
    return await store.database.write(partial(index.drop_pieces, frame=frame, digests=digests))


async def _drop_broken_lists(store: PackStore) -> list[Damage]:
    """Forget blobs of which something is missing, so that the next put stores them; which, and why."""
    broken = await store.read(lambda connection: list(store.contents.broken_lists(connection)))
    if broken:
        lists = {digest: chunks for digest, chunks, _ in broken}
        await store.database.write(partial(index.drop_lists, lists=lists))
    return [Damage("blob", _text(digest), None, reason) for digest, _, reason in broken]


async def discard(store: PackStore, digest: bytes) -> None:
    """Look at everything that is stored for a blob, and forget what of it, and of its neighbours, is damaged."""
    found = await store.read(_check_blob, store, digest)
    were_listed = False
    for checked in found:
        for damage in _damages(store, checked):
            logger.error("%s: %s", store.name, damage)
        if checked.wrong and await _forget(store, checked.place.frame, checked.wrong):
            were_listed = True
    if were_listed or not found:
        await _drop_broken_lists(store)


def _check_blob(connection: sqlite3.Connection, store: PackStore, digest: bytes) -> list[Checked]:
    """The damaged frames among those that a blob is in."""
    frames = set(index.frames_with(connection, [digest]))
    try:
        chunks = store.contents.lists(connection, [digest]).get(digest, [])
    except CorruptObject:
        frames.update(index.frame_of_list(connection, [digest]))
    else:
        frames.update(index.frames_with(connection, [chunk for chunk, _ in chunks]))
    places = index.places(connection, sorted(frame for frame in frames if frame is not None))
    counts = dict.fromkeys(places, 1 << 62)  # so that it is found out whether anything is not listed
    return _check_frames(connection, store, list(places.values()), counts)


async def stats(store: PackStore) -> ServiceStats:
    """What there is. Goes through the whole index."""
    totals = await store.read(upkeep.totals)
    used = await store.read(upkeep.usage)
    stored = await asyncio.to_thread(store.layout.size)
    live = sum(pack.live for pack in used)
    size = sum(pack.size for pack in used)
    return ServiceStats(
        objects=totals.blobs,
        logical_bytes=totals.blob_bytes,
        unique_bytes=totals.piece_bytes,
        stored_bytes=stored,
        details=(
            ("pieces", totals.pieces),
            ("frames", totals.frames),
            ("packs", len(used)),
            ("pack bytes", size),
            ("pack fill", round(live / size, 4) if size else 1.0),
            ("index bytes", stored - size),
        ),
    )
