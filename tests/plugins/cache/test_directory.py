"""What the cache of directories does with its two sides: the rows of the table in its README."""

from __future__ import annotations

import re

import pytest

from plugins.cache.sides import DirectorySides
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, OutOfSpace, Unavailable, Unsupported
from tvix_store.limits import BATCH_COUNT
from tvix_store.nodes import Directory, DirectoryNode
from tvix_store.testing.directory_suite import chain
from tvix_store.testing.directory_uploads import assert_whole_and_in_order, leaf, recursive, upload
from tvix_store_cache.directory import CacheDirectoryService
from tvix_store_cache.sides import CachePolicy, WriteTo

pytestmark = pytest.mark.anyio

A, B, C = leaf(1), leaf(2), leaf(3)
MIDDLE = Directory({b"a": A.node(), b"b": B.node()})
ROOT = Directory({b"middle": MIDDLE.node(), b"c": C.node()})
TREE = [A, B, C, MIDDLE, ROOT]
READS = ["get", "get_many", "get_recursive"]


@pytest.fixture
def sides() -> DirectorySides:
    return DirectorySides()


async def found(service: DirectoryService, method: str, directory: Directory = A) -> list[Directory | None]:
    """What ``method`` gives, as a list; ``[None]`` where there is nothing."""
    match method:
        case "get":
            return [await service.get(directory.digest)]
        case "get_many":
            return list(await service.get_many([directory.digest]))
    return [*await recursive(service, directory.digest)] or [None]


# Reading


@pytest.mark.parametrize("method", READS)
async def test_far_is_not_asked_for_what_is_near(sides: DirectorySides, method: str) -> None:
    await sides.near.memory.put(A)
    assert await found(sides.cache(), method) == [A]
    assert sides.far.asked.calls == []


@pytest.mark.parametrize("method", READS)
async def test_what_is_not_near_is_taken_from_far_and_kept(sides: DirectorySides, method: str) -> None:
    await sides.far.memory.put(A)
    assert await found(sides.cache(), method) == [A]
    assert await sides.near.memory.get(A.digest) == A
    assert sides.far.asked.methods == [method]


@pytest.mark.parametrize("method", READS)
async def test_what_neither_has_is_absent_and_asked_for_again(sides: DirectorySides, method: str) -> None:
    for _ in range(2):
        assert await found(sides.cache(), method) == [None]
    assert sides.far.asked.methods == [method, method]


@pytest.mark.parametrize("side", ["near", "far"])
@pytest.mark.parametrize("method", READS)
async def test_an_error_of_either_side_is_no_miss(sides: DirectorySides, side: str, method: str) -> None:
    getattr(sides, side).asked.failure = Unavailable("not now")
    with pytest.raises(Unavailable, match="not now"):
        await found(sides.cache(), method)


async def test_get_takes_the_one_directory_alone(sides: DirectorySides) -> None:
    await sides.far.memory.put_many(TREE)
    await sides.cache().get(ROOT.digest)
    assert list(sides.near.memory.encodings) == [ROOT.digest.raw]


async def test_the_rest_of_a_batch_is_one_batch(sides: DirectorySides) -> None:
    await sides.near.memory.put(A)
    await sides.far.memory.put_many([B, MIDDLE])
    asked = [B, A, C, MIDDLE, B]
    assert list(await sides.cache().get_many([one.digest for one in asked])) == [B, A, None, MIDDLE, B]
    assert sides.near.asked.calls == [("get_many", 5), ("put_many", 2)]
    assert sides.far.asked.calls == [("get_many", 3)]


# Whole trees


async def test_a_tree_that_is_near_is_one_call(sides: DirectorySides) -> None:
    await sides.near.memory.put_many(TREE)
    assert_whole_and_in_order(await recursive(sides.cache(), ROOT.digest), TREE)
    assert sides.near.asked.methods == ["get_recursive"]


