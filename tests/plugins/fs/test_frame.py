"""Frames: what goes in comes out, and whatever is damaged is noticed."""

from __future__ import annotations

import random
import threading

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.errors import CorruptObject
from tvix_store.limits import KIB, MIB
from tvix_store.testing.fixtures import contents
from tvix_store_fs import frame
from tvix_store_fs.frame import Codec, EncodedFrame, Kind

Things = list[tuple[bytes, bool]]

datas = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda text, times: text * times, st.binary(max_size=8), st.integers(0, 3000)),
    st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, 40_000)),
)
things = st.lists(st.tuples(datas, st.booleans()), min_size=1, max_size=8, unique_by=lambda thing: thing[0])


def encoded(made: Things, kind: Kind = Kind.PIECES) -> EncodedFrame:
    return frame.encode(kind, [(blake3(data).digest(), data, is_blob) for data, is_blob in made])


def read(stored: bytes) -> tuple[frame.Frame, bytes]:
    header = frame.parse_header(stored)
    assert header.header == stored[: frame.header_bytes(stored[: frame.FIXED_BYTES])]
    return header, stored[len(header.header) :]


@given(things)
def test_what_goes_in_comes_out(made: Things) -> None:
    stored = encoded(made)
    header, payload = read(stored.header + stored.payload)
    assert header.is_sound()
    assert header.has_payload(payload)
    raw = frame.decode(header, payload)
    assert len(raw) == header.raw_bytes == stored.raw_bytes
    assert header.size == stored.size
    assert header.records() == stored.records
    assert [record.is_blob for record in stored.records] == [is_blob for _, is_blob in made]
    ranges = header.ranges()
    for data, _ in made:
        start, end = ranges[blake3(data).digest()]
        assert raw[start:end] == data


@given(things, st.data())
def test_any_damaged_byte_is_noticed(made: Things, data: st.DataObject) -> None:
    frame_ = encoded(made)
    stored = bytearray(frame_.header + frame_.payload)
    position = data.draw(st.integers(0, len(stored) - 1), label="position")
    stored[position] ^= data.draw(st.integers(1, 255), label="change")
    try:
        header, payload = read(bytes(stored))
    except CorruptObject:
        return
    assert not (header.is_sound() and header.has_payload(payload))


@given(st.binary(max_size=300))
def test_a_damaged_payload_raises_nothing_else(payload: bytes) -> None:
    header = frame.parse_header(encoded([(b"text " * 100, True)]).header)
    assert header.codec == Codec.ZSTD
    with pytest.raises(CorruptObject):
        frame.decode(header, zstandard.FRAME_HEADER + payload)


@given(things, st.data())
def test_a_frame_that_is_cut_off_is_noticed(made: Things, data: st.DataObject) -> None:
    frame_ = encoded(made)
    stored = frame_.header + frame_.payload
    cut_off = stored[: data.draw(st.integers(0, len(stored) - 1), label="length")]
    try:
        header = frame.parse_header(cut_off)
    except CorruptObject:
        return
    assert not header.has_payload(cut_off[len(header.header) :])


@pytest.mark.parametrize("size", [1, 1000, 100 * KIB, 4 * MIB])
def test_what_is_random_is_stored_as_it_is(size: int) -> None:
    data = random.Random(size).randbytes(size)
    stored = encoded([(data, True)])
    assert frame.parse_header(stored.header).codec == Codec.RAW
    assert stored.payload == data


@pytest.mark.parametrize("size", [1000, 100 * KIB, 4 * MIB])
def test_what_repeats_is_compressed(size: int) -> None:
    stored = encoded([(b"0123456789" * (size // 10), True)])
    header = frame.parse_header(stored.header)
    assert header.codec == Codec.ZSTD
    assert header.stored_bytes < header.raw_bytes // 10
    assert zstandard.frame_content_size(stored.payload) == header.raw_bytes


def test_random_samples_do_not_hide_what_compresses_on_the_whole() -> None:
    data = contents(16 * KIB) + bytes(MIB)
    assert frame.parse_header(encoded([(data, True)]).header).codec == Codec.ZSTD


def test_what_gets_only_a_little_shorter_is_stored_as_it_is() -> None:
    data = contents(MIB) + bytes(8 * KIB)
    assert len(zstandard.ZstdCompressor(level=3).compress(data)) < len(data)
    assert encoded([(data, True)]).payload == data


def test_lists_are_not_compressed() -> None:
    stored = encoded([(bytes(3600), True)], Kind.LISTS)
    assert stored.payload == bytes(3600)
    assert frame.parse_header(stored.header).kind == Kind.LISTS


def test_a_payload_of_another_length_is_refused_before_it_is_decoded() -> None:
    header = frame.parse_header(encoded([(bytes(1000), True)]).header)
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    with pytest.raises(CorruptObject, match="length is another"):
        frame.decode(header, bomb)


def test_a_codec_nobody_knows_is_refused() -> None:
    stored = encoded([(b"data", True)])
    header = frame.parse_header(stored.header[:5] + b"\7" + stored.header[6:])
    assert not header.is_sound()
    with pytest.raises(CorruptObject, match="codec 7"):
        frame.decode(header, stored.payload)


def test_a_header_of_something_else_is_refused() -> None:
    with pytest.raises(CorruptObject, match="is no frame"):
        frame.parse_header(bytes(100))
    with pytest.raises(CorruptObject, match="is no frame"):
        frame.header_bytes(bytes(frame.FIXED_BYTES))


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1))))
def test_lists_of_chunks(chunks: list[tuple[bytes, int]]) -> None:
    data = b"".join(frame.chunk_bytes(digest, size) for digest, size in chunks)
    assert list(frame.iter_chunks(data)) == chunks
    with pytest.raises(CorruptObject):
        frame.iter_chunks(data + b"x")


def test_several_threads_encode_and_decode() -> None:
    failures: list[object] = []

    def work(seed: int) -> None:
        for size in range(1, 60):
            data = (b"%d" % seed) * size * 50 + random.Random(seed).randbytes(size)
            stored = encoded([(data, True)])
            if frame.decode(frame.parse_header(stored.header), stored.payload) != data:
                failures.append((seed, size))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
