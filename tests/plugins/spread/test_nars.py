"""NARs under way, and calculations of NARs, that several path info services offer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from plugins.spread.cells import member
from tvix_store.errors import DanglingReference, InvalidObject, StoreError, Unavailable, Unsupported
from tvix_store.nar_calculation import NarCalculationService, NarDigest
from tvix_store.nodes import Node
from tvix_store.path_info import NarStream
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store_memory.path_info import MemoryPathInfoService
from tvix_store_spread.fallback import FallbackPathInfoService
from tvix_store_spread.mirror import MirrorOptions, SpreadReads
from tvix_store_spread.mirror_path_info import MirrorPathInfoService
from tvix_store_spread.shard_path_info import ShardPathInfoService

pytestmark = pytest.mark.anyio

DIGEST = PATH_INFO.store_path.digest
FOUND = NarDigest(1, bytes(32))


class Fetching(MemoryPathInfoService):
    """Has a NAR under way."""

    async def open_nar(self, digest: bytes) -> NarStream | None:
        async def pieces() -> AsyncGenerator[bytes]:
            yield b"nar"

        return NarStream(3, pieces())


class Calculating(NarCalculationService):
    def __init__(self, error: StoreError | None = None) -> None:
        self._error = error

    async def calculate_nar(self, node: Node) -> NarDigest:
        if self._error is not None:
            raise self._error
        return FOUND


class WithCalculation(MemoryPathInfoService):
    def __init__(self, calculation: NarCalculationService | None) -> None:
        super().__init__()
        self._calculation = calculation

    def nar_calculation(self) -> NarCalculationService | None:
        return self._calculation


async def test_a_stream_comes_from_the_first_that_has_one() -> None:
    service = FallbackPathInfoService("test", {"a": MemoryPathInfoService(), "b": Fetching()})
    stream = await service.open_nar(DIGEST)
    assert stream is not None
    assert [piece async for piece in stream.pieces] == [b"nar"]


async def test_who_has_the_path_needs_no_stream_of_another() -> None:
    first = MemoryPathInfoService()
    await first.put(PATH_INFO)
    assert await FallbackPathInfoService("test", {"a": first, "b": Fetching()}).open_nar(DIGEST) is None


async def test_the_last_one_is_only_asked_for_the_stream() -> None:
    first, last = member("path_info"), member("path_info")
    service = FallbackPathInfoService("test", {"a": first.service, "b": last.service})
    assert await service.open_nar(DIGEST) is None
    assert (first.recorder.methods, last.recorder.methods) == (["open_nar", "get_metadata"], ["open_nar"])


@pytest.mark.parametrize("round_", range(2))
async def test_so_it_is_whoever_is_asked_first(round_: int) -> None:
    members = [member("path_info") for _ in range(2)]
    services = {str(i): each.service for i, each in enumerate(members)}
    service = MirrorPathInfoService("test", services, MirrorOptions(2, SpreadReads.ROUND_ROBIN))
    for _ in range(round_):
        await service.get(DIGEST)
    for each in members:
        each.recorder.calls.clear()
    assert await service.open_nar(DIGEST) is None
    first, last = members[round_], members[1 - round_]
    assert (first.recorder.methods, last.recorder.methods) == (["open_nar", "get_metadata"], ["open_nar"])


@pytest.mark.parametrize("skips_errors", [False, True])
async def test_an_error_of_the_first_is_skipped_if_it_is_to_be(skips_errors: bool) -> None:
    first = member("path_info")
    first.fail(Unavailable("down"))
    members: dict[str, Any] = {"a": first.service, "b": Fetching()}
    service = FallbackPathInfoService("test", members, skips_errors=skips_errors)
    if skips_errors:
        assert await service.open_nar(DIGEST) is not None
    else:
        with pytest.raises(Unavailable):
            await service.open_nar(DIGEST)


def services(*calculations: NarCalculationService | None) -> dict[str, Any]:
    return {str(i): WithCalculation(calculation) for i, calculation in enumerate(calculations)}


def test_without_any_there_is_none() -> None:
    members = services(None, None)
    assert FallbackPathInfoService("test", members).nar_calculation() is None
    assert MirrorPathInfoService("test", members, MirrorOptions(2)).nar_calculation() is None
    assert ShardPathInfoService("test", members, {}).nar_calculation() is None


@pytest.mark.parametrize(
    ("error", "fallback", "mirror"),
    [
        (DanglingReference("missing"), True, True),
        (Unsupported("never"), True, True),
        (Unavailable("down"), False, True),
        (InvalidObject("wrong"), False, False),
    ],
)
async def test_the_next_calculates_what_one_does_not_have(error: StoreError, fallback: bool, mirror: bool) -> None:
    members = services(None, Calculating(error), Calculating())
    made: list[tuple[Any, bool]] = [
        (FallbackPathInfoService("test", members), fallback),
        (ShardPathInfoService("test", members, {}), fallback),
        (MirrorPathInfoService("test", members, MirrorOptions(3)), mirror),
    ]
    for service, goes_on in made:
        calculation = service.nar_calculation()
        if goes_on:
            assert await calculation.calculate_nar(PATH_INFO.node) == FOUND
        else:
            with pytest.raises(type(error)):
                await calculation.calculate_nar(PATH_INFO.node)


async def test_what_could_not_be_found_out_is_told_rather_than_what_is_missing() -> None:
    members = services(Calculating(DanglingReference("missing")), Calculating(Unavailable("down")))
    calculation = MirrorPathInfoService("test", members, MirrorOptions(2)).nar_calculation()
    assert calculation is not None
    with pytest.raises(Unavailable):
        await calculation.calculate_nar(PATH_INFO.node)
