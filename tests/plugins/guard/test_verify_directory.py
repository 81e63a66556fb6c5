"""Directories that are looked at once more: each row of the table in the README."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fakes.recorder import Recorder
from plugins.guard.damaged import DamagedDirectories
from tvix_store.around import AroundDirectoryService
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, Unavailable
from tvix_store.nodes import Directory
from tvix_store.testing.directory_uploads import TREE, assert_whole_and_in_order, leaf, recursive, upload
from tvix_store_guard.verify_directory import VerifyDirectoryService
from tvix_store_memory.directory import MemoryDirectoryService

pytestmark = pytest.mark.anyio

LEAVES = [leaf(number) for number in range(3)]
ROOT = Directory((b"%d" % number, directory.node()) for number, directory in enumerate(LEAVES))
ALL = [*LEAVES, ROOT]
DIGESTS = [directory.digest for directory in ALL]


@pytest.fixture
async def inner() -> DamagedDirectories:
    inner = DamagedDirectories()
    await inner.put_many(ALL)
    return inner


@pytest.fixture
async def refetch() -> MemoryDirectoryService:
    refetch = MemoryDirectoryService("refetch")
    await refetch.put_many(ALL)
    return refetch


async def test_what_is_corrupt_is_replaced(inner: DamagedDirectories, refetch: MemoryDirectoryService) -> None:
    inner.damage(ROOT)
    assert await VerifyDirectoryService("guard", inner, refetch=refetch).get(ROOT.digest) == ROOT
    assert await inner.get(ROOT.digest) == ROOT


async def test_what_is_corrupt_in_a_batch_is_replaced(
    inner: DamagedDirectories, refetch: MemoryDirectoryService
) -> None:
    inner.damage(LEAVES[0], LEAVES[2])
    service = VerifyDirectoryService("guard", inner, refetch=refetch)
    assert list(await service.get_many(DIGESTS)) == ALL
    assert list(await inner.get_many(DIGESTS)) == ALL


async def test_what_is_absent_beside_what_is_corrupt_may_have_been_corrupt(inner: DamagedDirectories) -> None:
    refetch = MemoryDirectoryService("refetch")
    await refetch.put(LEAVES[0])
    inner.damage(LEAVES[0], LEAVES[2])
    service = VerifyDirectoryService("guard", inner, refetch=refetch)
    with pytest.raises(CorruptObject, match="a directory is absent after one asked for with it was corrupt"):
        await service.get_many(DIGESTS)


@pytest.mark.parametrize("damaged", [[ROOT], LEAVES[:1], LEAVES])
async def test_a_tree_goes_on_with_a_sound_copy(
    inner: DamagedDirectories, refetch: MemoryDirectoryService, damaged: Sequence[Directory]
) -> None:
    inner.damage(*damaged)
    found = await recursive(VerifyDirectoryService("guard", inner, refetch=refetch), ROOT.digest)
    assert_whole_and_in_order(found, ALL)
    assert list(await inner.get_many(DIGESTS)) == ALL


async def test_a_tree_with_a_hole_is_filled(inner: DamagedDirectories, refetch: MemoryDirectoryService) -> None:
    await inner.delete([LEAVES[1].digest])
    found = await recursive(VerifyDirectoryService("guard", inner, refetch=refetch), ROOT.digest)
    assert_whole_and_in_order(found, ALL)
    assert await inner.get(LEAVES[1].digest) == LEAVES[1]


async def test_a_tree_that_refetch_has_not_whole_either_stays_an_error(inner: DamagedDirectories) -> None:
    await inner.delete([LEAVES[1].digest])
    refetch = MemoryDirectoryService("refetch")
    service = VerifyDirectoryService("guard", inner, refetch=refetch)
    with pytest.raises(DanglingReference):
        await recursive(service, ROOT.digest)
    await refetch.put(ROOT)
    with pytest.raises(DanglingReference):
        await recursive(service, ROOT.digest)


async def test_without_refetch_the_error_stays(inner: DamagedDirectories) -> None:
    service = VerifyDirectoryService("guard", inner)
    inner.damage(LEAVES[0])
    with pytest.raises(CorruptObject):
        await recursive(service, ROOT.digest)
    inner.damage(LEAVES[1])
    with pytest.raises(CorruptObject):
        await service.get_many(DIGESTS)
    inner.damage(ROOT)
    with pytest.raises(CorruptObject):
        await service.get(ROOT.digest)


async def test_reads_can_be_left_alone(inner: DamagedDirectories, refetch: MemoryDirectoryService) -> None:
    service = VerifyDirectoryService("guard", inner, refetch=refetch, on_get=False)
    inner.damage(LEAVES[0])
    with pytest.raises(CorruptObject):
        await recursive(service, ROOT.digest)
    inner.damage(LEAVES[1])
    with pytest.raises(CorruptObject):
        await service.get_many(DIGESTS)
    inner.damage(ROOT)
    with pytest.raises(CorruptObject):
        await service.get(ROOT.digest)


class Losing(DamagedDirectories):
    """Damages what is put, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def put(self, directory: Directory) -> None:
        await self.put_many([directory])

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await super().put_many(directories)
        if self.times > 0:
            self.times -= 1
            self.damage(directories[0])


