"""When a service is no longer asked, and when it is asked again."""

from __future__ import annotations

import asyncio

import pytest

from fakes.recorder import Recorder
from fakes.services import Hang
from plugins.guard.clock import Clock
from tvix_store.around import AroundBlobService
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, InvalidObject, OutOfSpace, Unavailable, Unsupported
from tvix_store.forwarding import ForwardingBlobService
from tvix_store_guard.breaker import Breaker
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

DIGEST = B3Digest.of(b"blob")
CUT = Unavailable("the line is cut")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def service(clock: Clock, recorder: Recorder) -> AroundBlobService:
    breaker = Breaker("far", failures=3, open_s=10, max_open_s=25, clock=clock)
    return AroundBlobService(AroundBlobService(MemoryBlobService(), recorder), breaker)


async def fail(service: AroundBlobService, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Unavailable):
            await service.has(DIGEST)


async def test_after_some_failures_in_a_row_it_is_not_asked(service: AroundBlobService, recorder: Recorder) -> None:
    recorder.failure = CUT
    await fail(service, 3)
    recorder.failure = None
    with pytest.raises(Unavailable, match=r"^far: not asked, it failed 3 times; next try in 10 s$"):
        await service.open_write()
    assert recorder.methods == ["has"] * 3


async def test_an_answer_in_between_counts(service: AroundBlobService, recorder: Recorder) -> None:
    for _ in range(3):
        recorder.failure = CUT
        await fail(service, 2)
        recorder.failure = None
        assert await service.has(DIGEST) is False
    assert len(recorder.calls) == 9


@pytest.mark.parametrize("error", [CorruptObject("rotten"), OutOfSpace("full")])
async def test_what_only_a_service_that_is_there_can_say_is_an_answer(
    service: AroundBlobService, recorder: Recorder, error: Exception
) -> None:
    for failure in [CUT, CUT, error, CUT, CUT, error]:
        recorder.failure = failure
        with pytest.raises(type(failure)):
            await service.has(DIGEST)
    assert len(recorder.calls) == 6


@pytest.mark.parametrize("error", [InvalidObject("odd"), Unsupported("never"), ValueError("a bug")])
async def test_other_errors_say_nothing(service: AroundBlobService, recorder: Recorder, error: Exception) -> None:
    for failure in [CUT, CUT, error, error, error, CUT]:
        recorder.failure = failure
        with pytest.raises(type(failure)):
            await service.has(DIGEST)
    recorder.failure = None
    with pytest.raises(Unavailable, match="not asked, it failed 3 times"):
        await service.has(DIGEST)


async def test_then_one_call_tries_it(service: AroundBlobService, recorder: Recorder, clock: Clock) -> None:
    recorder.failure = CUT
    await fail(service, 3)
    clock.now += 10
    recorder.failure = None
    assert await service.has(DIGEST) is False
    recorder.failure = CUT
    await fail(service, 2)  # the count begins anew
    assert len(recorder.calls) == 6


async def test_each_try_that_fails_doubles_the_time(
    service: AroundBlobService, recorder: Recorder, clock: Clock
) -> None:
    recorder.failure = CUT
    await fail(service, 3)
    for seconds in (10, 20, 25, 25):
        n_asked = len(recorder.calls)
        clock.now += seconds - 0.1
        await fail(service)
        assert len(recorder.calls) == n_asked
        clock.now += 0.1
        await fail(service)
        assert len(recorder.calls) == n_asked + 1


async def test_an_answer_makes_the_time_short_again(
    service: AroundBlobService, recorder: Recorder, clock: Clock
) -> None:
    recorder.failure = CUT
    await fail(service, 3)
    clock.now += 10
    await fail(service)
    clock.now += 20
    recorder.failure = None
    await service.has(DIGEST)
    recorder.failure = CUT
    await fail(service, 3)
    with pytest.raises(Unavailable, match="next try in 10 s"):
        await service.has(DIGEST)


async def test_only_one_tries_at_a_time_and_may_be_cancelled(clock: Clock) -> None:
    hang = Hang()

    class Hanging(ForwardingBlobService):
        async def has(self, digest: B3Digest) -> bool:
            if clock.now == 1000:
                raise CUT
            await hang()
            return False

    service = AroundBlobService(Hanging(MemoryBlobService()), Breaker("far", failures=1, open_s=10, clock=clock))
    await fail(service)
    clock.now += 10
    task = asyncio.create_task(service.has(DIGEST))
    await hang.called.wait()
    with pytest.raises(Unavailable, match="a call that tries it is under way"):
        await service.open_write()
    task.cancel()
    await asyncio.wait([task])
    async with await service.open_write():  # tries it next
        pass
    async with await service.open_write():
        pass


async def test_what_is_open_goes_on(service: AroundBlobService, recorder: Recorder) -> None:
    async with await service.open_write() as writer:
        recorder.failure = CUT
        await fail(service, 4)
        recorder.failure = None
        await writer.write(b"blob")
        assert await writer.close() == DIGEST
    await fail(service)  # to go on is not to try it


async def test_failures_of_what_is_open_count(service: AroundBlobService, recorder: Recorder) -> None:
    async with await service.open_write() as writer:
        recorder.failure = CUT
        for _ in range(3):
            with pytest.raises(Unavailable, match="the line is cut"):
                await writer.write(b"x")
    with pytest.raises(Unavailable, match="not asked"):
        await service.has(DIGEST)


async def test_an_answer_from_before_does_not_end_it(clock: Clock) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    class Slow(ForwardingBlobService):
        async def has(self, digest: B3Digest) -> bool:
            asked.set()
            await may_answer.wait()
            return True

        async def sync(self) -> None:
            raise CUT

    service = AroundBlobService(Slow(MemoryBlobService()), Breaker("far", failures=1, open_s=10, clock=clock))
    task = asyncio.create_task(service.has(DIGEST))
    await asked.wait()
    with pytest.raises(Unavailable):
        await service.sync()  # upkeep counts as all else does
    may_answer.set()
    assert await task is True
    with pytest.raises(Unavailable, match="not asked"):
        await service.has(DIGEST)