async def test_a_tree_that_is_far_is_one_call_and_one_put(sides: DirectorySides) -> None:
    await sides.far.memory.put_many(TREE)
    assert_whole_and_in_order(await recursive(sides.cache(), ROOT.digest), TREE)
    assert sides.far.asked.methods == ["get_recursive"]
    assert sides.near.asked.calls == [("get_recursive", 1), ("put_many", 5)]
    assert_whole_and_in_order(await recursive(sides.near.memory, ROOT.digest), TREE)


async def test_what_far_has_is_given_before_all_of_it_came(sides: DirectorySides) -> None:
    await sides.far.memory.put_many([ROOT])
    tree = sides.cache().get_recursive(ROOT.digest)
    assert await anext(aiter(tree)) == ROOT


async def test_a_large_tree_is_put_near_in_batches(sides: DirectorySides) -> None:
    leaves = [leaf(number) for number in range(BATCH_COUNT + 10)]
    root = Directory({b"%d" % number: one.node() for number, one in enumerate(leaves)})
    await sides.far.memory.put_many([*leaves, root])
    assert len(await recursive(sides.cache(), root.digest)) == BATCH_COUNT + 11
    assert sides.near.asked.calls[1:] == [("put_many", BATCH_COUNT), ("put_many", 11)]


@pytest.mark.parametrize("near", [[ROOT], [ROOT, MIDDLE], [ROOT, A, C], [ROOT, MIDDLE, B, C]])
async def test_what_is_lacking_near_is_taken_from_far_by_levels(sides: DirectorySides, near: list[Directory]) -> None:
    await sides.near.memory.put_many(near)
    await sides.far.memory.put_many(TREE)
    assert_whole_and_in_order(await recursive(sides.cache(), ROOT.digest), TREE)
    assert set(sides.far.asked.methods) == {"get_many"}
    assert len(sides.far.asked.methods) <= 2  # one for each level
    assert len(sides.near.memory.encodings) == len(TREE)


async def test_a_deep_tree_with_its_root_near_comes_whole(sides: DirectorySides) -> None:
    tree = chain(30)
    await sides.near.memory.put(tree[-1])
    await sides.far.memory.put_many(tree)
    assert await recursive(sides.cache(), tree[-1].digest) == tree[::-1]


async def test_what_is_lacking_far_may_be_near(sides: DirectorySides) -> None:
    await sides.far.memory.put_many([ROOT, C])
    await sides.near.memory.put_many([MIDDLE, A, B])
    assert_whole_and_in_order(await recursive(sides.cache(), ROOT.digest), TREE)


@pytest.mark.parametrize("side", ["near", "far"])
async def test_what_neither_has_below_the_root_is_dangling(sides: DirectorySides, side: str) -> None:
    await getattr(sides, side).memory.put_many([ROOT, C, MIDDLE, A])
    with pytest.raises(DanglingReference, match=re.escape(str(B.digest))):
        await recursive(sides.cache(), ROOT.digest)


async def test_a_tree_with_a_wrong_size_in_it_is_refused_wherever_its_parts_are(sides: DirectorySides) -> None:
    wrong = Directory({b"a": DirectoryNode(A.digest, 77)})
    await sides.near.memory.put(wrong)
    await sides.far.memory.put(A)
    with pytest.raises(CorruptObject, match="wrong size"):
        await recursive(sides.cache(), wrong.digest)


async def test_a_wrong_tree_near_is_refused_though_nobody_checked_it(sides: DirectorySides) -> None:
    wrong = Directory({b"a": DirectoryNode(A.digest, 77)})
    await sides.near.memory.put_many([wrong, A])
    cache = CacheDirectoryService("cache", sides.near.memory, sides.far.memory)
    with pytest.raises(CorruptObject, match="wrong size"):
        await recursive(cache, wrong.digest)


async def test_far_may_fail_on_the_way(sides: DirectorySides) -> None:
    await sides.near.memory.put(ROOT)
    sides.far.asked.failure = Unavailable("far is gone")
    with pytest.raises(Unavailable, match="far is gone"):
        await recursive(sides.cache(), ROOT.digest)


