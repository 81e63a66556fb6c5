"""Stores that cannot grow: what does not fit is not there, what was there stays, and there is room again later."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.fs.watched_os import watching
from plugins.fs.whole_store import Store, make_tree, nar_sha256, open_store
from plugins.grpc.loopback import serving
from plugins.grpc.rawcalls import BLOBS, Raw, channel_to, refused
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import OutOfSpace
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import assert_absent, list_blobs
from tvix_store.testing.fixtures import contents

pytestmark = pytest.mark.anyio

KEPT = [contents(size, size) for size in (10, 5000, 700_000)]


class SmallDisk:
    """Refuses to let packs grow once they have ``room`` bytes altogether, as a full disk does."""

    def __init__(self, packs: Path) -> None:
        self.room = 4 * MIB
        self._packs = packs

    def __call__(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        grows = {"posix_fallocate": lambda: int(arguments[2]), "pwrite": lambda: len(arguments[1])}.get(name)
        if grows is not None and self.used() + grows() > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*arguments)

    def used(self) -> int:
        return sum(path.stat().st_size for path in self._packs.iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "store" / "blobs" / "packs")
    with watching(disk):
        yield disk


@pytest.fixture
async def store(tmp_path: Path, disk: SmallDisk) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "store") as store:
        await store.services.blobs.put_many([HashedBlob(data) for data in KEPT])
        yield store
        await store.assert_has(*KEPT)
        await store.assert_clean()


async def test_a_batch_that_does_not_fit_is_not_there(store: Store, disk: SmallDisk) -> None:
    batch = [HashedBlob(contents(500_000, seed)) for seed in range(8)]
    with pytest.raises(OutOfSpace, match=r"\.pack: No space left"):
        await store.services.blobs.put_many(batch)
    assert await list_blobs(store.services.blobs) == sorted(B3Digest.of(data) for data in KEPT)
    await store.services.blobs.put_many(batch[:2])  # there is room for some of it
    disk.room *= 2
    await store.services.blobs.put_many(batch)
    await store.assert_has(*(blob.data for blob in batch))


async def test_an_upload_that_does_not_fit_is_not_there(store: Store, disk: SmallDisk) -> None:
    data = contents(9 * MIB)
    with pytest.raises(OutOfSpace):
        await store.write(data)
    await assert_absent(store.services.blobs, B3Digest.of(data))
    disk.room += 1 * MIB  # what is alive has to be copied first
    await store.services.blobs.compact()  # which removes the chunks that did fit
    assert disk.used() < 1 * MIB
    disk.room = 20 * MIB
    await store.write(data)
    await store.assert_has(data)


async def test_an_import_that_does_not_fit_is_not_visible(store: Store, disk: SmallDisk, tmp_path: Path) -> None:
    tree = make_tree(tmp_path, 1)
    disk.room = 2 * MIB
    with pytest.raises(OutOfSpace):
        await store.import_tree(tree)
    assert await store.visible_path_infos() == {}
    disk.room = 8 * MIB
    assert (await store.import_tree(tree)).nar_sha256 == nar_sha256(tree)
    await store.assert_renders((await store.visible_path_infos())["tree-1"])


async def test_compaction_without_room_loses_nothing(store: Store, disk: SmallDisk) -> None:
    victims = [HashedBlob(contents(300_000, seed)) for seed in range(8)]
    await store.services.blobs.put_many(victims)
    await store.services.blobs.delete([victim.digest for victim in victims])
    disk.room = 0
    with pytest.raises(OutOfSpace):
        await store.services.blobs.compact()
    await store.assert_has(*KEPT)
    disk.room = 8 * MIB
    assert await store.services.blobs.compact() > 2 * MIB


async def test_a_batch_for_which_the_index_has_no_room_is_not_there(store: Store) -> None:
    async def allow(n_bytes: int) -> None:
        pages = f"PRAGMA max_page_count = {n_bytes // (4 * KIB)}"
        await store.fs.store.database.write(lambda connection: connection.execute(pages).fetchall())

    await allow(40 * KIB)
    batch = [HashedBlob(b"%d" % number) for number in range(2000)]
    with pytest.raises(OutOfSpace, match=r"index\.sqlite: there is no space left"):
        await store.services.blobs.put_many(batch)
    assert len(await list_blobs(store.services.blobs)) == len(KEPT)
    await allow(1 * MIB)
    await store.services.blobs.put_many(batch)
    await store.assert_has(*(blob.data for blob in batch[::100]))


@pytest.mark.parametrize("dialect", ["tvix", "snix"])
async def test_clients_are_told_that_there_is_no_room(store: Store, tmp_path: Path, dialect: str) -> None:
    async with serving(store.services, tmp_path / "socket") as url, channel_to(url) as channel:
        raw = Raw(channel, dialect)
        pieces = [raw.message("BlobChunk", data=contents(1 * MIB, seed)) for seed in range(8)]
        with refused("RESOURCE_EXHAUSTED", "No space left"):
            await raw.send(BLOBS, "Put", pieces)
