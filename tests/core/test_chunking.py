from __future__ import annotations

import random

import pytest
from blake3 import blake3

from tvix_store.chunking import AVERAGE_CHUNK_BYTES, Chunker, cut
from vectors import chunking as vectors


def in_pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """``data`` cut at random into pieces of these sizes."""
    choose = random.Random(len(data))
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        size = choose.choice(sizes)
        pieces.append(data[start : start + size])
        start += size
    return pieces


def fed(chunker: Chunker, pieces: list[bytes]) -> list[bytes]:
    return [chunk for piece in pieces for chunk in chunker.feed(piece)] + chunker.finish()


def test_the_stream_of_the_vectors_is_the_right_one() -> None:
    assert blake3(vectors.stream(3145728)).hexdigest() == vectors.STREAM_DIGEST


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in vectors.CUTS.items()])
class TestReferenceCuts:
    def test_of_a_buffer(self, row: vectors.Cut) -> None:
        chunks = cut(row.data, row.average)
        assert tuple(len(chunk) for chunk in chunks) == row.lengths
        assert {index: blake3(chunks[index]).hexdigest() for index in row.digests} == row.digests
        assert b"".join(chunks) == row.data

    def test_of_a_stream_in_one_piece(self, row: vectors.Cut) -> None:
        assert tuple(map(len, fed(Chunker(row.average), [row.data]))) == row.lengths

    @pytest.mark.parametrize("sizes", [[1, 2, 300, 5000], [65536], [262144], [1 << 20], [0, 131072, 700_000]])
    def test_of_a_stream_in_any_pieces(self, row: vectors.Cut, sizes: list[int]) -> None:
        chunks = fed(Chunker(row.average), in_pieces(row.data, sizes))
        assert tuple(map(len, chunks)) == row.lengths
        assert b"".join(chunks) == row.data


def test_single_bytes_are_as_good_as_any_piece() -> None:
    data = vectors.CUTS["X_S_65536_1024"].data
    assert fed(Chunker(1024), [data[index : index + 1] for index in range(len(data))]) == list(cut(data, 1024))


def test_nothing_has_no_chunks() -> None:
    assert cut(b"") == []
    assert fed(Chunker(), []) == []
    assert fed(Chunker(), [b"", b""]) == []


def test_a_chunk_is_a_chunk_by_itself() -> None:
    for chunk in cut(vectors.stream(3145728)):
        assert cut(chunk) == [chunk]


def test_chunker_is_ready_for_the_next_stream_after_finish() -> None:
    chunker = Chunker(1024)
    first = fed(chunker, [vectors.stream(5000)])
    assert fed(chunker, [vectors.stream(5000)]) == first


def test_chunker_holds_less_than_the_greatest_chunk() -> None:
    chunker = Chunker(1024)
    passed = 0
    for number, piece in enumerate(in_pieces(vectors.stream(200_000), [1, 700, 3000]), 1):
        passed += len(piece) - sum(map(len, chunker.feed(piece)))
        assert passed < chunker.max_bytes, number


def test_chunks_lie_between_the_limits() -> None:
    chunker = Chunker()
    assert (chunker.min_bytes, AVERAGE_CHUNK_BYTES, chunker.max_bytes) == (131072, 262144, 524288)
    *chunks, last = fed(chunker, [vectors.stream(3145728)])
    assert all(chunker.min_bytes <= len(chunk) <= chunker.max_bytes for chunk in chunks)
    assert len(last) <= chunker.max_bytes


def test_a_buffer_that_changes_later_makes_no_difference() -> None:
    buffer = bytearray(b"abc")
    chunker = Chunker()
    assert chunker.feed(memoryview(buffer)) == []
    buffer[:] = b"xyz"
    assert chunker.finish() == [b"abc"]


@pytest.mark.parametrize("average", [0, 511, 2097154])
def test_averages_that_the_reference_cannot_use_are_refused(average: int) -> None:
    with pytest.raises(ValueError, match="average chunk size"):
        Chunker(average)
    with pytest.raises(ValueError, match="average chunk size"):
        cut(b"data", average)


@pytest.mark.parametrize("average", [512, 2097153])
def test_the_least_and_the_greatest_average_work(average: int) -> None:
    assert b"".join(fed(Chunker(average), [vectors.stream(65536)])) == vectors.stream(65536)
