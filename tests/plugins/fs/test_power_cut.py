"""Power cuts at any instant, also of what was recovered from one before."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from plugins.fs.child import Said, Work, work
from plugins.fs.fs_store import open_service
from plugins.fs.power_cut import Disk, Surely, empty_log
from plugins.fs.whole_store import Store, large_blob, make_tree, nar_sha256, open_store, small_blobs
from tvix_store.capabilities import Durability
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.testing.blob_access import read_blob
from tvix_store.testing.fixtures import contents

pytestmark = pytest.mark.anyio

SEEDS = range(8)
CUTS = 9


class Run:
    """Two writers at once on one store, and power cuts meanwhile.

    Args:
        root: Of the store, and what is made of it.
        durability: Of the blobs.
        chance: Decides when power is cut and what survives.
        promised: What is there before.
    """

    def __init__(
        self, root: Path, durability: Durability, chance: random.Random, promised: Sequence[Said] = ()
    ) -> None:
        self.root = root
        self.trees = root / "trees"
        self.durability = durability
        self.said: list[Said] = []
        self.cuts: list[tuple[Path, list[Said]]] = []
        self._chance = chance
        self._promised = promised
        self._disk = Disk(root / "store")
        self._disk.after_call = self._maybe_cut

    async def work(self, first: int) -> None:
        """Put three of each kind."""
        for number in range(first, first + 3):
            make_tree(self.trees, number)
        with self._disk.following():
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    job = Work(self.root / "store", self.trees, first, 3, durability=self.durability)
                    group.create_task(work(job, self._say))

    def _say(self, what: str, number: int) -> None:
        with self._disk.standing_still():
            self.said.append((what, number))
            self._maybe_cut()

    def _maybe_cut(self) -> None:
        if len(self.cuts) < CUTS and self._chance.random() < 0.07:
            target = self.root / f"cut-{len(self.cuts)}"
            self.cuts.append((target, [*self._promised, *promised(self.said, self.durability)]))
            self._disk.cut(target, self._chance)


def promised(said: list[Said], durability: Durability) -> list[Said]:
    """What has to be there, of what was acknowledged before the cut."""
    if durability is Durability.COMMIT:
        return list(said)
    if durability is Durability.NONE:
        return []
    done = [said.index(("importing", number)) for what, number in said if what == "tree"]  # a barrier came later
    return said[: max(done, default=0)] + [one for one in said if one[0] == "tree"]


async def assert_holds(store: Store, trees: Path, said: list[Said]) -> None:
    """What was promised is there."""
    path_infos = {path_info.store_path.name: path_info async for path_info in store.services.path_infos.list()}
    for what, number in set(said):
        if what == "blobs":
            await store.assert_has(*(blob.data for blob in small_blobs(number)))
        elif what == "large":
            await store.assert_has(large_blob(number))
        elif what == "tree":
            assert path_infos[f"tree-{number}"].nar_sha256 == nar_sha256(make_tree(trees, number))
            await store.assert_renders(path_infos[f"tree-{number}"])


async def assert_recovers(path: Path, trees: Path, said: list[Said], durability: Durability) -> None:
    """What a power cut has left is a store, and has all that was promised."""
    async with open_store(path, durability=durability) as store:
        await assert_holds(store, trees, said)
        if durability is not Durability.NONE:
            await store.visible_path_infos()
        await store.assert_clean()
        async for digest in store.services.blobs.list():
            data = await read_blob(store.services.blobs, digest)
            assert data is not None
            assert B3Digest.of(data) == digest
        await store.import_tree(make_tree(trees, 0))
        await assert_holds(store, trees, [("tree", 0)])


@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_promised_survives_power_cuts(tmp_path: Path, seed: int, durability: Durability) -> None:
    chance = random.Random(seed)
    (tmp_path / "first" / "store").mkdir(parents=True)
    first = Run(tmp_path / "first", durability, chance)
    await first.work(0)
    again, said = first.cuts[-1]
    (tmp_path / "second").mkdir()
    shutil.copytree(again, tmp_path / "second" / "store")
    for database in (tmp_path / "second" / "store").rglob("*.sqlite"):
        empty_log(database)
    second = Run(tmp_path / "second", durability, chance, said)
    await second.work(2)
    assert second.cuts
    for run in (first, second):
        for path, promises in run.cuts:
            await assert_recovers(path, tmp_path / "first" / "trees", promises, durability)


async def test_what_is_put_where_a_torn_frame_was_is_not_taken_for_that(tmp_path: Path) -> None:
    torn, acknowledged = HashedBlob(contents(5000, 1)), HashedBlob(contents(6000, 2))
    (tmp_path / "0").mkdir()
    disk = Disk(tmp_path / "0")
    with disk.following():
        async with await open_service(tmp_path / "0" / "blobs", durability=Durability.BATCHED) as service:
            await service.put_many([torn])
            disk.cut(tmp_path / "first", Surely(loses_packs=True))
    empty_log(tmp_path / "first" / "blobs" / "index.sqlite")
    disk = Disk(tmp_path / "first")
    with disk.following():
        async with await open_service(tmp_path / "first" / "blobs") as service:
            await service.put_many([acknowledged])
            disk.cut(tmp_path / "second", Surely(loses_packs=False))
    async with await open_service(tmp_path / "second" / "blobs") as service:
        assert await service.get_many([torn.digest, acknowledged.digest]) == [None, acknowledged.data]
