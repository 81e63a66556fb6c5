"""Looking whether a frame holds what the index says is in it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from blake3 import blake3

from tvix_store.errors import CorruptObject
from tvix_store_fs import frame, index, upkeep
from tvix_store_fs.frame import Kind
from tvix_store_fs.frame_reader import FrameReader
from tvix_store_fs.index import Place

__all__ = ["Checked", "Wrong", "check"]


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is said to be in a frame and cannot be had.

    Args:
        digest: Of the piece, or of the blob whose list it is.
        is_blob: Whether it is a blob by itself.
        reason: What is wrong.
    """

    digest: bytes
    is_blob: bool
    reason: str


@dataclass(slots=True)
class Checked:
    """What was found out about a frame.

    Args:
        place: Where it is.
        wrong: What cannot be had of it.
        sound: How many pieces and lists that can be seen can be had.
        hidden: Pieces that nobody sees or may need, in a frame that is damaged.
        faults: What else is wrong with it, in words.
        is_misplaced: Whether the index may be to blame.
    """

    place: Place
    wrong: list[Wrong] = field(default_factory=list)
    sound: int = 0
    hidden: list[bytes] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    is_misplaced: bool = False


def check(connection: sqlite3.Connection, reader: FrameReader, place: Place, expected: int | None = None) -> Checked:
    """Look at a frame, and at every piece in it that is found there.

    Args:
        connection: To the index.
        reader: Reads the packs.
        place: Of the frame.
        expected: How many pieces and lists the index has in it, if that is known: if there are others than it lists,
            it is found out then.

    Raises:
        PackGone: The pack has been removed.
    """
    checked = Checked(place)
    try:
        header, payload = reader.read_stored(place)
    except CorruptObject as exc:
        # Without its header nothing in it can be told from anything else.
        checked.is_misplaced = True
        checked.wrong += [
            Wrong(digest, bool(uses & 1), str(exc)) for digest, uses in upkeep.digests_of(connection, place.frame)
        ]
        checked.faults.append(str(exc))
        return checked
    if not header.is_sound():
        checked.faults.append("its header is damaged")
    if not header.has_payload(payload):
        checked.faults.append("its payload is damaged")
    ranges = header.ranges()
    pieces, lists = upkeep.pieces_in(connection, place.frame, list(ranges))
    pieces = {digest: uses for digest, uses in pieces.items() if digest in ranges}  # a damaged index finds others, too
    lists &= ranges.keys()
    if expected is not None and len(pieces) + len(lists) < expected:
        checked.is_misplaced = True
        checked.wrong += [
            Wrong(digest, bool(uses & 1), "the index says it is in this frame, and it is not")
            for digest, uses in upkeep.digests_of(connection, place.frame)
            if digest not in ranges
        ]
    try:
        raw = memoryview(frame.decode(header, payload))
    except CorruptObject as exc:
        checked.wrong += [Wrong(digest, bool(uses & 1), str(exc)) for digest, uses in pieces.items()]
        checked.wrong += [Wrong(digest, True, str(exc)) for digest in lists]
        return checked
    for digest, uses in pieces.items():
        start, end = ranges[digest]
        if blake3(raw[start:end]).digest() != digest:
            checked.wrong.append(Wrong(digest, bool(uses & 1), "what is stored does not hash to it"))
    if header.kind != Kind.LISTS or checked.faults:
        checked.wrong += [Wrong(digest, True, "its list of chunks is damaged") for digest in lists]
    wrong = {one.digest for one in checked.wrong}
    checked.sound = len({digest for digest, uses in pieces.items() if uses} - wrong) + len(lists - wrong)
    if checked.faults and place.frame < index.first_protected_frame(connection):
        checked.hidden += [digest for digest, uses in pieces.items() if not uses]
    return checked
