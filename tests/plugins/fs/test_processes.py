"""Several processes that write, read, delete and compact one store at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from plugins.fs.child import Child, Work, delete_and_compact, import_trees, read_blobs, render_trees
from plugins.fs.whole_store import large_blob, make_tree, nar_sha256, open_store, small_blobs
from tvix_store.digest import HashedBlob
from tvix_store.testing.fixtures import contents

pytestmark = pytest.mark.anyio

TREES = 9


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    for number in range(TREES):
        make_tree(tmp_path, number)
    return tmp_path


def importing(trees: Path, first: int, count: int) -> Child:
    return Child(Work(trees / "store", trees, first, count), import_trees)


def rendering(trees: Path) -> Child:
    return Child(Work(trees / "store", trees, 0, 0), render_trees)


async def assert_has_trees(trees: Path, numbers: Iterable[int]) -> None:
    """All of them are there, as they are on the disk."""
    async with open_store(trees / "store") as store:
        path_infos = await store.visible_path_infos()
        for number in numbers:
            path_info = path_infos[f"tree-{number}"]
            assert path_info.nar_sha256 == nar_sha256(trees / f"tree-{number}")
            await store.assert_renders(path_info)
        await store.assert_clean()


def ends_well(child: Child) -> bool:
    child.end()
    return child.process.exitcode == 0


async def test_two_import_while_a_third_renders(trees: Path) -> None:
    reader, *writers = rendering(trees), importing(trees, 0, 6), importing(trees, 3, 6)  # 3 to 5 are imported twice
    assert all([await asyncio.to_thread(ends_well, writer) for writer in writers])
    assert await asyncio.to_thread(reader.is_well)
    reader.kill()
    await assert_has_trees(trees, range(TREES))


async def test_one_that_is_killed_does_not_harm_the_others(trees: Path) -> None:
    reader, victim, writer = rendering(trees), importing(trees, 0, 6), importing(trees, 3, 6)
    promised = await asyncio.to_thread(victim.said, 2) + await asyncio.to_thread(victim.kill)
    assert await asyncio.to_thread(ends_well, writer)
    assert await asyncio.to_thread(reader.is_well)
    reader.kill()
    await assert_has_trees(trees, {number for _, number in promised} | set(range(3, TREES)))
    assert await asyncio.to_thread(ends_well, importing(trees, 0, 6))
    await assert_has_trees(trees, range(TREES))


async def test_readers_see_what_is_kept_while_others_delete_and_compact(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store") as store:
        for number in range(4):
            await store.write(large_blob(number))
            await store.services.blobs.put_many(small_blobs(number))
    job = Work(tmp_path / "store", tmp_path, 0, 4)
    readers = [Child(job, read_blobs) for _ in range(2)]
    sweepers = [Child(Work(tmp_path / "store", tmp_path, first, 4), delete_and_compact) for first in (0, 2)]
    freed = [await asyncio.to_thread(sweeper.end) for sweeper in sweepers]
    assert [len(said) for said in freed] == [4, 4]
    assert sum(n_bytes for said in freed for _, n_bytes in said) > 0
    for reader in readers:
        assert await asyncio.to_thread(reader.is_well)
        reader.kill()
    async with open_store(tmp_path / "store") as store:
        await store.assert_clean()
        await store.services.blobs.compact()
        for number in range(4):
            await store.assert_has(large_blob(number), *(blob.data for blob in small_blobs(number)))


async def test_a_new_pack_is_not_taken_for_one_that_was_removed(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store") as writer, open_store(tmp_path / "store") as reader:
        for number in range(4):
            blobs = [HashedBlob(contents(50_000, 10 * number + seed)) for seed in range(4)]
            await writer.services.blobs.put_many(blobs)
            await reader.assert_has(*(blob.data for blob in blobs))  # which has the pack open from now on
            await writer.services.blobs.delete([blob.digest for blob in blobs])
            assert await writer.services.blobs.compact() > 0
