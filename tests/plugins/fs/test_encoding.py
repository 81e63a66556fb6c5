"""From blobs to frames."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tvix_store.chunking import cut
from tvix_store.limits import KIB
from tvix_store.testing.fixtures import contents
from tvix_store_fs.encoding import FRAME_BYTES, Encoders, Piece, frames_of_lists, frames_of_pieces, split
from tvix_store_fs.frame import Kind, decode, iter_chunks, parse_header

AVERAGE = 4 * KIB


@pytest.fixture(scope="module")
def encoders() -> Iterator[Encoders]:
    encoders = Encoders(2)
    yield encoders
    encoders.shutdown()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40_000), max_size=6, unique=True))
def test_blobs_are_split_as_they_are_cut(sizes: list[int]) -> None:
    blobs = {blake3(data).digest(): data for data in (contents(size, size) for size in sizes)}
    made = split(blobs.items(), AVERAGE)
    pieces = {digest: bytes(data) for digest, data, _ in made.pieces}
    lists = dict(made.lists)
    for blob, data in blobs.items():
        chunks = [bytes(chunk) for chunk in cut(data, AVERAGE)]
        if len(chunks) > 1:
            assert lists[blob] == [(blake3(chunk).digest(), len(chunk)) for chunk in chunks]
            assert b"".join(pieces[digest] for digest, _ in lists[blob]) == data
        else:
            assert blob not in lists
            assert pieces[blob] == data
    assert {digest for digest, _, is_blob in made.pieces if is_blob} == blobs.keys() - lists.keys()


def pieces_of(*sizes: int) -> list[Piece]:
    return [(blake3(data).digest(), data, True) for data in (contents(size, seed) for seed, size in enumerate(sizes))]


def test_neighbours_share_frames(encoders: Encoders) -> None:
    pieces = pieces_of(*[50 * KIB] * 60)
    frames = frames_of_pieces(pieces, encoders)
    assert [record.digest for frame in frames for record in frame.records] == [digest for digest, _, _ in pieces]
    assert all(FRAME_BYTES - 50 * KIB <= frame.raw_bytes <= FRAME_BYTES + 50 * KIB for frame in frames[:-1])


def test_nothing_makes_no_frame(encoders: Encoders) -> None:
    assert frames_of_pieces([], encoders) == []
    assert frames_of_lists([]) == []


def test_an_empty_blob_makes_a_frame(encoders: Encoders) -> None:
    (frame,) = frames_of_pieces(pieces_of(0), encoders)
    assert decode(parse_header(frame.header), frame.payload) == b""


def test_lists_share_a_frame() -> None:
    lists = [(bytes([number]) * 32, [(bytes([9, number]) * 16, number)] * (number + 1)) for number in range(3)]
    (frame,) = frames_of_lists(lists)
    assert frame.kind == Kind.LISTS
    header = parse_header(frame.header)
    raw = decode(header, frame.payload)
    found = [(digest, list(iter_chunks(raw[start:end]))) for digest, (start, end) in header.ranges().items()]
    assert found == lists
