"""Packs: who may write to one, what appending and cutting do, and how one is walked through."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest
from blake3 import blake3

from plugins.fs.fs_store import flip
from tvix_store.errors import ConfigError, OutOfSpace, Unavailable
from tvix_store.testing.fixtures import contents
from tvix_store_fs import frame, pack
from tvix_store_fs.frame import Kind
from tvix_store_fs.pack import PACK_HEADER_BYTES, PackGone, Packs, WritablePack, translated


@pytest.fixture
def packs(tmp_path: Path) -> Packs:
    return Packs(str(tmp_path))


def frame_of(data: bytes) -> list[bytes]:
    encoded = frame.encode(Kind.PIECES, [(blake3(data).digest(), data, True)])
    return [encoded.header, encoded.payload]


def filled(packs: Packs, *datas: bytes) -> tuple[WritablePack, list[int]]:
    """A pack with a frame for each, and where they begin."""
    writable = packs.create(1, durable=False)
    return writable, [writable.append(frame_of(data)) for data in datas]


def positions(packs: Packs, number: int = 1) -> list[int]:
    return [found.position for found in packs.scan(number, PACK_HEADER_BYTES)]


def test_numbers_are_those_of_packs_alone(packs: Packs, tmp_path: Path) -> None:
    for name in ("00000003.pack", "123456789.pack", "00000001.pack", "1.pack", "x.pack", "00000002.pack~"):
        (tmp_path / name).touch()
    assert packs.numbers() == [1, 3, 123456789]
    assert packs.path(3) == str(tmp_path / "00000003.pack")


def test_only_one_can_write(packs: Packs) -> None:
    one = packs.create(1, durable=True)
    assert packs.lock(1) is None
    other = packs.create(1, durable=True)
    assert (one.number, other.number) == (1, 2)
    one.close()
    one.close()
    again = packs.lock(1)
    assert again is not None
    again.close()
    other.close()


def test_a_pack_that_is_gone_cannot_be_locked_or_read(packs: Packs) -> None:
    assert packs.lock(1) is None
    with pytest.raises(PackGone):
        packs.reader(1)


def test_numbers_go_on_from_those_asked_for(packs: Packs) -> None:
    for at_least, number in ((5, 5), (3, 6), (1, 7), (20, 20)):
        made = packs.create(at_least, durable=False)
        assert made.number == number
        made.close()


def test_frames_are_found_where_they_were_appended(packs: Packs) -> None:
    writable, starts = filled(packs, b"one", b"two" * 1000, contents(5000))
    assert starts[0] == PACK_HEADER_BYTES
    assert positions(packs) == starts
    assert [found.header.raw_bytes for found in packs.scan(1, starts[1])] == [3000, 5000]
    assert [found.end for found in packs.scan(1, PACK_HEADER_BYTES)] == [*starts[1:], writable.end]
    writable.close()


def test_many_parts_are_appended_in_their_order(packs: Packs) -> None:
    writable = packs.create(1, durable=False)
    writable.append([part for number in range(2000) for part in frame_of(b"%d" % number)])
    found = [frame.decode(one.header, one.payload) for one in packs.scan(1, PACK_HEADER_BYTES)]
    assert found == [b"%d" % number for number in range(2000)]
    writable.close()


@pytest.mark.parametrize("offset", [0, 8, 20, 28, 36, 67, 72])
def test_a_damaged_frame_is_passed_over(packs: Packs, offset: int) -> None:
    writable, starts = filled(packs, b"one", b"two" * 5, b"three")
    writable.close()
    flip(Path(packs.path(1)), starts[1] + offset)
    assert positions(packs) == [starts[0], starts[2]]


def test_what_only_looks_like_a_frame_is_passed_over(packs: Packs) -> None:
    writable, starts = filled(packs, frame.MAGIC * 20 + contents(40), b"other")
    writable.close()
    flip(Path(packs.path(1)), starts[0] + 9)
    assert positions(packs) == [starts[1]]


def test_a_frame_far_behind_damage_is_found(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_SCAN_BYTES", 100)
    writable, starts = filled(packs, contents(1000), b"other")
    writable.close()
    flip(Path(packs.path(1)), starts[0])
    assert positions(packs) == [starts[1]]


def test_every_torn_tail_ends_before_the_frame(packs: Packs) -> None:
    writable, starts = filled(packs, b"one", b"two")
    writable.close()
    whole = Path(packs.path(1)).read_bytes()
    for end in range(starts[1], len(whole)):
        Path(packs.path(1)).write_bytes(whole[:end])
        assert positions(packs) == starts[:1]


def test_what_is_cut_off_is_gone(packs: Packs) -> None:
    writable, starts = filled(packs, b"one", b"two")
    writable.cut(starts[1])
    assert positions(packs) == starts[:1]
    assert writable.append(frame_of(b"three")) == starts[1]
    assert os.stat(packs.path(1)).st_size == writable.end
    writable.close()


def test_no_room_leaves_nothing(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    writable, _ = filled(packs, b"one")
    end = writable.end

    def full(descriptor: int, *rest: object) -> int:
        os.ftruncate(descriptor, end + 10)
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwritev", full)
        with pytest.raises(OutOfSpace, match=r"00000001\.pack: full"):
            writable.append(frame_of(b"two"))
    assert os.stat(packs.path(1)).st_size == writable.end == end
    assert writable.append(frame_of(b"two")) == end
    writable.close()


@pytest.mark.parametrize(("number", "kind"), [(errno.EDQUOT, OutOfSpace), (errno.EIO, Unavailable)])
def test_what_the_system_says_is_translated(number: int, kind: type[Unavailable]) -> None:
    with pytest.raises(Unavailable, match="the file: the reason") as caught, translated("the file"):
        raise OSError(number, "the reason")
    assert type(caught.value) is kind


def test_headers(packs: Packs, tmp_path: Path) -> None:
    packs.create(1, durable=False).close()
    (tmp_path / "00000002.pack").write_bytes(b"tvixpack")
    (tmp_path / "00000003.pack").write_bytes(b"something else, and long")
    (tmp_path / "00000004.pack").write_bytes(struct.pack("<8sII", b"tvixpack", 2, 0))
    assert [packs.has_header(number) for number in (1, 2, 3)] == [True, False, False]
    with pytest.raises(ConfigError, match=r"00000004.pack: its format has version 2, this program knows version 1"):
        packs.has_header(4)


def test_readers_keep_a_pack_that_is_removed(packs: Packs) -> None:
    writable, _ = filled(packs, b"one")
    reader = packs.reader(1)
    writable.remove()
    assert reader.is_removed()
    packs.forget_removed()
    assert reader.read(8, 0) == b"tvixpack"
    with pytest.raises(PackGone):
        packs.reader(1)
    writable.close()


def test_only_some_stay_open(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_MAX_OPEN", 3)
    for _ in range(6):
        packs.create(1, durable=False).close()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 7):
        assert packs.reader(number).size() == PACK_HEADER_BYTES
    assert len(os.listdir("/proc/self/fd")) == before + 3
    packs.forget()
    assert len(os.listdir("/proc/self/fd")) == before
