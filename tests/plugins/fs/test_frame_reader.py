"""Reading frames: each is decoded once, and a bounded part of them is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from plugins.fs.fs_store import flip
from tvix_store.errors import CorruptObject
from tvix_store_fs import frame
from tvix_store_fs.frame import Kind
from tvix_store_fs.frame_reader import Decoded, FrameReader
from tvix_store_fs.index import Place
from tvix_store_fs.pack import PackGone, Packs, WritablePack


@pytest.fixture
def pack(tmp_path: Path) -> Iterator[WritablePack]:
    pack = Packs(str(tmp_path)).create(1, durable=False)
    yield pack
    pack.close()


@pytest.fixture
def reader(tmp_path: Path) -> FrameReader:
    return FrameReader(Packs(str(tmp_path)), 5000)


def append(pack: WritablePack, number: int, *datas: bytes) -> Place:
    encoded = frame.encode(Kind.PIECES, [(blake3(data).digest(), data, True) for data in datas])
    start = pack.append([encoded.header, encoded.payload])
    return Place(number, pack.number, start, encoded.size, encoded.raw_bytes)


def counted(reader: FrameReader, monkeypatch: pytest.MonkeyPatch, before: Callable[[], object] = list) -> list[int]:
    """The numbers of the frames that are read from the disk from now on."""
    numbers: list[int] = []
    read = reader.read_uncached

    def read_uncached(place: Place) -> Decoded:
        numbers.append(place.frame)
        before()
        return read(place)

    monkeypatch.setattr(reader, "read_uncached", read_uncached)
    return numbers


def test_pieces_are_found_by_their_digests(pack: WritablePack, reader: FrameReader) -> None:
    decoded = reader.read(append(pack, 1, b"one", b"", b"three"))
    assert decoded.piece(blake3(b"three").digest()) == b"three"
    assert decoded.piece(blake3(b"").digest()) == b""
    assert decoded.piece(blake3(b"two").digest()) is None


def test_a_frame_that_was_read_is_kept(
    pack: WritablePack, reader: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = append(pack, 1, b"one", b"two")
    numbers = counted(reader, monkeypatch)
    assert reader.read(place) is reader.read(place)
    reader.clear()
    reader.read(place)
    assert numbers == [1, 1]


def test_the_frames_that_were_used_last_are_kept(
    pack: WritablePack, reader: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [append(pack, number, bytes(1000), bytes([number + 1]) * 1000) for number in range(3)]
    numbers = counted(reader, monkeypatch)
    for number in (0, 1, 0, 2, 0, 1):  # two of 2,000 bytes fit
        reader.read(places[number])
    assert numbers == [0, 1, 2, 1]


def test_frames_of_one_piece_are_not_kept(
    pack: WritablePack, reader: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = append(pack, 1, b"one")
    numbers = counted(reader, monkeypatch)
    reader.read(place)
    reader.read(place)
    assert numbers == [1, 1]


def test_several_threads_share_one_decoding(
    pack: WritablePack, reader: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = append(pack, 1, b"one", b"two")
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(60)

    numbers = counted(reader, monkeypatch, wait)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(reader.read, place)
        assert begun.wait(60)
        others = [threads.submit(reader.read, place) for _ in range(3)]
        go_on.set()
        assert all(other.result() is first.result() for other in others)
    assert numbers == [1]


def test_damage_is_not_kept(pack: WritablePack, reader: FrameReader) -> None:
    place = append(pack, 1, b"one" * 100, b"two" * 100)
    flip(Path(pack.path), place.position)
    for _ in range(2):
        with pytest.raises(CorruptObject, match=rf"00000001.pack at {place.position}: is no frame"):
            reader.read(place)
    flip(Path(pack.path), place.position)
    assert reader.read(place).piece(blake3(b"one" * 100).digest()) == b"one" * 100


@pytest.mark.parametrize("offset", [4, 6, 20, 28, 40, -1])
def test_only_sound_reading_looks_at_checksums(pack: WritablePack, reader: FrameReader, offset: int) -> None:
    place = append(pack, 1, b"one", b"two")
    assert reader.read_sound(place).raw == b"onetwo"
    flip(Path(pack.path), place.position + offset if offset >= 0 else place.position + place.size + offset)
    assert len(reader.read(place).raw) == 6
    with pytest.raises(CorruptObject, match="is damaged"):
        reader.read_sound(place)


def test_a_place_where_no_such_frame_is(pack: WritablePack, reader: FrameReader) -> None:
    place = append(pack, 1, b"one", b"two")
    for wrong in (
        Place(2, 1, place.position, place.size + 1, place.raw),
        Place(2, 1, place.position, place.size, place.raw + 1),
        Place(2, 1, place.position + 1, place.size, place.raw),
        Place(2, 1, place.position + place.size, place.size, place.raw),
    ):
        with pytest.raises(CorruptObject):
            reader.read(wrong)
    with pytest.raises(PackGone):
        reader.read(Place(2, 9, place.position, place.size, place.raw))
