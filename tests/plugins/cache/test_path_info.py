"""What the cache does with its two sides: each row of the table in its README."""

from __future__ import annotations

import asyncio

import pytest

from plugins.cache.far_sides import NAR, CountingService, FailingService, StreamingService
from tvix_store.capabilities import Capabilities
from tvix_store.checked import CheckedPathInfoService
from tvix_store.errors import CorruptObject, OutOfSpace, Unavailable, Unsupported
from tvix_store.path_info import PathInfo, PathInfoService, Signature
from tvix_store.testing.fixtures import PATH_INFO, PATH_INFO_SIGNED
from tvix_store.testing.path_info_suite import path_info
from tvix_store_cache.path_info import CachePathInfoService
from tvix_store_cache.sides import CachePolicy, WriteTo
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

DIGEST = PATH_INFO.store_path.digest


@pytest.fixture
def near() -> CountingService:
    return CountingService()


@pytest.fixture
def far() -> StreamingService:
    return StreamingService()


@pytest.fixture
def cache(near: CountingService, far: StreamingService) -> CachePathInfoService:
    return CachePathInfoService("cache", near, far)


def holds(service: MemoryPathInfoService, path_info: PathInfo) -> bool:
    return path_info.store_path.digest in service.encodings


async def test_get_fills_near(cache: CachePathInfoService, near: CountingService, far: CountingService) -> None:
    await far.put(PATH_INFO)
    assert await cache.get(DIGEST) == PATH_INFO
    assert await near.get(DIGEST) == PATH_INFO
    assert await cache.get(DIGEST) == PATH_INFO
    assert far.asked["get"] == 1


async def test_get_does_not_ask_far_for_what_is_near(
    cache: CachePathInfoService, near: CountingService, far: CountingService
) -> None:
    await near.put(PATH_INFO)
    assert await cache.get(DIGEST) == PATH_INFO
    assert far.asked == {}


async def test_what_neither_has_is_absent_and_asked_for_again(
    cache: CachePathInfoService, far: CountingService
) -> None:
    assert await cache.get(DIGEST) is None
    assert await cache.get(DIGEST) is None
    assert far.asked["get"] == 2


