"""Storing a batch of blobs: what is missing of them is encoded and appended at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tvix_store_fs import index
from tvix_store_fs.encoding import Piece, Pieces, frames_of_lists, frames_of_pieces, split
from tvix_store_fs.frame import EncodedFrame
from tvix_store_fs.index import Vanished
from tvix_store_fs.store import PackStore

__all__ = ["put"]


async def put(store: PackStore, blobs: Sequence[tuple[bytes, bytes]]) -> None:
    """Store blobs, given with their digests; those that are there already are passed over.

    Raises:
        OutOfSpace: None of those that were missing can be seen.
        Unavailable: The same.
    """
    left = dict(blobs)
    while left:
        with store.in_flight.claim(left) as mine:
            await _put(store, {digest: left.pop(digest) for digest in mine})
        await store.in_flight.settled(left)


async def _put(store: PackStore, blobs: dict[bytes, bytes]) -> None:
    try:
        await _put_missing(store, blobs)
    except Vanished:  # what made some of it unnecessary has been deleted since
        await _put_missing(store, blobs)


async def _put_missing(store: PackStore, blobs: dict[bytes, bytes]) -> None:
    missing = await _missing(store, blobs)
    if missing.pieces or missing.lists:
        frames = await store.prepare(_encode, store, missing)
        await asyncio.wrap_future(store.appender.submit(frames))


def _encode(store: PackStore, pieces: Pieces) -> list[EncodedFrame]:
    return [*frames_of_pieces(pieces.pieces, store.encoding), *frames_of_lists(pieces.lists)]


async def _missing(store: PackStore, blobs: dict[bytes, bytes]) -> Pieces:
    """What has to be stored so that all of ``blobs`` are there."""
    present = await store.read(index.blobs_among, list(blobs))
    absent = [blob for blob, is_there in zip(blobs.items(), present, strict=True) if not is_there]
    if not absent:
        return Pieces()
    average = store.parameters.avg_chunk_size
    if all(len(data) <= average // 2 for _, data in absent):
        pieces = split(absent, average)
    else:
        pieces = await store.prepare(split, absent, average)
    frames = await store.read(index.frames_of, [digest for digest, _, _ in pieces.pieces])
    missing: dict[bytes, Piece] = {}
    for (digest, data, is_blob), frame in zip(pieces.pieces, frames, strict=True):
        if frame is None:
            known = missing.get(digest)
            missing[digest] = digest, data, is_blob or (known is not None and known[2])
        elif is_blob:  # it is there as a chunk of others; a list makes it a blob
            pieces.lists.append((digest, [(digest, len(data))]))
    return Pieces(list(missing.values()), pieces.lists)