# Damage near


@pytest.mark.parametrize("method", READS)
async def test_what_is_corrupt_near_is_healed_from_far(sides: DirectorySides, method: str) -> None:
    await sides.far.memory.put(A)
    sides.near.memory.encodings[A.digest.raw] = b"damaged"
    assert await found(sides.cache(), method) == [A]
    assert await sides.near.memory.get(A.digest) == A


@pytest.mark.parametrize("method", READS)
async def test_what_is_corrupt_near_and_not_far_is_no_miss(sides: DirectorySides, method: str) -> None:
    sides.near.memory.encodings[A.digest.raw] = b"damaged"
    with pytest.raises(CorruptObject):
        await found(sides.cache(), method)


async def test_the_rest_of_a_batch_with_damage_is_still_near(sides: DirectorySides) -> None:
    await sides.near.memory.put(A)
    await sides.far.memory.put(B)
    sides.near.memory.encodings[B.digest.raw] = b"damaged"
    assert list(await sides.cache().get_many([A.digest, B.digest, C.digest])) == [A, B, None]


async def test_a_tree_with_damage_near_is_completed_from_far(sides: DirectorySides) -> None:
    await sides.near.memory.put_many(TREE)
    await sides.far.memory.put_many(TREE)
    sides.near.memory.encodings[MIDDLE.digest.raw] = b"damaged"
    assert_whole_and_in_order(await recursive(sides.cache(), ROOT.digest), TREE)
    assert await sides.near.memory.get(MIDDLE.digest) == MIDDLE


# Failures of near that are let pass


@pytest.mark.parametrize("method", READS)
async def test_far_answers_while_near_fails(sides: DirectorySides, method: str) -> None:
    await sides.far.memory.put(A)
    sides.near.asked.failure = Unavailable("not now")
    cache = sides.cache(CachePolicy(skip_near_errors=True))
    assert await found(cache, method) == [A]
    assert await found(cache, method, B) == [None]
    assert sides.near.memory.encodings == {}


@pytest.mark.parametrize("method", READS)
async def test_an_error_of_a_fill_is_an_error_unless_it_is_let_pass(sides: DirectorySides, method: str) -> None:
    await sides.far.memory.put(A)
    sides.near.asked.failure, sides.near.asked.failing = OutOfSpace("full"), ["put_many"]
    with pytest.raises(OutOfSpace):
        await found(sides.cache(), method)
    assert await found(sides.cache(CachePolicy(skip_near_errors=True)), method) == [A]


# What far lacked


@pytest.mark.parametrize("first", READS)
async def test_what_far_lacked_is_not_asked_for_again(sides: DirectorySides, first: str) -> None:
    cache = sides.cache(CachePolicy(negative_ttl_s=3600))
    assert await found(cache, first) == [None]
    for method in READS:
        assert await found(cache, method) == [None]
    assert sides.far.asked.methods == [first]


@pytest.mark.parametrize("method", ["put", "put_many", "upload"])
async def test_what_was_put_is_not_absent_any_more(sides: DirectorySides, method: str) -> None:
    cache = sides.cache(CachePolicy(WriteTo.FAR, negative_ttl_s=3600))
    assert await cache.get(A.digest) is None
    match method:
        case "put":
            await cache.put(A)
        case "put_many":
            await cache.put_many([A])
        case _:
            await upload(cache, A)
    assert await cache.get(A.digest) == A


# Writing


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("write_to", "in_near", "in_far"), [("near", True, False), ("far", False, True), ("both", True, True)]
)
async def test_puts_go_where_they_should(
    sides: DirectorySides, write_to: str, in_near: bool, in_far: bool, batch: bool
) -> None:
    cache = sides.cache(CachePolicy(WriteTo(write_to)))
    if batch:
        await cache.put_many(TREE)
    else:
        assert await upload(cache, *TREE) == ROOT.digest
    counts = len(sides.near.memory.encodings), len(sides.far.memory.encodings)
    assert counts == (in_near * len(TREE), in_far * len(TREE))


