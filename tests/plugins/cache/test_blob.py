"""What the cache of blobs does with its two sides: the rows of the table in its README that are not about streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from plugins.cache.sides import BlobSide, BlobSides
from tvix_store.blob import BlobService, ChunkMeta
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, LimitExceeded, OutOfSpace, Unavailable, Unsupported
from tvix_store.limits import MIB
from tvix_store.testing.blob_access import read_blob, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_cache.sides import CachePolicy, WriteTo, capabilities_of
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

A, B, C, D = [HashedBlob(contents(1000, seed)) for seed in range(4)]
READS = ["has", "has_many", "get_many", "open_read", "chunks"]


async def ask(service: BlobService, method: str, blob: HashedBlob = A) -> Any:
    """Whether it is there, as ``method`` has it; contents are compared on the way."""
    match method:
        case "has":
            return await service.has(blob.digest)
        case "chunks":
            return await service.chunks(blob.digest) is not None
        case "has_many":
            return (await service.has_many([blob.digest]))[0]
        case "get_many":
            data = (await service.get_many([blob.digest]))[0]
        case _:
            data = await read_blob(service, blob.digest)
    assert data in (None, blob.data)
    return data is not None


async def holds(side: BlobSide, *blobs: HashedBlob) -> list[bool]:
    return list(await side.store.has_many([blob.digest for blob in blobs]))


# Looking and reading


@pytest.mark.parametrize("method", READS)
async def test_far_is_not_asked_for_what_is_near(method: str) -> None:
    sides = BlobSides()
    await sides.near.store.put_many([A])
    assert await ask(sides.cache(), method) is True
    assert sides.far.asked.calls == []


@pytest.mark.parametrize("method", READS)
async def test_what_is_not_near_is_far(method: str) -> None:
    sides = BlobSides()
    await sides.far.store.put_many([A])
    assert await ask(sides.cache(), method) is True
    assert await holds(sides.near, A) == [method in ("get_many", "open_read")]


@pytest.mark.parametrize("method", READS)
async def test_what_neither_has_is_absent_and_asked_for_again(method: str) -> None:
    sides = BlobSides()
    cache = sides.cache()
    assert await ask(cache, method) is False
    n_calls = len(sides.far.asked.calls)
    assert await ask(cache, method) is False
    assert len(sides.far.asked.calls) == 2 * n_calls > 0


@pytest.mark.parametrize("side", ["near", "far"])
@pytest.mark.parametrize("method", READS)
async def test_an_error_of_either_side_is_no_miss(side: str, method: str) -> None:
    sides = BlobSides()
    getattr(sides, side).asked.failure = Unavailable("not now")
    with pytest.raises(Unavailable, match="not now"):
        await ask(sides.cache(), method)


async def test_the_rest_of_a_batch_is_one_batch() -> None:
    sides = BlobSides()
    await sides.near.store.put_many([A])
    await sides.far.store.put_many([B, C])
    cache, digests = sides.cache(), [blob.digest for blob in (B, A, D, C, B)]
    assert list(await cache.has_many(digests)) == [True, True, False, True, True]
    assert list(await cache.get_many(digests)) == [B.data, A.data, None, C.data, B.data]
    assert sides.near.asked.calls == [("has_many", 5), ("get_many", 5), ("put_many", 2)]
    assert sides.far.asked.calls == [("has_many", 3), ("get_many", 3)]


async def test_a_long_blob_of_a_batch_is_written_near() -> None:
    sides, long = BlobSides(), HashedBlob(contents(1 * MIB + 1))
    await write_blob(sides.far.store, long.data)
    assert await sides.cache().get_many([long.digest], max_blob_bytes=2 * MIB) == [long.data]
    assert "put_many" not in sides.near.asked.methods
    assert await holds(sides.near, long) == [True]


async def test_what_is_longer_than_asked_is_refused_wherever_it_is() -> None:
    sides = BlobSides()
    await sides.far.store.put_many([A])
    with pytest.raises(LimitExceeded):
        await sides.cache().get_many([A.digest], max_blob_bytes=999)


async def test_chunks_of_far_are_passed_on() -> None:
    class Chunked(MemoryBlobService):
        async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta]:
            return [ChunkMeta(B.digest, 1000), ChunkMeta(C.digest, 1000)]

    sides = BlobSides(far=BlobSide(Chunked()))
    assert await sides.cache().chunks(A.digest) == [ChunkMeta(B.digest, 1000), ChunkMeta(C.digest, 1000)]
    await sides.near.store.put_many([A])
    assert await sides.cache().chunks(A.digest) == []


# Damage near


@pytest.mark.parametrize("method", ["get_many", "open_read"])
async def test_what_is_corrupt_near_is_healed_from_far(method: str) -> None:
    sides = BlobSides()
    await sides.far.store.put_many([A])
    sides.near.memory.contents[A.digest.raw] = b"damaged"
    assert await ask(sides.cache(), method) is True
    assert sides.near.memory.contents[A.digest.raw] == A.data


@pytest.mark.parametrize("method", ["get_many", "open_read"])
async def test_what_is_corrupt_near_and_not_far_is_no_miss(method: str) -> None:
    sides = BlobSides()
    sides.near.memory.contents[A.digest.raw] = b"damaged"
    with pytest.raises(CorruptObject):
        await ask(sides.cache(), method)


@pytest.mark.parametrize("method", ["open_read", "chunks"])
async def test_near_may_say_at_once_that_it_is_corrupt(method: str) -> None:
    sides = BlobSides()
    sides.near.asked.failure, sides.near.asked.failing = CorruptObject("damaged"), [method]
    with pytest.raises(CorruptObject, match="damaged"):
        await ask(sides.cache(), method)
    await sides.far.store.put_many([A])
    assert await ask(sides.cache(), method) is True


async def test_the_rest_of_a_batch_with_damage_is_still_near() -> None:
    sides = BlobSides()
    await sides.near.store.put_many([A])
    await sides.far.store.put_many([B])
    sides.near.memory.contents[B.digest.raw] = b"damaged"
    blobs = await sides.cache().get_many([A.digest, B.digest, C.digest])
    assert list(blobs) == [A.data, B.data, None]
    assert sides.near.memory.contents[B.digest.raw] == B.data


async def test_damage_that_may_be_any_of_a_batch_is_no_miss() -> None:
    sides = BlobSides()
    sides.near.asked.failure, sides.near.asked.failing = CorruptObject("one of them"), ["get_many"]
    with pytest.raises(CorruptObject, match="one of them"):
        await sides.cache().get_many([A.digest, B.digest])


@pytest.mark.parametrize("method", ["get_many", "open_read"])
async def test_what_is_corrupt_far_is_an_error_and_not_near(method: str) -> None:
    sides = BlobSides()
    sides.far.memory.contents[A.digest.raw] = b"damaged"
    with pytest.raises(CorruptObject):
        await ask(sides.cache(), method)
    assert await holds(sides.near, A) == [False]


# Failures of near that are let pass


@pytest.mark.parametrize("failure", [Unavailable("not now"), OutOfSpace("full")])
@pytest.mark.parametrize("method", READS)
async def test_far_answers_while_near_fails(method: str, failure: Unavailable) -> None:
    sides = BlobSides()
    await sides.far.store.put_many([A])
    sides.near.asked.failure = failure
    cache = sides.cache(CachePolicy(skip_near_errors=True))
    assert await ask(cache, method) is True
    assert await ask(cache, method, B) is False
    assert await holds(sides.near, A) == [False]


async def test_the_failures_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    sides = BlobSides()
    sides.near.asked.failure = Unavailable("not now")
    cache = sides.cache(CachePolicy(skip_near_errors=True))
    for _ in range(3):
        await cache.has(A.digest)
    assert [record.getMessage() for record in caplog.records] == [
        "cache: the near side fails, going on without it: not now"
    ]


@pytest.mark.parametrize("method", ["get_many", "open_read"])
async def test_an_error_of_a_fill_is_an_error_unless_it_is_let_pass(method: str) -> None:
    sides = BlobSides()
    await sides.far.store.put_many([A])
    sides.near.asked.failure = OutOfSpace("full")
    sides.near.asked.failing = ["put_many", "writer.close"]
    with pytest.raises(OutOfSpace):
        await ask(sides.cache(), method)
    assert await ask(sides.cache(CachePolicy(skip_near_errors=True)), method) is True


@pytest.mark.parametrize("write_to", [WriteTo.NEAR, WriteTo.BOTH])
async def test_a_put_near_that_fails_is_never_let_pass(write_to: WriteTo) -> None:
    sides = BlobSides()
    sides.near.asked.failure = OutOfSpace("full")
    cache = sides.cache(CachePolicy(write_to, skip_near_errors=True))
    with pytest.raises(OutOfSpace):
        await cache.put_many([A])
    with pytest.raises(OutOfSpace):
        await write_blob(cache, B.data)


# What far lacked


@pytest.mark.parametrize("first", READS)
async def test_what_far_lacked_is_not_asked_for_again(first: str) -> None:
    sides = BlobSides()
    cache = sides.cache(CachePolicy(negative_ttl_s=3600))
    assert await ask(cache, first) is False
    n_calls = len(sides.far.asked.calls)
    assert [await ask(cache, method) for method in READS] == [False] * len(READS)
    assert len(sides.far.asked.calls) == n_calls
    assert await ask(cache, first, B) is False
    assert len(sides.far.asked.calls) == 2 * n_calls


@pytest.mark.parametrize("batch", [False, True])
async def test_what_was_put_is_not_absent_any_more(batch: bool) -> None:
    sides = BlobSides()
    cache = sides.cache(CachePolicy(WriteTo.FAR, negative_ttl_s=3600))
    assert await cache.has(A.digest) is False
    await (cache.put_many([A]) if batch else write_blob(cache, A.data))
    assert await cache.has(A.digest) is True


@pytest.mark.parametrize("batch", [False, True])
async def test_after_a_put_that_failed_far_is_asked_again(batch: bool) -> None:
    sides = BlobSides()
    cache = sides.cache(CachePolicy(WriteTo.FAR, negative_ttl_s=3600))
    assert await cache.has(A.digest) is False
    sides.far.asked.failure, sides.far.asked.failing = Unavailable("lost"), ["put_many", "writer.close"]
    with pytest.raises(Unavailable):
        await (cache.put_many([A]) if batch else write_blob(cache, A.data))
    await sides.far.store.put_many([A])  # as if it had got through, and only the answer was lost
    assert await cache.has(A.digest) is True


# Writing


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("write_to", "in_near", "in_far"), [("near", True, False), ("far", False, True), ("both", True, True)]
)
async def test_puts_go_where_they_should(write_to: str, in_near: bool, in_far: bool, batch: bool) -> None:
    sides = BlobSides()
    cache = sides.cache(CachePolicy(WriteTo(write_to)))
    await (cache.put_many([A]) if batch else write_blob(cache, A.data[:10], A.data[10:]))
    assert (await holds(sides.near, A), await holds(sides.far, A)) == ([in_near], [in_far])
    assert await ask(cache, "open_read") is True


@pytest.mark.parametrize("failing", ["open_write", "writer.write", "writer.close", "put_many"])
async def test_near_never_has_what_far_refused(failing: str) -> None:
    sides = BlobSides()
    cache = sides.cache(CachePolicy(WriteTo.BOTH))
    sides.far.asked.failure, sides.far.asked.failing = Unavailable("not now"), [failing]
    with pytest.raises(Unavailable, match="not now"):
        await (cache.put_many([A]) if failing == "put_many" else write_blob(cache, A.data))
    assert await holds(sides.near, A) == [False]


@pytest.mark.parametrize("failing", ["writer.close", "put_many"])
async def test_what_near_refused_stays_far_and_can_be_put_again(failing: str) -> None:
    sides = BlobSides()
    cache = sides.cache(CachePolicy(WriteTo.BOTH))
    sides.near.asked.failure, sides.near.asked.failing = OutOfSpace("full"), [failing]
    with pytest.raises(OutOfSpace):
        await (cache.put_many([A]) if failing == "put_many" else write_blob(cache, A.data))
    assert (await holds(sides.near, A), await holds(sides.far, A)) == ([False], [True])
    sides.near.asked.failure = None
    await (cache.put_many([A]) if failing == "put_many" else write_blob(cache, A.data))
    assert await holds(sides.near, A) == [True]


@pytest.mark.parametrize("side", ["near", "far"])
async def test_an_upload_that_failed_stays_failed(side: str) -> None:
    sides = BlobSides()
    asked = getattr(sides, side).asked
    asked.failure, asked.failing = Unavailable("not now"), ["writer.write"]
    async with await sides.cache(CachePolicy(WriteTo.BOTH)).open_write() as writer:
        with pytest.raises(Unavailable):
            await writer.write(A.data[:10])
        asked.failure = None
        with pytest.raises(Unavailable):
            await writer.write(A.data[10:])
        with pytest.raises(Unavailable):
            await writer.close()
    assert sides.near.memory.contents == sides.far.memory.contents == {}


@pytest.mark.parametrize(
    ("write_to", "near", "far"),
    [("near", ["sync"], []), ("far", [], ["sync"]), ("both", ["sync"], ["sync"])],
)
async def test_sync_waits_for_what_is_written_to(write_to: str, near: list[str], far: list[str]) -> None:
    sides = BlobSides()
    await sides.cache(CachePolicy(WriteTo(write_to))).sync()
    assert (sides.near.asked.methods, sides.far.asked.methods) == (near, far)


# Upkeep


@pytest.mark.parametrize("write_to", [WriteTo.FAR, WriteTo.BOTH])
async def test_where_puts_go_far_what_is_far_is_listed_and_nothing_deleted(write_to: WriteTo) -> None:
    sides = BlobSides()
    cache = sides.cache(CachePolicy(write_to))
    await cache.put_many([A, B])
    sides.near.memory.contents.clear()
    await cache.get_many([A.digest])
    assert {digest async for digest in cache.list()} == {A.digest, B.digest}
    assert (await cache.stats()).objects == 2
    assert [damage async for damage in cache.verify()] == []
    with pytest.raises(Unsupported):
        await cache.delete([A.digest])
    assert (await holds(sides.near, A), await holds(sides.far, A)) == ([True], [True])


async def test_upkeep_is_of_near() -> None:
    sides = BlobSides()
    await sides.near.store.put_many([A])
    await sides.far.store.put_many([B])
    cache = sides.cache()
    assert [digest async for digest in cache.list()] == [A.digest]
    assert (await cache.stats()).objects == 1
    assert [damage async for damage in cache.verify()] == []
    await cache.delete([A.digest, B.digest])
    assert (await holds(sides.near, A), await holds(sides.far, B)) == ([False], [True])
    assert sides.far.asked.methods == []


async def test_both_sides_discard_what_is_corrupt() -> None:
    sides = BlobSides()
    sides.near.memory.contents[A.digest.raw] = sides.far.memory.contents[A.digest.raw] = b"damaged"
    await sides.cache().discard_corrupt(A.digest)
    assert sides.near.memory.contents == sides.far.memory.contents == {}


@pytest.mark.parametrize(
    ("write_to", "durability"),
    [(WriteTo.NEAR, Durability.BATCHED), (WriteTo.FAR, Durability.COMMIT), (WriteTo.BOTH, Durability.COMMIT)],
)
def test_capabilities_are_those_of_both(write_to: WriteTo, durability: Durability) -> None:
    near = Capabilities(list=True, delete=True, compact=True, verifies=True, durability=Durability.BATCHED)
    far = Capabilities(delete=True, chunks=True, durability=Durability.COMMIT)
    is_near = write_to is WriteTo.NEAR
    expected = Capabilities(list=is_near, delete=is_near, compact=True, chunks=True, durability=durability)
    assert capabilities_of(near, far, write_to) == expected


@pytest.mark.parametrize("write_to", WriteTo)
def test_it_takes_puts_if_where_they_go_does(write_to: WriteTo) -> None:
    takes, refuses = Capabilities(), Capabilities(put=False)
    assert capabilities_of(takes, refuses, write_to).put is (write_to is WriteTo.NEAR)
    assert capabilities_of(refuses, takes, write_to).put is (write_to is WriteTo.FAR)


# Without filling


@pytest.mark.parametrize("method", READS)
async def test_combined_leaves_near_as_it_is(method: str) -> None:
    sides = BlobSides()
    await sides.far.store.put_many([A])
    assert await ask(sides.cache(CachePolicy(fills=False)), method) is True
    assert sides.near.memory.contents == {}
    assert not {"put_many", "open_write"} & set(sides.near.asked.methods)
