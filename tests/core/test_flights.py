"""Calls that several callers share."""

from __future__ import annotations

import asyncio

import pytest

from tvix_store.errors import Unavailable
from tvix_store.flights import Flights

pytestmark = pytest.mark.anyio


class Call:
    """A call that ends when it is told to, and knows what became of it."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.was_cancelled = asyncio.Event()

    async def __call__(self) -> int:
        self.count += 1
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        return self.count


async def test_callers_at_the_same_time_share_a_call() -> None:
    flights: Flights[str, int] = Flights()
    call = Call()
    tasks = [asyncio.create_task(flights.join("key", call)) for _ in range(50)]
    await call.begun.wait()
    call.may_end.set()
    assert await asyncio.gather(*tasks) == [1] * 50
    assert await flights.join("key", call) == 2


async def test_keys_have_calls_of_their_own() -> None:
    flights: Flights[str, int] = Flights()
    call = Call()
    call.may_end.set()
    assert sorted(await asyncio.gather(flights.join("a", call), flights.join("b", call))) == [1, 2]


async def test_a_caller_that_goes_away_leaves_the_call_to_the_others() -> None:
    flights: Flights[str, int] = Flights()
    call = Call()
    first, second = (asyncio.create_task(flights.join("key", call)) for _ in range(2))
    await call.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    call.may_end.set()
    assert await second == 1


async def test_a_call_ends_when_nobody_waits_any_more() -> None:
    flights: Flights[str, int] = Flights()
    call = Call()
    tasks = [asyncio.create_task(flights.join("key", call)) for _ in range(3)]
    await call.begun.wait()
    for task in tasks:
        task.cancel()
    await call.was_cancelled.wait()
    call.may_end.set()
    assert await flights.join("key", call) == 2


async def test_a_call_that_was_given_up_is_not_joined() -> None:
    flights: Flights[str, int] = Flights()
    call, other = Call(), Call()
    flight = flights.start("key", call)
    flight.hold()
    await call.begun.wait()
    flight.release()
    other.may_end.set()
    assert await flights.join("key", other) == 1
    assert other.count == 1


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    flights: Flights[str, int] = Flights()

    async def fail() -> int:
        raise Unavailable("not now")

    results = await asyncio.gather(*(flights.join("key", fail) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["not now"] * 3
    call = Call()
    call.may_end.set()
    assert await flights.join("key", call) == 1


async def test_closing_ends_what_is_under_way() -> None:
    flights: Flights[str, int] = Flights()
    call = Call()
    task = asyncio.create_task(flights.join("key", call))
    await call.begun.wait()
    await flights.aclose()
    assert call.was_cancelled.is_set()
    with pytest.raises(Unavailable, match="closed"):
        await task
    await flights.aclose()
