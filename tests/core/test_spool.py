"""One writer, many readers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.full_disk import limited_files
from tvix_store.errors import CorruptObject, OutOfSpace, Unavailable
from tvix_store.spool import HELD_BACK_BYTES, Spool, SpoolReader

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * (12 << 10)  # 3 MiB


def pieces(n_bytes: int = 300_000) -> Iterator[bytes]:
    for start in range(0, len(DATA), n_bytes):
        yield DATA[start : start + n_bytes]


class Released:
    """Counts how often a reader has said that it is done."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def released() -> Released:
    return Released()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), len(DATA))


async def read_all(reader: SpoolReader) -> bytes:
    return b"".join([piece async for piece in reader])


async def write_all(spool: Spool) -> None:
    for piece in pieces():
        await spool.write(piece)


async def test_each_reader_gets_all_of_it(spool: Spool, released: Released) -> None:
    tasks = [asyncio.create_task(read_all(SpoolReader(spool, released))) for _ in range(5)]
    await write_all(spool)
    tasks += [asyncio.create_task(read_all(SpoolReader(spool, released))) for _ in range(5)]
    spool.finish()
    assert await asyncio.gather(*tasks) == [DATA] * 10
    assert released.count == 10


async def test_a_reader_may_come_after_the_end(spool: Spool, released: Released) -> None:
    await write_all(spool)
    spool.finish()
    assert await read_all(SpoolReader(spool, released)) == DATA


async def test_the_end_is_held_back(spool: Spool, released: Released) -> None:
    await write_all(spool)
    reader = SpoolReader(spool, released)
    got = b""
    while len(got) < len(DATA) - HELD_BACK_BYTES:
        got += await anext(reader)
    assert got == DATA[:-HELD_BACK_BYTES]
    further = asyncio.ensure_future(anext(reader))
    spool.fail(CorruptObject("it is wrong"))
    with pytest.raises(CorruptObject, match="it is wrong"):
        await further
    assert released.count == 1
    assert await read_all(reader) == b""


async def test_a_failure_ends_those_who_are_behind_too(spool: Spool, released: Released) -> None:
    await write_all(spool)
    reader = SpoolReader(spool, released)
    await anext(reader)
    spool.fail(CorruptObject("it is wrong"))
    with pytest.raises(CorruptObject):
        await anext(reader)


async def test_closing_releases_once(spool: Spool, released: Released) -> None:
    reader = SpoolReader(spool, released)
    await reader.aclose()
    await reader.aclose()
    assert released.count == 1
    assert await read_all(reader) == b""


async def test_a_cancelled_reader_releases(spool: Spool, released: Released) -> None:
    task = asyncio.create_task(read_all(SpoolReader(spool, released)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert released.count == 1


async def test_a_folder_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"spool in {tmp_path}/gone: No such file"):
        await Spool(f"{tmp_path}/gone", 10).write(b"data")


async def test_what_is_written_is_seen_in_its_order(tmp_path: Path) -> None:
    hasher = hashlib.sha256()
    spool = Spool(str(tmp_path), len(DATA), hasher.update)
    await spool.write(*pieces())
    assert hasher.digest() == hashlib.sha256(DATA).digest()
    spool.finish()
    assert await spool.read(len(DATA) - 5) == DATA[-5:]


async def test_a_full_disk_is_no_room(spool: Spool) -> None:
    await spool.write(bytes(HELD_BACK_BYTES))
    with limited_files(HELD_BACK_BYTES + 1), pytest.raises(OutOfSpace, match=r"^spool in .*: File too large$"):
        await spool.write(DATA)