async def test_get_answers_with_what_near_stored(far: CountingService) -> None:
    class Signing(MemoryPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(path_info.with_signatures(Signature("near", bytes(64))))

    await far.put(PATH_INFO)
    found = await CachePathInfoService("cache", Signing(), far).get(DIGEST)
    assert found is not None
    assert found.signatures[-1].name == "near"


async def test_many_who_ask_at_once_ask_far_once(cache: CachePathInfoService, far: CountingService) -> None:
    await far.put(PATH_INFO)
    far.may_answer.clear()
    tasks = [asyncio.create_task(cache.get(DIGEST)) for _ in range(100)]
    await far.is_asked.wait()
    far.may_answer.set()
    assert await asyncio.gather(*tasks) == [PATH_INFO] * 100
    assert far.asked["get"] == 1


async def test_who_looked_before_another_fill_ended_does_not_ask_far_again(far: CountingService) -> None:
    class Slow(MemoryPathInfoService):
        gate: asyncio.Event | None = None

        async def get(self, digest: bytes) -> PathInfo | None:
            found = await super().get(digest)
            gate, self.gate = self.gate, None
            if gate is not None:
                await gate.wait()
            return found

    near = Slow()
    near.gate = gate = asyncio.Event()
    cache = CachePathInfoService("cache", near, far)
    await far.put(PATH_INFO)
    late = asyncio.create_task(cache.get(DIGEST))
    await asyncio.sleep(0)
    assert await cache.get(DIGEST) == PATH_INFO
    gate.set()
    assert await late == PATH_INFO
    assert far.asked["get"] == 1


async def test_get_metadata_does_not_fill(
    cache: CachePathInfoService, near: CountingService, far: CountingService
) -> None:
    await far.put(PATH_INFO)
    assert await cache.get_metadata(DIGEST) == PATH_INFO
    assert not holds(near, PATH_INFO)
    await near.put(PATH_INFO_SIGNED)
    assert await cache.get_metadata(DIGEST) == PATH_INFO_SIGNED
    assert (far.asked["get_metadata"], far.asked["get"]) == (1, 0)


async def test_get_many_asks_far_for_the_rest_in_one_batch(
    cache: CachePathInfoService, near: CountingService, far: CountingService
) -> None:
    infos = [path_info(number) for number in range(6)]
    await MemoryPathInfoService.put_many(near, infos[:2])
    await MemoryPathInfoService.put_many(far, infos[2:5])
    digests = [info.store_path.digest for info in [*infos, infos[2]]]
    assert list(await cache.get_many(digests)) == [*infos[:5], None, infos[2]]
    assert (far.asked, near.asked["put_many"]) == ({"get_many": 1}, 1)
    assert list(await cache.get_many(digests[:5])) == infos[:5]
    assert far.asked == {"get_many": 1}


@pytest.mark.parametrize(
    ("write_to", "in_near", "in_far"), [("near", True, False), ("far", False, True), ("both", True, True)]
)
async def test_puts_go_where_they_should(
    near: CountingService, far: CountingService, write_to: str, in_near: bool, in_far: bool
) -> None:
    cache = CachePathInfoService("cache", near, far, CachePolicy(WriteTo(write_to)))
    other = path_info(1)
    assert await cache.put(PATH_INFO) == PATH_INFO
    assert list(await cache.put_many([PATH_INFO, other])) == [PATH_INFO, other]
    assert [holds(near, info) for info in (PATH_INFO, other)] == [in_near] * 2
    assert [holds(far, info) for info in (PATH_INFO, other)] == [in_far] * 2
    assert await cache.get(DIGEST) == PATH_INFO


async def test_a_put_to_far_replaces_what_near_has(near: CountingService, far: CountingService) -> None:
    await near.put(PATH_INFO)
    cache = CachePathInfoService("cache", near, far, CachePolicy(WriteTo.FAR))
    await cache.put_many([PATH_INFO_SIGNED, path_info(1)])
    assert await cache.get(DIGEST) == PATH_INFO_SIGNED
    assert not holds(near, path_info(1))


async def test_list_delete_and_statistics_are_of_near(
    cache: CachePathInfoService, near: CountingService, far: CountingService
) -> None:
    await near.put(PATH_INFO)
    await far.put(path_info(1))
    assert [info async for info in cache.list()] == [PATH_INFO]
    assert (await cache.stats()).objects == 1
    assert [damage async for damage in cache.verify()] == []
    await cache.delete([DIGEST, path_info(1).store_path.digest])
    assert (holds(near, PATH_INFO), holds(far, path_info(1))) == (False, True)
    assert cache.capabilities == near.capabilities == Capabilities(list=True, delete=True)


@pytest.mark.parametrize("write_to", [WriteTo.FAR, WriteTo.BOTH])
async def test_where_puts_go_far_what_is_far_is_listed_and_nothing_deleted(
    near: CountingService, far: CountingService, write_to: WriteTo
) -> None:
    cache = CachePathInfoService("cache", near, far, CachePolicy(write_to))
    await cache.put_many([PATH_INFO, path_info(1)])
    near.encodings.clear()
    assert {info async for info in cache.list()} == {PATH_INFO, path_info(1)}
    assert (await cache.stats()).objects == 2
    assert [damage async for damage in cache.verify()] == []
    with pytest.raises(Unsupported):
        await cache.delete([DIGEST])
    assert await cache.get(DIGEST) == PATH_INFO


# Errors


@pytest.mark.parametrize(
    ("near_fails", "far_fails"),
    [(["get"], []), ([], ["get"]), (["put", "put_many"], [])],
    ids=["near get", "far get", "near put"],
)
async def test_an_error_of_either_side_is_no_miss(near_fails: list[str], far_fails: list[str]) -> None:
    error = Unavailable("not now")
    near = FailingService(error, *near_fails, *(["get_many"] if "get" in near_fails else []))
    far = FailingService(error, *far_fails, *(["get_many"] if "get" in far_fails else []))
    await MemoryPathInfoService.put(far, PATH_INFO)
    cache = CachePathInfoService("cache", near, far)
    with pytest.raises(Unavailable, match="not now"):
        await cache.get(DIGEST)
    with pytest.raises(Unavailable, match="not now"):
        await cache.get_many([DIGEST])


@pytest.mark.parametrize("side", ["near", "far"])
@pytest.mark.parametrize("method", ["get_metadata", "open_nar"])
async def test_an_error_of_either_side_is_no_missing_metadata(side: str, method: str) -> None:
    sides: dict[str, PathInfoService] = {"near": MemoryPathInfoService(), "far": MemoryPathInfoService()}
    sides[side] = FailingService(Unavailable("not now"), method)
    cache = CachePathInfoService("cache", sides["near"], sides["far"])
    with pytest.raises(Unavailable, match="not now"):
        await getattr(cache, method)(DIGEST)


async def test_what_far_refuses_is_not_near(near: CountingService) -> None:
    far = FailingService(Unavailable("not now"), "put_many")
    cache = CachePathInfoService("cache", near, far, CachePolicy(WriteTo.BOTH))
    with pytest.raises(Unavailable):
        await cache.put(PATH_INFO)
    assert not holds(near, PATH_INFO)


# NARs on their way


async def test_what_was_streamed_is_near(
    cache: CachePathInfoService, near: CountingService, far: StreamingService
) -> None:
    await far.put(PATH_INFO)
    stream = await cache.open_nar(DIGEST)
    assert stream is not None
    assert [piece async for piece in stream.pieces] == NAR
    assert holds(near, PATH_INFO)
    assert far.asked["get"] == 1
    assert await cache.open_nar(DIGEST) is None


async def test_the_last_piece_waits_for_near(
    cache: CachePathInfoService, near: CountingService, far: StreamingService
) -> None:
    await far.put(PATH_INFO)
    stream = await cache.open_nar(DIGEST)
    assert stream is not None
    assert [await anext(stream.pieces) for _ in NAR[:-1]] == NAR[:-1]
    far.may_answer.clear()
    last = asyncio.ensure_future(anext(stream.pieces))
    await far.is_asked.wait()
    assert not last.done()
    far.may_answer.set()
    assert await last == NAR[-1]
    assert holds(near, PATH_INFO)


async def test_a_stream_fails_before_its_end_if_near_cannot_be_filled(far: StreamingService) -> None:
    await far.put(PATH_INFO)
    cache = CachePathInfoService("cache", FailingService(Unavailable("near is full"), "put"), far)
    stream = await cache.open_nar(DIGEST)
    assert stream is not None
    pieces = []
    with pytest.raises(Unavailable, match="near is full"):  # noqa: PT012 - some come before that
        async for piece in stream.pieces:
            pieces.append(piece)
    assert pieces == NAR[:-1]
    assert far.closed == 1


async def test_a_fill_ends_when_its_readers_have_gone(
    cache: CachePathInfoService, near: CountingService, far: StreamingService
) -> None:
    await far.put(PATH_INFO)
    far.may_answer.clear()
    one, other = [await cache.open_nar(DIGEST) for _ in range(2)]
    assert one is not None
    assert other is not None
    await far.is_asked.wait()
    await one.pieces.aclose()  # without having read anything
    assert await anext(other.pieces) == NAR[0]
    assert not far.was_cancelled.is_set()
    await other.pieces.aclose()
    await far.was_cancelled.wait()
    assert not holds(near, PATH_INFO)
    assert far.asked["get"] == 1


async def test_a_fill_goes_on_for_the_readers_that_are_left(
    cache: CachePathInfoService, near: CountingService, far: StreamingService
) -> None:
    await far.put(PATH_INFO)
    far.may_answer.clear()
    one, other = [await cache.open_nar(DIGEST) for _ in range(2)]
    assert one is not None
    assert other is not None
    await far.is_asked.wait()
    await one.pieces.aclose()
    far.may_answer.set()
    assert [piece async for piece in other.pieces] == NAR
    assert holds(near, PATH_INFO)


async def test_nar_calculation_is_that_of_the_sides() -> None:
    cache = CachePathInfoService("cache", MemoryPathInfoService(), MemoryPathInfoService())
    assert cache.nar_calculation() is None


# Damage near


@pytest.mark.parametrize("method", ["get", "get_many", "get_metadata"])
async def test_what_is_corrupt_near_is_taken_from_far(far: CountingService, method: str) -> None:
    near = MemoryPathInfoService()
    cache = CachePathInfoService("cache", CheckedPathInfoService("near", near), far)
    await far.put(PATH_INFO)
    near.encodings[DIGEST] = b"damaged"
    found = await (cache.get_many([DIGEST]) if method == "get_many" else getattr(cache, method)(DIGEST))
    assert found == ([PATH_INFO] if method == "get_many" else PATH_INFO)
    assert near.encodings.get(DIGEST) != b"damaged"
    assert (await near.get(DIGEST)) == (None if method == "get_metadata" else PATH_INFO)


@pytest.mark.parametrize("method", ["get", "get_many", "get_metadata"])
async def test_what_is_corrupt_near_and_not_far_is_no_miss(far: CountingService, method: str) -> None:
    near = MemoryPathInfoService()
    cache = CachePathInfoService("cache", CheckedPathInfoService("near", near), far)
    near.encodings[DIGEST] = b"damaged"
    with pytest.raises(CorruptObject):
        await (cache.get_many([DIGEST]) if method == "get_many" else getattr(cache, method)(DIGEST))


async def test_the_rest_of_a_batch_with_damage_is_still_near(far: CountingService) -> None:
    near = MemoryPathInfoService()
    cache = CachePathInfoService("cache", CheckedPathInfoService("near", near), far)
    await far.put(PATH_INFO)
    await near.put(path_info(1))
    near.encodings[DIGEST] = b"damaged"
    digests = [path_info(1).store_path.digest, DIGEST, path_info(2).store_path.digest]
    assert list(await cache.get_many(digests)) == [path_info(1), PATH_INFO, None]


# Failures of near that are let pass


@pytest.mark.parametrize("failure", [Unavailable("not now"), OutOfSpace("full")])
async def test_far_answers_while_near_fails(far: CountingService, failure: Unavailable) -> None:
    methods = ["get", "get_many", "get_metadata", "open_nar", "put", "put_many"]
    near = FailingService(failure, *methods)
    cache = CachePathInfoService("cache", near, far, CachePolicy(WriteTo.FAR, skip_near_errors=True))
    await far.put(PATH_INFO)
    assert await cache.get(DIGEST) == PATH_INFO
    assert await cache.get_many([DIGEST]) == [PATH_INFO]
    assert await cache.get_metadata(DIGEST) == PATH_INFO
    assert await cache.open_nar(DIGEST) is not None
    assert near.encodings == {}


async def test_a_put_near_that_fails_is_never_let_pass(far: CountingService) -> None:
    near = FailingService(OutOfSpace("full"), "put", "put_many")
    cache = CachePathInfoService("cache", near, far, CachePolicy(skip_near_errors=True))
    with pytest.raises(OutOfSpace):
        await cache.put(PATH_INFO)


# What far lacked


@pytest.fixture
def remembering(near: CountingService, far: StreamingService) -> CachePathInfoService:
    return CachePathInfoService("cache", near, far, CachePolicy(WriteTo.FAR, negative_ttl_s=3600))


@pytest.mark.parametrize("method", ["get", "get_many", "get_metadata"])
async def test_what_far_lacked_is_not_asked_for_again(
    remembering: CachePathInfoService, far: StreamingService, method: str
) -> None:
    await (remembering.get_many([DIGEST]) if method == "get_many" else getattr(remembering, method)(DIGEST))
    assert far.asked.total() == 1
    assert await remembering.get(DIGEST) is None
    assert await remembering.get_metadata(DIGEST) is None
    assert await remembering.open_nar(DIGEST) is None
    assert await remembering.get_many([DIGEST]) == [None]
    assert far.asked.total() == 1


async def test_what_was_put_is_not_absent_any_more(remembering: CachePathInfoService) -> None:
    assert await remembering.get(DIGEST) is None
    await remembering.put(PATH_INFO)
    assert await remembering.get(DIGEST) == PATH_INFO


async def test_what_is_put_while_far_is_asked_is_not_remembered_as_absent(
    remembering: CachePathInfoService, far: StreamingService
) -> None:
    far.may_answer.clear()
    asking = asyncio.create_task(remembering.get(DIGEST))
    await far.is_asked.wait()
    putting = asyncio.create_task(remembering.put(PATH_INFO))
    far.may_answer.set()
    await putting
    await asking
    assert await remembering.get(DIGEST) == PATH_INFO


# Without filling


async def test_combined_leaves_near_as_it_is(near: CountingService, far: StreamingService) -> None:
    combined = CachePathInfoService("combined", near, far, CachePolicy(fills=False))
    await far.put(PATH_INFO)
    assert await combined.get(DIGEST) == PATH_INFO
    assert list(await combined.get_many([DIGEST])) == [PATH_INFO]
    stream = await combined.open_nar(DIGEST)
    assert stream is not None
    assert [piece async for piece in stream.pieces] == NAR
    assert not holds(near, PATH_INFO)
