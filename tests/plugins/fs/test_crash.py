"""Processes that are killed at any instant, again and again on the same store."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from plugins.fs.child import Child, Said, Work
from plugins.fs.whole_store import Store, large_blob, make_tree, nar_sha256, open_store, small_blobs

pytestmark = pytest.mark.anyio

KILLS = 25
SEEDS = range(8)


def work_and_be_killed(job: Work, instant: random.Random) -> list[Said]:
    """Have a child work until it is killed; what it has acknowledged."""
    child = Child(job)
    if job.last_call is not None:
        return child.end()
    said = child.said(instant.randrange(8))
    time.sleep(instant.random() * 0.03)  # somewhere in the middle of the next
    return said + child.kill()


async def assert_holds(store: Store, trees: Path, said: Said) -> None:
    """What was acknowledged is there."""
    what, number = said
    if what == "blobs":
        await store.assert_has(*(blob.data for blob in small_blobs(number)))
    elif what == "large":
        await store.assert_has(large_blob(number))
    elif what == "tree":
        path_info = (await store.visible_path_infos())[f"tree-{number}"]
        assert path_info.nar_sha256 == nar_sha256(make_tree(trees, number))
        await store.assert_renders(path_info)


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_acknowledged_survives_kill_and_nothing_is_half_there(tmp_path: Path, seed: int) -> None:
    instant = random.Random(seed)
    said: list[Said] = []
    for attempt in range(KILLS):
        last_call = instant.randrange(1, 120) if attempt % 2 else None
        job = Work(tmp_path / "store", tmp_path, 100 * attempt, 100, last_call)
        new = await asyncio.to_thread(work_and_be_killed, job, instant)
        async with open_store(tmp_path / "store") as store:
            for one in new + instant.sample(said, min(3, len(said))):
                await assert_holds(store, tmp_path, one)
            await store.visible_path_infos()
            await store.assert_clean()
        said += new
    async with open_store(tmp_path / "store") as store:
        for one in said:
            await assert_holds(store, tmp_path, one)
        for attempt in range(KILLS):  # what was being imported when it was killed
            tree = make_tree(tmp_path, 100 * attempt)
            path_info = await store.import_tree(tree)
            assert path_info.nar_sha256 == nar_sha256(tree)
            await store.assert_renders(path_info)
        await store.assert_clean()
