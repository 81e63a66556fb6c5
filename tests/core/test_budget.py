"""A budget of bytes: who waits for it, and that nothing of it is lost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from core.nar_trees import Store, many_files
from tvix_store.budget import ByteBudget, Share
from tvix_store.limits import KIB, MIB, PIECE_BYTES
from tvix_store.nar_render import Tree, load_tree, render_nar
from tvix_store.nodes import FileNode
from tvix_store.testing.fixtures import contents
from vectors.nar import Dir, File

pytestmark = pytest.mark.anyio


async def waits(share: Share, n_bytes: int) -> asyncio.Task[None]:
    """A reservation that has not been granted yet."""
    task = asyncio.create_task(share.reserve(n_bytes))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_reservation_waits_until_there_is_room() -> None:
    budget = ByteBudget(10)
    first, second = budget.share(), budget.share()
    await first.reserve(6)
    await second.reserve(3)
    waiting = await waits(second, 4)
    first.give_back(2)
    await asyncio.sleep(0)
    assert not waiting.done()
    first.give_back(1)
    await waiting
    assert (budget.held_bytes, first.held_bytes, second.held_bytes) == (10, 3, 7)


async def test_who_holds_nothing_gets_what_it_asks_for() -> None:
    budget = ByteBudget(10)
    shares = [budget.share() for _ in range(3)]
    for share in shares:
        await share.reserve(100)
    assert budget.held_bytes == 300


async def test_who_has_sent_all_it_held_need_not_wait_any_longer() -> None:
    budget = ByteBudget(10)
    slow, fast = budget.share(), budget.share()
    await slow.reserve(50)
    await fast.reserve(1)
    waiting = await waits(fast, 20)
    fast.give_back(1)
    await waiting
    assert fast.held_bytes == 20


async def test_little_does_not_overtake_much() -> None:
    budget = ByteBudget(10)
    first, second, third = budget.share(), budget.share(), budget.share()
    for share in (first, second, third):
        await share.reserve(1)
    much = await waits(second, 8)
    little = await waits(third, 1)
    first.close()
    await much
    assert not little.done()
    second.give_back(1)
    await little


async def test_a_reservation_that_is_cancelled_holds_nothing() -> None:
    budget = ByteBudget(10)
    first, second = budget.share(), budget.share()
    await first.reserve(5)
    await second.reserve(1)
    much = await waits(second, 100)
    little = await waits(first, 2)
    much.cancel()
    await little
    assert (first.held_bytes, second.held_bytes) == (7, 1)


async def test_a_reservation_that_is_cancelled_as_it_is_granted_holds_nothing() -> None:
    budget = ByteBudget(10)
    first, second = budget.share(), budget.share()
    await first.reserve(10)
    await second.reserve(1)
    waiting = await waits(second, 5)
    first.close()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    second.close()
    assert budget.held_bytes == 0


# --- streams of NARs ---


async def large_tree(store: Store) -> Tree:
    files = {b"%02d" % i: File(contents(700 * KIB + i, i)) for i in range(20)}
    return await load_tree(await store.put(Dir(files)), store.directories)


async def send_all(tree: Tree, store: Store, budget: ByteBudget) -> int:
    async with aclosing(render_nar(tree, store.blobs, budget=budget)) as pieces:
        return sum([len(piece) async for piece in pieces])


@pytest.mark.parametrize("n_bytes", [0, 100, 5 * MIB, 100 * MIB])
async def test_a_stream_comes_to_its_end_however_small_the_budget(n_bytes: int) -> None:
    store, budget = Store(), ByteBudget(n_bytes)
    tree = await large_tree(store)
    assert await send_all(tree, store, budget) == tree.nar_size()
    assert budget.held_bytes == 0


async def test_streams_that_stand_still_hold_no_more_than_the_budget_and_a_window_each() -> None:
    store, budget = Store(), ByteBudget(24 * MIB)
    tree = await large_tree(store)
    streams = [render_nar(tree, store.blobs, budget=budget) for _ in range(16)]
    for stream in streams:
        await anext(stream)
    assert budget.held_bytes <= 24 * MIB + 16 * 5 * MIB
    assert await send_all(tree, store, budget) == tree.nar_size()
    for stream in streams:
        await stream.aclose()
    assert budget.held_bytes == 0


async def test_what_was_sent_is_given_back() -> None:
    store, budget = Store(), ByteBudget(0)
    tree = await load_tree(await store.put(many_files(100, 30 * KIB)), store.directories)
    async with aclosing(render_nar(tree, store.blobs, budget=budget)) as pieces:
        sent = len(await anext(pieces))
        left = budget.held_bytes
        await anext(pieces)
        assert budget.held_bytes == left - sent


async def test_streams_that_are_cancelled_give_everything_back() -> None:
    store, budget = Store(), ByteBudget(8 * MIB)
    tree = await large_tree(store)
    tasks = [asyncio.create_task(send_all(tree, store, budget)) for _ in range(8)]
    for n_passes in range(8):
        for _ in range(n_passes):
            await asyncio.sleep(0)
        tasks[n_passes].cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert budget.held_bytes == 0


async def test_a_stream_that_fails_gives_everything_back() -> None:
    store, budget = Store(), ByteBudget(8 * MIB)
    tree = await large_tree(store)
    store.counting.blobs.clear()
    with pytest.raises(Exception, match="does not exist"):
        await send_all(tree, store, budget)
    assert budget.held_bytes == 0


async def test_a_large_file_that_is_streamed_holds_what_is_taken_for_it_until_its_end() -> None:
    store, budget = Store(), ByteBudget(0)
    node = await store.put(File(contents(3 * MIB)))
    assert isinstance(node, FileNode)
    async with aclosing(render_nar(await load_tree(node, store.directories), store.blobs, budget=budget)) as pieces:
        assert len(await anext(pieces)) < PIECE_BYTES
        await anext(pieces)
        assert budget.held_bytes == 3 * MIB
    assert budget.held_bytes == 0
