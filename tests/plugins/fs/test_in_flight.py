"""What one caller stores, others wait for."""

from __future__ import annotations

import asyncio

import pytest

from tvix_store_fs.in_flight import InFlight

pytestmark = pytest.mark.anyio

A, B, C = b"a", b"b", b"c"


def test_what_is_claimed_cannot_be_claimed_again() -> None:
    in_flight = InFlight()
    with in_flight.claim([A, B]) as mine, in_flight.claim([B, C]) as others:
        assert list(mine) == [A, B]
        assert list(others) == [C]
    with in_flight.claim([C, B, A]) as mine:
        assert list(mine) == [C, B, A]  # neighbours stay neighbours


async def test_waiting_ends_when_all_are_settled() -> None:
    in_flight = InFlight()
    with in_flight.claim([A]):
        with in_flight.claim([B]):
            waiting = asyncio.ensure_future(in_flight.settled([A, B, C]))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_what_failed_can_be_claimed_by_those_who_waited() -> None:
    in_flight = InFlight()
    with pytest.raises(ZeroDivisionError), in_flight.claim([A]):
        raise ZeroDivisionError
    await in_flight.settled([A])
    with in_flight.claim([A]) as mine:
        assert list(mine) == [A]
