"""Peers that answer too much, too little, or something else: never a wrong object, never without bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.grpc.fake_peer import Answer, fake_peer, messages
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, DanglingReference, LimitExceeded, Unavailable
from tvix_store.proto.tvix.castore.protos.rpc_blobstore_pb2 import StatBlobResponse
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2 as batch
from tvix_store.testing.fixtures import (
    BLOB_A,
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_D,
    HELLOWORLD_BLOB,
    PATH_INFO,
    PATH_INFO_SYMLINK,
)
from tvix_store.wire import encode_path_info
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_grpc.channel import Peer
from tvix_store_grpc.directory import GrpcDirectoryService
from tvix_store_grpc.messages import TOO_LARGE, Slot, blob_chunk, repeated, slots
from tvix_store_grpc.path_info import GrpcPathInfoService

pytestmark = pytest.mark.anyio

BATCH = "/tvix_store.batch.v1.BatchService/"
BLOBS = "/snix.castore.v1.BlobService/"
DIRECTORIES = "/snix.castore.v1.DirectoryService/"
PATH_INFOS = "/snix.store.v1.PathInfoService/"
DESCRIBED = batch.DescribeResponse(
    version=1,
    max_batch_bytes=1 << 20,
    max_batch_count=3,
    max_blob_bytes=1 << 16,
    blobs=batch.ServiceCapabilities(list=True),
    directories=batch.ServiceCapabilities(list=True),
)
A, HELLO = HashedBlob(BLOB_A.data), HashedBlob(HELLOWORLD_BLOB.data)


def endless(message: bytes) -> Answer:
    async def answer(requests: Any, context: Any) -> None:
        while True:
            await context.write(message)

    return answer


def after_all(answer: Answer) -> Answer:
    """Answers once all requests are in."""

    async def wait(requests: Any, context: Any) -> None:
        async for _ in requests:
            pass
        await answer(requests, context)

    return wait


@pytest.fixture
async def lying(tmp_path: Path) -> AsyncIterator[tuple[Peer, dict[str, Answer]]]:
    answers: dict[str, Answer] = {BATCH + "Describe": messages(DESCRIBED.SerializeToString())}
    async with fake_peer(tmp_path, answers) as peer:
        yield peer, answers


Lying = tuple[Peer, dict[str, Answer]]


async def read_all(service: CheckedBlobService, digest: B3Digest) -> bytes:
    reader = await service.open_read(digest)
    assert reader is not None
    async with reader:
        pieces = []
        while piece := await reader.read():
            pieces.append(piece)
        return b"".join(pieces)


@pytest.mark.parametrize("answer", [messages(), messages(blob_chunk(b"wrong")), messages(b"", blob_chunk(b"Hello "))])
async def test_blobs_that_are_others_are_corrupt(lying: Lying, answer: Answer) -> None:
    peer, answers = lying
    answers[BLOBS + "Read"] = answer
    with pytest.raises(CorruptObject):
        await read_all(CheckedBlobService("remote", GrpcBlobService("remote", peer)), HELLO.digest)


async def test_an_answer_that_is_no_message_is_corrupt(lying: Lying) -> None:
    peer, answers = lying
    service = GrpcBlobService("remote", peer)
    answers[BLOBS + "Read"] = answers[BLOBS + "Stat"] = messages(b"\xff\xff\xff")
    answers[BATCH + "GetBlobs"] = answers[BATCH + "HasBlobs"] = messages(b"\xff\xff\xff")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: service.open_read(A.digest),
        lambda: service.chunks(A.digest),
        lambda: service.get_many([A.digest]),
        lambda: service.has_many([A.digest]),
    ]
    for call in calls:
        with pytest.raises(CorruptObject, match="bad answer"):
            await call()


async def test_chunks_with_short_digests_are_corrupt(lying: Lying) -> None:
    peer, answers = lying
    chunks = [StatBlobResponse.ChunkMeta(digest=b"short", size=1)] * 2
    answers[BLOBS + "Stat"] = messages(StatBlobResponse(chunks=chunks).SerializeToString())
    with pytest.raises(CorruptObject, match="invalid digest length"):
        await GrpcBlobService("remote", peer).chunks(A.digest)


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([], CorruptObject),
        ([A.data], CorruptObject),
        ([A.data] * 3, CorruptObject),
        ([HELLO.data, A.data], CorruptObject),
        ([A.data, bytes(70_000)], LimitExceeded),
        ([A.data, TOO_LARGE], LimitExceeded),
    ],
)
async def test_batches_of_other_blobs_are_refused(lying: Lying, found: list[Slot], error: type[Exception]) -> None:
    peer, answers = lying
    answers[BATCH + "GetBlobs"] = messages(b"", *(slots([slot]) for slot in found))
    service = CheckedBlobService("remote", GrpcBlobService("remote", peer))
    with pytest.raises(error):
        await service.get_many([A.digest, HELLO.digest], max_blob_bytes=60_000)


@pytest.mark.parametrize("message", [slots([bytes(60_000)]), slots([None] * 100)])
async def test_endless_batches_are_left(lying: Lying, message: bytes) -> None:
    peer, answers = lying
    answers[BATCH + "GetBlobs"] = answers[BATCH + "GetDirectories"] = answers[BATCH + "GetPathInfos"] = endless(message)
    with pytest.raises(CorruptObject):
        await GrpcBlobService("remote", peer).get_many([A.digest, HELLO.digest])
    with pytest.raises(CorruptObject):
        await GrpcDirectoryService("remote", peer).get_many([DIRECTORY_A.digest])
    with pytest.raises(CorruptObject):
        await GrpcPathInfoService("remote", peer).get_many([bytes(20)])


async def test_endless_blobs_are_left_when_they_are_too_long(lying: Lying) -> None:
    peer, answers = lying
    answers[BLOBS + "Read"] = endless(blob_chunk(bytes(100_000)))
    answers[BATCH + "GetBlobs"] = messages(slots([TOO_LARGE]))
    with pytest.raises(LimitExceeded):
        await GrpcBlobService("remote", peer).get_many([A.digest], max_blob_bytes=1 << 20)


@pytest.mark.parametrize("present", [b"", b"\1", b"\1\0\1"])
async def test_presence_of_more_or_less_is_corrupt(lying: Lying, present: bytes) -> None:
    peer, answers = lying
    answers[BATCH + "HasBlobs"] = messages(batch.Presence(present=present).SerializeToString())
    with pytest.raises(CorruptObject):
        await GrpcBlobService("remote", peer).has_many([A.digest, HELLO.digest])


@pytest.mark.parametrize("stored", [[], [A.digest.raw], [HELLO.digest.raw, A.digest.raw], [b"short", A.digest.raw]])
async def test_puts_that_stored_something_else_fail(lying: Lying, stored: list[bytes]) -> None:
    peer, answers = lying
    answers[BATCH + "PutBlobs"] = after_all(messages(repeated(stored)))
    answers[BATCH + "PutDirectories"] = answers[BATCH + "PutClosure"] = answers[BATCH + "PutBlobs"]
    with pytest.raises(CorruptObject):
        await GrpcBlobService("remote", peer).put_many([A, HELLO])
    with pytest.raises(CorruptObject):
        await GrpcDirectoryService("remote", peer).put_many([DIRECTORY_A, DIRECTORY_B])
    async with await GrpcDirectoryService("remote", peer).put_multiple_start() as putter:
        await putter.put_many([DIRECTORY_A, DIRECTORY_B])
        with pytest.raises(CorruptObject):
            await putter.close()


@pytest.mark.parametrize("answer", [repeated([A.digest.raw]), repeated([b"short"]), b"", b"\xff\xff"])
async def test_written_blobs_that_became_another_are_corrupt(lying: Lying, answer: bytes) -> None:
    peer, answers = lying
    answers[BLOBS + "Put"] = after_all(messages(answer))
    service = CheckedBlobService("remote", GrpcBlobService("remote", peer))
    async with await service.open_write() as writer:
        await writer.write(HELLO.data)
        with pytest.raises(CorruptObject):
            await writer.close()


async def test_a_put_that_ends_before_all_was_sent_is_none(lying: Lying) -> None:
    peer, answers = lying
    answers[BLOBS + "Put"] = messages(repeated([HELLO.digest.raw]))
    service = CheckedBlobService("remote", GrpcBlobService("remote", peer))
    with pytest.raises((Unavailable, CorruptObject)):
        await write_much(service)


async def write_much(service: CheckedBlobService) -> None:
    async with await service.open_write() as writer:
        for _ in range(100):
            await writer.write(bytes(300_000))
        await writer.close()


async def collected(service: CheckedDirectoryService, root: B3Digest) -> list[object]:
    return [directory async for directory in service.get_recursive(root)]


async def test_closures_with_duplicates_are_fine(lying: Lying) -> None:
    peer, answers = lying
    encoded = [d.encode() for d in (DIRECTORY_D, DIRECTORY_B, DIRECTORY_B, DIRECTORY_A, DIRECTORY_D, DIRECTORY_A)]
    answers[BATCH + "GetClosure"] = messages(*(repeated([item]) for item in encoded))
    service = CheckedDirectoryService("remote", GrpcDirectoryService("remote", peer))
    assert await collected(service, DIRECTORY_D.digest) == [DIRECTORY_D, DIRECTORY_B, DIRECTORY_A]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (repeated([DIRECTORY_A.encode()]), CorruptObject),
        (repeated([DIRECTORY_D.encode(), DIRECTORY_A.encode()]), DanglingReference),
        (repeated([DIRECTORY_D.encode(), b"\xff\xff"]), CorruptObject),
        (repeated([DIRECTORY_D.encode(), DIRECTORY_D.encode()[:-1]]), CorruptObject),
    ],
)
async def test_other_closures_are_not(lying: Lying, message: bytes, error: type[Exception]) -> None:
    peer, answers = lying
    answers[BATCH + "GetClosure"] = messages(message)
    service = CheckedDirectoryService("remote", GrpcDirectoryService("remote", peer))
    with pytest.raises(error):
        await collected(service, DIRECTORY_D.digest)


@pytest.mark.parametrize("answer", [messages(DIRECTORY_B.encode()), messages(b"\xff"), endless(DIRECTORY_B.encode())])
async def test_another_directory_is_corrupt(lying: Lying, answer: Answer) -> None:
    peer, answers = lying
    answers[DIRECTORIES + "Get"] = answer
    with pytest.raises(CorruptObject):
        await CheckedDirectoryService("remote", GrpcDirectoryService("remote", peer)).get(DIRECTORY_A.digest)


@pytest.mark.parametrize("answer", [encode_path_info(PATH_INFO_SYMLINK), b"", b"\xff"])
async def test_another_path_info_is_corrupt(lying: Lying, answer: bytes) -> None:
    peer, answers = lying
    answers[PATH_INFOS + "Get"] = answers[PATH_INFOS + "Put"] = messages(answer)
    answers[BATCH + "GetPathInfos"] = messages(slots([answer]))
    answers[BATCH + "PutPathInfos"] = after_all(messages(repeated([answer])))
    inner = GrpcPathInfoService("remote", peer)
    service = CheckedPathInfoService("remote", inner)
    other = encode_path_info(PATH_INFO_SYMLINK) == answer
    key = bytes([1]) * 20 if other else PATH_INFO.store_path.digest
    for call in (lambda: service.get(key), lambda: service.get_many([key])):
        with pytest.raises(CorruptObject):
            await call()
    if not other:  # both golden ones are about the same path
        for put in (lambda: service.put(PATH_INFO), lambda: service.put_many([PATH_INFO])):
            with pytest.raises(CorruptObject):
                await put()


async def test_a_peer_that_says_nothing_can_be_left(lying: Lying) -> None:
    peer, answers = lying

    async def silence(requests: Any, context: Any) -> None:
        await asyncio.Event().wait()

    answers[BLOBS + "Read"] = silence
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await GrpcBlobService("remote", peer).open_read(A.digest)
