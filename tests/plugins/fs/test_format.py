"""The format on disk: a reader that was written after README.md alone, and the bytes of a small pack."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard
from blake3 import blake3

from plugins.fs.fs_store import open_service
from tvix_store.chunking import cut
from tvix_store.digest import HashedBlob
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import write_blob
from tvix_store.testing.fixtures import contents
from vectors.chunking import stream

pytestmark = pytest.mark.anyio


# --- the reader, which uses nothing of the plugin -------------------------------------------------------------------

FIXED = "<4sBB2sIII8s8s"


class Frame(NamedTuple):
    position: int
    kind: int
    codec: int
    things: list[tuple[bytes, bytes, bool]]


def checksum(data: bytes) -> bytes:
    return blake3(data).digest()[:8]


def frame_at(pack: bytes, position: int) -> tuple[Frame, int] | None:
    """The frame and where the next one begins; ``None`` if it is damaged or not whole."""
    if len(pack) < position + 36:
        return None
    magic, kind, codec, _, n_records, n_raw, n_stored, of_payload, of_header = struct.unpack_from(FIXED, pack, position)
    table_end = position + 36 + 36 * n_records
    end = table_end + n_stored
    if magic != b"TVXF" or end > len(pack):
        return None
    table, payload = pack[position + 36 : table_end], pack[table_end:end]
    if checksum(pack[position : position + 28] + table) != of_header or checksum(payload) != of_payload:
        return None
    raw = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompress(payload) if codec == 1 else payload
    things = []
    start = 0
    for digest, field in struct.iter_unpack("<32sI", table):
        length = field & (2**31 - 1)
        things.append((digest, raw[start : start + length], field >= 2**31))
        start += length
    return (Frame(position, kind, codec, things), end) if start == len(raw) == n_raw else None


def frames_of(pack: bytes) -> list[Frame]:
    magic, version, zero = struct.unpack_from("<8sII", pack)
    assert (magic, version, zero) == (b"tvixpack", 1, 0)
    frames = []
    position = 16
    while position >= 0:
        found = frame_at(pack, position)
        if found is None:
            position = pack.find(b"TVXF", position + 1)
        else:
            frames.append(found[0])
            position = found[1]
    return frames


class Contents(NamedTuple):
    pieces: dict[bytes, bytes]
    lists: dict[bytes, list[tuple[bytes, int]]]
    blobs: dict[bytes, bytes]


def read_store(path: Path) -> Contents:
    assert json.loads((path / "store.json").read_text())["format"] == 1
    frames = []
    for file in sorted((path / "packs").iterdir()):
        if re.fullmatch("[0-9]{8,}[.]pack", file.name):
            frames += frames_of(file.read_bytes())
    pieces = {}
    blobs = {}
    for frame in frames:
        if frame.kind == 1:
            for digest, data, is_blob in frame.things:
                assert blake3(data).digest() == digest
                pieces[digest] = data
                if is_blob:
                    blobs[digest] = data
    lists = {}
    for frame in frames:
        if frame.kind == 2:
            for digest, data, _ in frame.things:
                chunks = list(struct.iter_unpack("<32sI", data))
                if all(chunk in pieces for chunk, _ in chunks):
                    lists[digest] = chunks
                    blobs[digest] = b"".join(pieces[chunk] for chunk, _ in chunks)
    return Contents(pieces, lists, blobs)


# --- what it finds --------------------------------------------------------------------------------------------------

README = Path(__file__).parents[3] / "plugins" / "tvix_store_fs" / "README.md"

SMALL = [b"", b"a", b"text " * 1000, *(contents(size) for size in range(100, 3000, 100))]
LARGE = contents(3 * MIB)
STREAMED = contents(MIB) + bytes(4 * MIB)
CHUNK = bytes(cut(LARGE)[1])
BLOBS = [*SMALL, LARGE, STREAMED, CHUNK]


async def fill(path: Path, max_pack_bytes: int = MIB) -> None:
    """Put all that frames can hold, into several packs."""
    async with await open_service(path, max_pack_bytes=max_pack_bytes) as service:
        await service.put_many([HashedBlob(data) for data in SMALL])
        await service.put_many([HashedBlob(LARGE)])
        await write_blob(service, STREAMED)
        await service.put_many([HashedBlob(CHUNK)])


async def test_a_reader_written_after_the_readme_finds_every_blob(tmp_path: Path) -> None:
    await fill(tmp_path)
    assert len(list((tmp_path / "packs").iterdir())) > 1
    blobs = read_store(tmp_path).blobs
    assert blobs.keys() == {blake3(data).digest() for data in BLOBS}
    assert all(blake3(data).digest() == digest for digest, data in blobs.items())


async def test_all_codecs_and_kinds_are_in_use(tmp_path: Path) -> None:
    await fill(tmp_path)
    packs = [file.read_bytes() for file in (tmp_path / "packs").iterdir()]
    assert {(frame.kind, frame.codec) for pack in packs for frame in frames_of(pack)} == {(1, 0), (1, 1), (2, 0)}


async def test_the_readme_tells_enough_to_fill_an_index(tmp_path: Path) -> None:
    await fill(tmp_path)
    found = read_store(tmp_path)
    uses = dict.fromkeys(found.pieces, 0)
    for digest in found.blobs.keys() & found.pieces.keys() - found.lists.keys():
        uses[digest] += 1
    for chunks in found.lists.values():
        for digest in {digest for digest, _ in chunks}:
            uses[digest] += 2
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as index:
        pieces = index.execute("SELECT digest, length, uses FROM piece").fetchall()
        lists = index.execute("SELECT digest, length, n_chunks FROM list").fetchall()
        places = index.execute("SELECT pack, position FROM frame").fetchall()
        ends = index.execute("SELECT id, end, synced FROM pack").fetchall()
    assert sorted(pieces) == sorted((digest, len(data), uses[digest]) for digest, data in found.pieces.items())
    assert sorted(lists) == sorted((blob, len(found.blobs[blob]), len(chunks)) for blob, chunks in found.lists.items())
    files = {int(file.stem): file.read_bytes() for file in (tmp_path / "packs").iterdir()}
    assert sorted(places) == [
        (number, frame.position) for number, pack in sorted(files.items()) for frame in frames_of(pack)
    ]
    assert sorted(ends) == [(number, len(pack), len(pack)) for number, pack in sorted(files.items())]


async def test_the_readme_has_the_words_of_the_index(tmp_path: Path) -> None:
    await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as index:
        statements = index.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        identity = [index.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    readme = README.read_text()
    assert [sql for (sql,) in statements if f"{sql};" not in readme and "sqlite_sequence" not in sql] == []
    assert identity == [0x54565849, 1]


async def test_what_is_damaged_or_torn_is_passed_over(tmp_path: Path) -> None:
    await fill(tmp_path, max_pack_bytes=256 * MIB)
    (file,) = (tmp_path / "packs").iterdir()
    pack = file.read_bytes()
    frames = frames_of(pack)
    damaged = bytearray(pack[:-1])
    damaged[frames[1].position + 40] ^= 1
    assert [frame.position for frame in frames_of(bytes(damaged))] == [
        frame.position for frame in (frames[0], *frames[2:-1])
    ]


def names(path: Path) -> set[str]:
    return {re.sub("-[0-9a-f]{16}$", "-TOKEN", file.name) for file in path.iterdir()}


async def test_the_folder_holds_what_the_readme_lists(tmp_path: Path) -> None:
    async with await open_service(tmp_path) as service, await service.open_write() as writer:
        await writer.write(contents(5 * MIB))
        during = names(tmp_path)
    assert during == {
        "store.json",
        "packs",
        "index.sqlite",
        "index.sqlite-wal",
        "index.sqlite-shm",
        "opening.lock",
        "users.lock",
        "upload-TOKEN",
    }
    assert names(tmp_path) - {"index.sqlite-wal", "index.sqlite-shm"} == {
        "store.json",
        "packs",
        "index.sqlite",
        "opening.lock",
        "users.lock",
    }


# --- the bytes ------------------------------------------------------------------------------------------------------

DATA = stream(9000)
LIST = bytes.fromhex(
    "93bc3a23f515d9ff28daa56d52638abad6e4973563ba26511868793fb59b90a2 a10d0000"
    "4d9a2a95a1e43ce5ce50aeb5b6864969f7c15bd765aa2d93e593157ab8c1538b bc0e0000"
    "373d73ba84de4152b1e45db9e82ce2f037a374ea74c61ab3cea23cb14e8a47c3 cb060000"
)
PACK_HEADER = "74766978 7061636b 01000000 00000000"
FRAMES = [  # header, payload
    (
        "54565846 01 00 0000 03000000 28230000 28230000 a0cc48e19dd2fe1b 02e9b412f2ef3a1c" + LIST.hex(),
        DATA,
    ),
    (
        "54565846 02 00 0000 01000000 6c000000 6c000000 e57d4776ec53af74 a99a94cdb5347b5e"
        "a0cc48e19dd2fe1b116f97738c2c4ed3f315c7ef5eba27e93b35a0fd9b265ff5 6c000080",
        LIST,
    ),
    (
        "54565846 01 00 0000 02000000 03000000 03000000 d4d4d19bd64b6b33 eb04bd71b4c0a1b4"
        "d4d4d19bd64b6b3374a6c189713eb3188d4ef59f761563da9938c52ca08b13da 03000080"
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262 00000080",
        b"raw",
    ),
]


async def test_golden_bytes(tmp_path: Path) -> None:
    """A large blob, whose chunks do not compress; the list of them; two small blobs, one of them empty."""
    async with await open_service(tmp_path, avg_chunk_size=4 * KIB) as service:
        await service.put_many([HashedBlob(DATA)])
        await service.put_many([HashedBlob(b"raw"), HashedBlob(b"")])
    pack = (tmp_path / "packs" / "00000001.pack").read_bytes()
    frames = [bytes.fromhex(header) + payload for header, payload in FRAMES]
    assert pack == b"".join([bytes.fromhex(PACK_HEADER), *frames])
    assert (tmp_path / "store.json").read_bytes() == b'{"format": 1, "avg_chunk_size": 4096}\n'
