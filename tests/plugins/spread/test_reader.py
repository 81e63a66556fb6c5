"""Reading goes on from another service when one fails, and what was read is still checked as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from tvix_store.around import Around, AroundBlobService, Call
from tvix_store.blob import BlobReader, BlobService, BytesReader
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.limits import MIB
from tvix_store.testing.blob_access import read_rest
from tvix_store.testing.fixtures import contents
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_spread.reader import FailoverReader

pytestmark = pytest.mark.anyio

T = TypeVar("T")

DATA = contents(3 * MIB)
DIGEST = B3Digest.of(DATA)


class FailsLater(Around):
    """Lets so many reads through."""

    def __init__(self, n_reads: int) -> None:
        self.left = n_reads

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        if call.method == "reader.read":
            self.left -= 1
            if self.left < 0:
                raise Unavailable("gone")
        return await operation()


class Unchecked(MemoryBlobService):
    """Gives what it has for whatever it is asked."""

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        return BytesReader(next(iter(self.contents.values())))


async def sound() -> BlobService:
    service = MemoryBlobService()
    service.contents[DIGEST.raw] = DATA
    return CheckedBlobService("sound", service)


async def failing(n_reads: int) -> BlobService:
    return AroundBlobService(await sound(), FailsLater(n_reads))


class Noted:
    def __init__(self) -> None:
        self.lacking: list[int] = []

    def __call__(self, digest: B3Digest, lacking: Sequence[int]) -> None:
        assert digest == DIGEST
        self.lacking += lacking


async def reader_of(*members: BlobService, noted: Noted | None = None) -> FailoverReader:
    opened = await members[0].open_read(DIGEST)
    assert opened is not None
    return FailoverReader(DIGEST, members, (0, opened), range(1, len(members)), noted or Noted())


@pytest.mark.parametrize("n_reads", [0, 1, 5])
async def test_reading_goes_on_at_the_same_place(n_reads: int) -> None:
    async with await reader_of(await failing(n_reads), await sound()) as reader:
        assert await read_rest(reader) == DATA


async def test_it_goes_on_as_often_as_it_has_to() -> None:
    async with await reader_of(await failing(1), await failing(4), await failing(0), await sound()) as reader:
        assert await read_rest(reader) == DATA


async def test_after_a_seek_it_goes_on_at_the_same_place() -> None:
    async with await reader_of(await failing(1), await sound()) as reader:
        await reader.seek(1_000_001)
        assert await read_rest(reader) == DATA[1_000_001:]
        await reader.seek(5)
        assert await reader.read(3) == DATA[5:8]


async def test_those_that_lack_it_are_passed_over_and_noticed() -> None:
    noted = Noted()
    empty = CheckedBlobService("empty", MemoryBlobService())
    async with await reader_of(await failing(1), empty, await sound(), noted=noted) as reader:
        assert await read_rest(reader) == DATA
    assert noted.lacking == [1]


async def test_a_corrupt_end_comes_from_another_and_is_noticed() -> None:
    noted = Noted()
    damaged = MemoryBlobService()
    damaged.contents[DIGEST.raw] = DATA[:-1] + b"?"
    async with await reader_of(CheckedBlobService("damaged", damaged), await sound(), noted=noted) as reader:
        assert await read_rest(reader) == DATA
    assert noted.lacking == [0]


async def test_a_corrupt_start_that_was_given_out_is_not_gone_on_from() -> None:
    damaged = MemoryBlobService()
    damaged.contents[DIGEST.raw] = b"?" + DATA[1:]
    async with await reader_of(CheckedBlobService("damaged", damaged), await sound()) as reader:
        with pytest.raises(CorruptObject):
            await read_rest(reader)


async def test_a_wrong_start_that_was_given_out_is_not_gone_on_from_either() -> None:
    liar = Unchecked()
    liar.contents[bytes(32)] = b"?" + DATA[1:]
    async with await reader_of(AroundBlobService(liar, FailsLater(1)), await sound()) as reader:
        with pytest.raises(Unavailable, match="gone"):
            await read_rest(reader)


async def test_the_first_failure_is_told_when_nobody_is_left() -> None:
    async with await reader_of(await failing(1), await failing(0)) as reader:
        for _ in range(2):
            with pytest.raises(Unavailable, match="gone"):
                await read_rest(reader)