@pytest.mark.parametrize("failing", ["put_many", "put_multiple_start", "putter.put_many", "putter.close"])
async def test_near_never_has_what_far_refused(sides: DirectorySides, failing: str) -> None:
    cache = sides.cache(CachePolicy(WriteTo.BOTH))
    sides.far.asked.failure, sides.far.asked.failing = Unavailable("not now"), [failing]
    with pytest.raises(Unavailable):
        await (cache.put_many(TREE) if failing == "put_many" else upload(cache, *TREE))
    assert sides.near.memory.encodings == {}


async def test_an_upload_that_failed_stays_failed(sides: DirectorySides) -> None:
    sides.near.asked.failure, sides.near.asked.failing = OutOfSpace("full"), ["putter.put_many"]
    async with await sides.cache(CachePolicy(WriteTo.BOTH)).put_multiple_start() as putter:
        with pytest.raises(OutOfSpace):
            await putter.put_many([A])
        sides.near.asked.failure = None
        with pytest.raises(OutOfSpace):
            await putter.put_many([MIDDLE])
        with pytest.raises(OutOfSpace):
            await putter.close()
    assert sides.near.memory.encodings == sides.far.memory.encodings == {}


async def test_an_upload_out_of_order_is_refused(sides: DirectorySides) -> None:
    with pytest.raises(InvalidObject):
        await upload(sides.cache(CachePolicy(WriteTo.BOTH)), ROOT, A)
    assert sides.near.memory.encodings == sides.far.memory.encodings == {}


@pytest.mark.parametrize(
    ("write_to", "near", "far"),
    [("near", ["sync"], []), ("far", [], ["sync"]), ("both", ["sync"], ["sync"])],
)
async def test_sync_waits_for_what_is_written_to(
    sides: DirectorySides, write_to: str, near: list[str], far: list[str]
) -> None:
    await sides.cache(CachePolicy(WriteTo(write_to))).sync()
    assert (sides.near.asked.methods, sides.far.asked.methods) == (near, far)


# Upkeep


@pytest.mark.parametrize("write_to", [WriteTo.FAR, WriteTo.BOTH])
async def test_where_puts_go_far_what_is_far_is_listed_and_nothing_deleted(
    sides: DirectorySides, write_to: WriteTo
) -> None:
    cache = sides.cache(CachePolicy(write_to))
    await cache.put_many([A, B])
    sides.near.memory.encodings.clear()
    assert {digest async for digest in cache.list()} == {A.digest, B.digest}
    assert (await cache.stats()).objects == 2
    assert [damage async for damage in cache.verify()] == []
    with pytest.raises(Unsupported):
        await cache.delete([A.digest])
    assert await cache.get(A.digest) == A


async def test_upkeep_is_of_near(sides: DirectorySides) -> None:
    await sides.near.memory.put(A)
    await sides.far.memory.put(B)
    cache = sides.cache()
    assert [digest async for digest in cache.list()] == [A.digest]
    assert (await cache.stats()).objects == 1
    assert [damage async for damage in cache.verify()] == []
    await cache.delete([A.digest, B.digest])
    assert (sides.near.memory.encodings, len(sides.far.memory.encodings)) == ({}, 1)
    assert sides.far.asked.methods == []


async def test_both_sides_discard_what_is_corrupt(sides: DirectorySides) -> None:
    for side in (sides.near, sides.far):
        side.memory.encodings[A.digest.raw] = b"damaged"
    await sides.cache().discard_corrupt(A.digest)
    assert sides.near.memory.encodings == sides.far.memory.encodings == {}


# Without filling


@pytest.mark.parametrize("method", READS)
async def test_combined_leaves_near_as_it_is(sides: DirectorySides, method: str) -> None:
    await sides.far.memory.put(A)
    assert await found(sides.cache(CachePolicy(fills=False)), method) == [A]
    assert sides.near.memory.encodings == {}
    assert "put_many" not in sides.near.asked.methods