class Forgetting(MemoryDirectoryService):
    """Stores nothing."""

    async def put(self, directory: Directory) -> None:
        pass

    async def put_many(self, directories: Sequence[Directory]) -> None:
        pass


async def test_what_is_stored_wrong_is_put_once_more() -> None:
    inner = Losing(1)
    service = VerifyDirectoryService("guard", inner)
    await service.put(ROOT)
    inner.times = 1
    await service.put_many(LEAVES)
    assert list(await inner.get_many(DIGESTS)) == ALL


async def test_what_is_stored_wrong_twice_is_an_error() -> None:
    with pytest.raises(CorruptObject):
        await VerifyDirectoryService("guard", Losing(2)).put(ROOT)
    with pytest.raises(CorruptObject):
        await VerifyDirectoryService("guard", Losing(2)).put_many(ALL)


async def test_what_is_not_stored_is_an_error(refetch: MemoryDirectoryService) -> None:
    service = VerifyDirectoryService("guard", Forgetting())
    with pytest.raises(CorruptObject, match=r"^guard: directory .* is not what was put$"):
        await service.put(ROOT)
    with pytest.raises(CorruptObject, match="is not what was put"):
        await service.put_many(ALL)
    with pytest.raises(CorruptObject, match="is not what was put"):
        await upload(service, *TREE)
    unread = VerifyDirectoryService("guard", Forgetting(), on_put=False)
    await unread.put(ROOT)
    await unread.put_many(ALL)
    await upload(unread, *TREE)


async def test_an_upload_that_is_stored_wrong_is_healed(refetch: MemoryDirectoryService) -> None:
    inner = Forgetting("inner")
    recorder = Recorder()
    service = VerifyDirectoryService("guard", AroundDirectoryService(inner, recorder), refetch=refetch)
    assert await upload(service, *ALL) == ROOT.digest
    assert recorder.calls[-5:] == [("get_many", 4), *[("put_many", 1)] * 4]


async def test_batches_stay_batches(inner: DamagedDirectories) -> None:
    recorder = Recorder()
    service = VerifyDirectoryService("guard", AroundDirectoryService(inner, recorder))
    await service.get_many(DIGESTS)
    await service.put_many(ALL)
    assert recorder.calls == [("get_many", 4), ("put_many", 4), ("get_many", 4)]


async def test_a_failure_to_read_back_is_a_failure(inner: DamagedDirectories) -> None:
    recorder = Recorder()
    recorder.failure, recorder.failing = Unavailable("the line is cut"), ["get", "get_many"]
    service = VerifyDirectoryService("guard", AroundDirectoryService(inner, recorder))
    with pytest.raises(Unavailable):
        await service.put(ROOT)
    with pytest.raises(Unavailable):
        await upload(service, *TREE)


async def test_absence_is_no_corruption(refetch: MemoryDirectoryService) -> None:
    service = VerifyDirectoryService("guard", MemoryDirectoryService("inner"), refetch=refetch)
    assert await service.get(ROOT.digest) is None
    assert list(await service.get_many([ROOT.digest, B3Digest(bytes(32))])) == [None, None]
    assert await recursive(service, ROOT.digest) == []
