"""What is remembered of whether objects are there, and what makes it forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes.recorder import Recorder
from plugins.cache.sides import BlobSide, DirectorySide
from tvix_store.around import AroundPathInfoService
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.testing.blob_access import read_blob, write_blob
from tvix_store.testing.directory_uploads import leaf, recursive, upload
from tvix_store.testing.fixtures import PATH_INFO, contents
from tvix_store.testing.path_info_suite import path_info
from tvix_store_cache.answers import Answers
from tvix_store_cache.exists_blob import ExistsBlobService
from tvix_store_cache.exists_directory import ExistsDirectoryService
from tvix_store_cache.exists_path_info import ExistsPathInfoService
from tvix_store_cache.remembered import Remembered
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

A, B, C = [HashedBlob(contents(1000, seed)) for seed in range(3)]


def answers(positive_ttl_s: float = 3600, negative_ttl_s: float = 3600) -> Answers:
    return Answers(Remembered(positive_ttl_s, 100), Remembered(negative_ttl_s, 100))


@pytest.fixture
def inner() -> BlobSide:
    return BlobSide()


@pytest.fixture
def blobs(inner: BlobSide) -> ExistsBlobService:
    return ExistsBlobService(inner.service, answers())


async def asks_again(blobs: ExistsBlobService, inner: BlobSide, blob: HashedBlob = A) -> bool:
    inner.asked.calls.clear()
    await blobs.has(blob.digest)
    return bool(inner.asked.calls)


async def look_up(blobs: ExistsBlobService, method: str, blob: HashedBlob = A) -> Any:
    match method:
        case "has_many" | "get_many":
            return await getattr(blobs, method)([blob.digest])
        case "open_read":
            return await read_blob(blobs, blob.digest)
    return await getattr(blobs, method)(blob.digest)


READS = ["has", "has_many", "get_many", "open_read", "chunks"]


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("method", READS)
async def test_every_answer_is_remembered(
    blobs: ExistsBlobService, inner: BlobSide, method: str, is_there: bool
) -> None:
    if is_there:
        await inner.store.put_many([A])
    await look_up(blobs, method)
    inner.asked.calls.clear()
    assert await blobs.has(A.digest) is is_there
    assert list(await blobs.has_many([A.digest, A.digest])) == [is_there] * 2
    assert inner.asked.calls == []


@pytest.mark.parametrize("method", READS)
async def test_a_remembered_absence_answers_everything(blobs: ExistsBlobService, inner: BlobSide, method: str) -> None:
    await blobs.has(A.digest)
    inner.asked.calls.clear()
    assert await look_up(blobs, method) in (None, False, [None], [False])
    assert inner.asked.calls == []


@pytest.mark.parametrize("method", ["get_many", "open_read", "chunks"])
async def test_a_remembered_presence_answers_no_other_question(
    blobs: ExistsBlobService, inner: BlobSide, method: str
) -> None:
    await inner.store.put_many([A])
    await blobs.has(A.digest)
    await inner.store.delete([A.digest])
    assert await look_up(blobs, method) in (None, [None])
    assert await blobs.has(A.digest) is False  # as was seen


async def test_the_rest_of_a_batch_is_one_batch(blobs: ExistsBlobService, inner: BlobSide) -> None:
    await inner.store.put_many([A, C])
    await blobs.has_many([A.digest, B.digest])
    inner.asked.calls.clear()
    asked = [C.digest, B.digest, A.digest, C.digest]
    assert list(await blobs.has_many(asked)) == [True, False, True, True]
    assert list(await blobs.get_many(asked)) == [C.data, None, A.data, C.data]
    assert inner.asked.calls == [("has_many", 1), ("get_many", 3)]


async def test_absence_is_not_remembered_unless_that_is_wanted(inner: BlobSide) -> None:
    blobs = ExistsBlobService(inner.service, answers(negative_ttl_s=0))
    for _ in range(2):
        assert await blobs.has(A.digest) is False
    assert inner.asked.calls == [("has_many", 1)] * 2


@pytest.mark.parametrize("batch", [False, True])
async def test_a_put_is_remembered(blobs: ExistsBlobService, inner: BlobSide, batch: bool) -> None:
    await blobs.has(A.digest)
    await (blobs.put_many([A]) if batch else write_blob(blobs, A.data))
    inner.asked.calls.clear()
    assert await blobs.has(A.digest) is True
    assert inner.asked.calls == []


@pytest.mark.parametrize("batch", [False, True])
async def test_after_a_put_that_failed_it_is_asked_again(
    blobs: ExistsBlobService, inner: BlobSide, batch: bool
) -> None:
    await blobs.has(A.digest)
    inner.asked.failure, inner.asked.failing = Unavailable("lost"), ["put_many", "writer.close"]
    with pytest.raises(Unavailable):
        await (blobs.put_many([A]) if batch else write_blob(blobs, A.data))
    assert await asks_again(blobs, inner)


async def test_an_upload_that_was_given_up_is_not_there(blobs: ExistsBlobService) -> None:
    async with await blobs.open_write() as writer:
        await writer.write(A.data)
    assert await blobs.has(A.digest) is False


async def test_after_a_delete_everything_is_asked_again(blobs: ExistsBlobService, inner: BlobSide) -> None:
    await blobs.put_many([A, B])
    await blobs.delete([A.digest])
    assert await asks_again(blobs, inner, A)
    assert await blobs.has(A.digest) is False
    assert await asks_again(blobs, inner, B)  # it may have been a chunk of the other


async def test_a_delete_while_it_is_asked_is_not_overlooked(blobs: ExistsBlobService, inner: BlobSide) -> None:
    gate, asked = asyncio.Event(), asyncio.Event()

    await inner.store.put_many([A])
    true_has_many = inner.store.has_many

    async def has_many(digests: list[B3Digest]) -> Any:
        answer = await true_has_many(digests)
        asked.set()
        await gate.wait()
        return answer

    inner.store.has_many = has_many  # type: ignore[method-assign, assignment]
    asking = asyncio.create_task(blobs.has(A.digest))
    await asked.wait()
    await blobs.delete([A.digest])
    gate.set()
    assert await asking is True  # it was, when it was asked
    assert await blobs.has(A.digest) is False


@pytest.mark.parametrize("method", ["get_many", "open_read", "discard_corrupt", "verify"])
async def test_what_is_corrupt_is_not_said_to_be_there(blobs: ExistsBlobService, inner: BlobSide, method: str) -> None:
    await blobs.put_many([A])
    inner.memory.contents[A.digest.raw] = b"damaged"
    match method:
        case "discard_corrupt":
            await blobs.discard_corrupt(A.digest)
        case "verify":
            assert len([damage async for damage in blobs.verify()]) == 1
        case _:
            with pytest.raises(CorruptObject):
                await look_up(blobs, method)
    assert await blobs.has(A.digest) is False


@pytest.mark.parametrize("method", READS)
async def test_an_error_is_no_answer(blobs: ExistsBlobService, inner: BlobSide, method: str) -> None:
    inner.asked.failure = Unavailable("not now")
    with pytest.raises(Unavailable):
        await look_up(blobs, method)
    inner.asked.failure = None
    assert await asks_again(blobs, inner)


async def test_the_other_methods_are_those_of_inner(blobs: ExistsBlobService, inner: BlobSide) -> None:
    await blobs.put_many([A])
    inner.asked.calls.clear()
    assert blobs.capabilities == Capabilities(list=True, delete=True)
    assert [digest async for digest in blobs.list()] == [A.digest]
    assert (await blobs.stats()).objects == 1
    await blobs.sync()
    assert inner.asked.methods == ["list", "stats", "sync"]


# Directories


async def test_absent_directories_are_remembered() -> None:
    inner = DirectorySide()
    directories = ExistsDirectoryService(inner.service, answers(0))
    digest = leaf(1).digest
    for _ in range(2):
        assert await directories.get(digest) is None
        assert list(await directories.get_many([digest])) == [None]
        assert await recursive(directories, digest) == []
    assert inner.asked.methods == ["get"]


@pytest.mark.parametrize("method", ["get", "get_many", "get_recursive"])
async def test_each_way_to_find_no_directory_is_remembered(method: str) -> None:
    inner = DirectorySide()
    directories = ExistsDirectoryService(inner.service, answers(0))
    match method:
        case "get":
            await directories.get(leaf(1).digest)
        case "get_many":
            await directories.get_many([leaf(1).digest])
        case _:
            await recursive(directories, leaf(1).digest)
    await inner.memory.put(leaf(1))
    assert await directories.get(leaf(1).digest) is None


@pytest.mark.parametrize("method", ["put", "put_many", "upload"])
async def test_a_directory_that_was_put_is_found(method: str) -> None:
    directories = ExistsDirectoryService(DirectorySide().service, answers(0))
    assert await directories.get(leaf(1).digest) is None
    match method:
        case "put":
            await directories.put(leaf(1))
        case "put_many":
            await directories.put_many([leaf(1)])
        case _:
            await upload(directories, leaf(1))
    assert await recursive(directories, leaf(1).digest) == [leaf(1)]


async def test_the_rest_of_a_batch_of_directories_is_one_batch() -> None:
    inner = DirectorySide()
    directories = ExistsDirectoryService(inner.service, answers(0))
    await directories.get(leaf(1).digest)
    await inner.memory.put_many([leaf(2), leaf(3)])
    found = await directories.get_many([leaf(number).digest for number in (1, 2, 3)])
    assert list(found) == [None, leaf(2), leaf(3)]
    assert inner.asked.calls == [("get", 1), ("get_many", 2)]


# Path infos

DIGEST = PATH_INFO.store_path.digest


@pytest.mark.parametrize("method", ["get", "get_many", "get_metadata"])
async def test_absent_path_infos_are_remembered(method: str) -> None:
    recorder = Recorder()
    path_infos = ExistsPathInfoService(AroundPathInfoService(MemoryPathInfoService(), recorder), answers(0))
    await (path_infos.get_many([DIGEST]) if method == "get_many" else getattr(path_infos, method)(DIGEST))
    assert await path_infos.get(DIGEST) is None
    assert await path_infos.get_metadata(DIGEST) is None
    assert await path_infos.open_nar(DIGEST) is None
    assert list(await path_infos.get_many([DIGEST])) == [None]
    assert recorder.methods == [method]


@pytest.mark.parametrize("batch", [False, True])
async def test_a_path_info_that_was_put_is_found(batch: bool) -> None:
    path_infos = ExistsPathInfoService(MemoryPathInfoService(), answers(0))
    assert await path_infos.get(DIGEST) is None
    await (path_infos.put_many([PATH_INFO]) if batch else path_infos.put(PATH_INFO))
    assert await path_infos.get(DIGEST) == PATH_INFO
    assert list(await path_infos.get_many([DIGEST, path_info(1).store_path.digest])) == [PATH_INFO, None]
