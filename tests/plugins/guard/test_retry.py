"""When a call is made again, and after what pause."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from fakes.recorder import Recorder
from plugins.guard.clock import Clock
from tvix_store.around import AroundBlobService, Call
from tvix_store.blob import BlobReader, BlobService, BytesReader
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, InvalidObject, OutOfSpace, StoreError, Unavailable, Unsupported
from tvix_store.forwarding import ForwardingBlobService
from tvix_store_guard.retry import Retry
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

T = TypeVar("T")
DIGEST = B3Digest.of(b"blob")


class Cut(Recorder):
    """Fails so many times."""

    def __init__(self, times: int, failure: Exception | None = None) -> None:
        super().__init__()
        self.times = times
        self.error = failure or Unavailable("the line is cut")

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        self.failure = self.error if self.times > 0 else None
        self.times -= 1
        return await super().call(call, operation)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def longest(low: float, high: float) -> float:
    return high


def retrying(
    cut: Recorder,
    clock: Clock,
    *,
    attempts: int = 4,
    max_elapsed_s: float = 30,
    uniform: Callable[[float, float], float] = longest,
) -> BlobService:
    retry = Retry(
        "far",
        attempts=attempts,
        backoff_s=1,
        max_backoff_s=3,
        max_elapsed_s=max_elapsed_s,
        clock=clock,
        sleep=clock.sleep,
        uniform=uniform,
    )
    return AroundBlobService(AroundBlobService(MemoryBlobService(), cut), retry)


async def test_what_failed_for_now_is_asked_again(clock: Clock) -> None:
    cut = Cut(2)
    assert await retrying(cut, clock).has(DIGEST) is False
    assert cut.methods == ["has"] * 3
    assert clock.pauses == [1, 2]


async def test_pauses_double_up_to_a_bound(clock: Clock) -> None:
    with pytest.raises(Unavailable):
        await retrying(Cut(99), clock, attempts=6).has(DIGEST)
    assert clock.pauses == [1, 2, 3, 3, 3]


async def test_pauses_are_of_any_length_up_to_that(clock: Clock) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high / 4

    await retrying(Cut(2), clock, uniform=uniform).has(DIGEST)
    assert asked == [(0, 1), (0, 2)]
    assert clock.pauses == [0.25, 0.5]


async def test_no_attempt_begins_too_late(clock: Clock) -> None:
    cut = Cut(99)
    with pytest.raises(Unavailable, match="the line is cut"):
        await retrying(cut, clock, attempts=50, max_elapsed_s=5).has(DIGEST)
    assert clock.pauses == [1, 2]  # three more seconds would be too many
    assert len(cut.calls) == 3


@pytest.mark.parametrize(
    "error",
    [CorruptObject("rotten"), InvalidObject("odd"), Unsupported("never"), OutOfSpace("full"), ValueError("bug")],
)
async def test_other_errors_are_final(clock: Clock, error: Exception) -> None:
    cut = Cut(1, error)
    with pytest.raises(type(error)):
        await retrying(cut, clock).has(DIGEST)
    assert len(cut.calls) == 1


async def test_writes_to_a_stream_are_not_made_again(clock: Clock) -> None:
    cut = Cut(0)
    async with await retrying(cut, clock).open_write() as writer:
        cut.times = 1
        with pytest.raises(Unavailable):
            await writer.write(b"x")
        cut.times = 1
        with pytest.raises(Unavailable):
            await writer.close()
    assert cut.methods == ["open_write", "writer.write", "writer.close"]


async def test_a_list_is_begun_again_but_not_gone_on_with(clock: Clock) -> None:
    class Breaking(ForwardingBlobService):
        async def _list(self) -> AsyncIterator[B3Digest]:
            yield DIGEST
            raise Unavailable("in the middle")

        def list(self) -> AsyncIterator[B3Digest]:
            return self._list()

    cut = Cut(1)
    retry = Retry("far", clock=clock, sleep=clock.sleep)
    service = AroundBlobService(AroundBlobService(Breaking(MemoryBlobService()), cut), retry)
    items = service.list()
    assert await anext(items) == DIGEST
    with pytest.raises(Unavailable, match="in the middle"):
        await anext(items)
    assert cut.methods == ["list", "list"]


async def test_a_read_goes_on_where_it_was(clock: Clock) -> None:
    data = bytes(range(256)) * 100

    class Tearing(ForwardingBlobService):
        n_opened = 0

        async def open_read(self, digest: B3Digest) -> BlobReader:
            self.n_opened += 1
            return _Tearing(data)

    class _Tearing(BytesReader):
        n_left = 2

        async def read(self, max_bytes: int = 10_000) -> bytes:
            self.n_left -= 1
            if self.n_left < 0 and tearing.n_opened < 3:
                raise Unavailable("the line is cut")
            return await super().read(max_bytes)

    tearing = Tearing(MemoryBlobService())
    retry = Retry("far", clock=clock, sleep=clock.sleep)
    reader = await AroundBlobService(tearing, retry).open_read(B3Digest.of(data))
    assert reader is not None
    pieces = []
    while piece := await reader.read(5000):
        pieces.append(piece)
    assert b"".join(pieces) == data
    assert tearing.n_opened == 3


async def test_what_is_given_up_is_logged_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tvix_store_guard.retry")
    with pytest.raises(StoreError):
        await retrying(Cut(99), clock, attempts=3).has(DIGEST)
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG", "WARNING"]
    assert caplog.messages[-1] == "far: has failed 3 times: the line is cut"
