"""Peers that have only the standard protocols, as those in Rust do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from plugins.grpc.fake_peer import Answer, fake_peer, messages, status
from plugins.grpc.loopback import connected, memory_services
from tvix_store.blob import ChunkMeta
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import DanglingReference, InvalidObject, Unavailable, Unsupported
from tvix_store.nodes import FileNode
from tvix_store.proto.tvix.castore.protos.rpc_blobstore_pb2 import StatBlobResponse
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2 as batch
from tvix_store.testing.fixtures import (
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_C,
    DIRECTORY_COMPLICATED,
    DIRECTORY_D,
    DIRECTORY_WITH_KEEP,
    HELLOWORLD_BLOB,
    PATH_INFO,
    contents,
)
from tvix_store.wire import encode_path_info
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_grpc.channel import Peer
from tvix_store_grpc.directory import GrpcDirectoryService
from tvix_store_grpc.messages import blob_chunk
from tvix_store_grpc.path_info import GrpcPathInfoService
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

DESCRIBE = "/tvix_store.batch.v1.BatchService/Describe"


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with connected(memory_services(), tmp_path / "socket", batches=False) as peer:
        yield peer


# Finding out whom we talk to


@pytest.mark.parametrize("dialect", ["tvix", "snix"])
@pytest.mark.parametrize(
    ("service", "method"),
    [("castore.v1.BlobService", "Stat"), ("castore.v1.DirectoryService", "Get"), ("store.v1.PathInfoService", "Get")],
)
async def test_a_peer_may_serve_one_service_of_one_dialect(
    dialect: str, service: str, method: str, tmp_path: Path
) -> None:
    answers = {f"/{dialect}.{service}/{method}": status(grpc.StatusCode.NOT_FOUND)}
    async with fake_peer(tmp_path, answers) as peer:
        speech = await peer.speech()
        assert (speech.dialect, speech.extension) == (dialect, None)
        assert speech.path(service, method) in answers


async def test_a_peer_that_speaks_neither(tmp_path: Path) -> None:
    async with fake_peer(tmp_path, {}) as peer:
        with pytest.raises(Unsupported, match="neither the tvix nor the snix protocol"):
            await GrpcBlobService("remote", peer).has(HELLOWORLD_BLOB.digest)


def described(**changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "version": 1,
        "max_batch_bytes": 1 << 20,
        "max_batch_count": 100,
        "max_blob_bytes": 1 << 16,
    }
    return messages(batch.DescribeResponse(**(fields | changes)).SerializeToString())


STAT = "/snix.castore.v1.BlobService/Stat"


async def test_first_calls_at_once_ask_once(tmp_path: Path) -> None:
    asked = 0

    async def describe(requests: Any, context: Any) -> None:
        nonlocal asked
        asked += 1
        await described()(requests, context)

    async with fake_peer(tmp_path, {DESCRIBE: describe, STAT: messages(b"")}) as peer:
        service = GrpcBlobService("remote", peer)
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(service.has(HELLOWORLD_BLOB.digest))
    assert asked == 1


async def test_no_answer_is_not_remembered(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {DESCRIBE: status(grpc.StatusCode.UNAVAILABLE), STAT: messages(b"")}
    async with fake_peer(tmp_path, answers) as peer:
        service = GrpcBlobService("remote", peer)
        with pytest.raises(Unavailable):
            await service.has(HELLOWORLD_BLOB.digest)
        answers[DESCRIBE] = described()
        assert await service.has(HELLOWORLD_BLOB.digest)
        assert (await peer.speech()).extension is not None


async def test_a_cancelled_first_call_does_not_hurt_the_others(tmp_path: Path) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(requests: Any, context: Any) -> None:
        asked.set()
        await go_on.wait()
        await described()(requests, context)

    async with fake_peer(tmp_path, {DESCRIBE: slow, STAT: messages(b"")}) as peer:
        service = GrpcBlobService("remote", peer)
        first, second = (asyncio.create_task(service.has(HELLOWORLD_BLOB.digest)) for _ in range(2))
        await asked.wait()
        first.cancel()
        go_on.set()
        assert await second


@pytest.mark.parametrize("changes", [{"version": 2}, {"max_batch_count": 0}, {"max_blob_bytes": 0}])
async def test_an_extension_we_cannot_use_is_none(changes: dict[str, int], tmp_path: Path) -> None:
    async with fake_peer(tmp_path, {DESCRIBE: described(**changes), STAT: messages(b"")}) as peer:
        assert (await peer.speech()).extension is None


async def test_limits_beyond_ours_are_cut(tmp_path: Path) -> None:
    huge = described(max_batch_bytes=1 << 60, max_batch_count=1 << 30, max_blob_bytes=1 << 60)
    async with fake_peer(tmp_path, {DESCRIBE: huge}) as peer:
        extension = (await peer.speech()).extension
        assert extension is not None
        assert (extension.max_bytes, extension.max_count, extension.max_blob_bytes) == (1 << 23, 1024, 1 << 23)


async def test_capabilities_before_and_after_the_peer_was_asked(tmp_path: Path) -> None:
    async with connected(memory_services(), tmp_path / "socket") as peer:
        blobs, directories, path_infos = (
            kind("remote", peer) for kind in (GrpcBlobService, GrpcDirectoryService, GrpcPathInfoService)
        )
        assert blobs.capabilities == Capabilities(chunks=True)
        assert directories.capabilities == Capabilities()
        assert path_infos.capabilities == Capabilities(list=True)
        await peer.speech()
        assert blobs.capabilities == Capabilities(list=True)
        assert directories.capabilities == Capabilities(list=True)
        assert path_infos.capabilities == Capabilities(list=True, durability=Durability.NONE)


async def test_a_standard_peer_cannot_list_blobs_or_directories(peer: Peer) -> None:
    for service in (GrpcBlobService("b", peer), GrpcDirectoryService("d", peer)):
        with pytest.raises(Unsupported, match="cannot list"):
            await anext(service.list())


# Directories go as whole trees


async def test_a_directory_with_children_cannot_be_put_alone(peer: Peer) -> None:
    service = GrpcDirectoryService("remote", peer)
    await service.put(DIRECTORY_A)
    with pytest.raises(Unsupported, match=f"{DIRECTORY_B.digest}.*only take whole trees".replace("+", r"\+")):
        await service.put(DIRECTORY_B)
    with pytest.raises(Unsupported, match="only take whole trees"):
        await service.put_many([DIRECTORY_WITH_KEEP, DIRECTORY_B])
    assert await service.get(DIRECTORY_WITH_KEEP.digest) is None


async def test_batches_are_taken_apart_into_trees(peer: Peer) -> None:
    service = GrpcDirectoryService("remote", peer)
    batch_ = [DIRECTORY_D, DIRECTORY_COMPLICATED, DIRECTORY_B, DIRECTORY_C, DIRECTORY_WITH_KEEP, DIRECTORY_A]
    await service.put_many([*batch_, *batch_])
    assert list(await service.get_many([directory.digest for directory in batch_])) == batch_


# Blobs in chunks


class ChunkedBlobService(MemoryBlobService):
    """Keeps what it has in chunks of a fixed size, and counts what is opened."""

    chunk_bytes = 100_000

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[B3Digest, list[ChunkMeta]] = {}
        self.opened: list[B3Digest] = []
        self.stat_calls = 0

    async def store(self, data: bytes) -> B3Digest:
        pieces = [data[start : start + self.chunk_bytes] for start in range(0, len(data), self.chunk_bytes)]
        blobs = [HashedBlob(piece) for piece in pieces]
        whole = HashedBlob(data)
        await self.put_many([*blobs, whole])
        self.lists[whole.digest] = [ChunkMeta(blob.digest, len(blob)) for blob in blobs]
        return whole.digest

    async def chunks(self, digest: B3Digest) -> list[ChunkMeta] | None:
        self.stat_calls += 1
        return self.lists.get(digest, [])

    async def has(self, digest: B3Digest) -> bool:
        self.stat_calls += 1
        return await super().has(digest)

    async def open_read(self, digest: B3Digest) -> Any:
        self.opened.append(digest)
        return await super().open_read(digest)


async def test_seeking_reads_only_the_chunks_that_are_touched(tmp_path: Path) -> None:
    chunked = ChunkedBlobService()
    data = contents(3_000_000)
    digest = await chunked.store(data)
    async with connected(memory_services(chunked), tmp_path / "socket", batches=False) as peer:
        await peer.speech()
        chunked.stat_calls = 0
        service = GrpcBlobService("remote", peer)
        reader = await service.open_read(digest)
        assert reader is not None
        async with reader:
            chunked.opened.clear()
            await reader.seek(2_550_000)
            assert await reader.read(10) == data[2_550_000:2_550_010]
            await reader.seek(50_000)
            assert await reader.read(10) == data[50_000:50_010]
            await reader.seek(4_000_000)
            assert await reader.read(10) == b""
        expected = [chunked.lists[digest][25].digest, chunked.lists[digest][0].digest]
        assert (chunked.opened, chunked.stat_calls) == (expected, 1)


async def test_reading_on_does_not_ask_for_chunks(tmp_path: Path) -> None:
    chunked = ChunkedBlobService()
    data = contents(3_000_000)
    digest = await chunked.store(data)
    async with connected(memory_services(chunked), tmp_path / "socket", batches=False) as peer:
        await peer.speech()
        chunked.stat_calls = 0
        reader = await GrpcBlobService("remote", peer).open_read(digest)
        assert reader is not None
        async with reader:
            assert await reader.read(1000) == data[:1000]
            await reader.seek(300_000)
            assert await reader.read(1000) == data[300_000:301_000]
    assert (chunked.opened, chunked.stat_calls) == ([digest], 0)


async def test_a_chunk_that_vanished_is_a_dangling_reference(tmp_path: Path) -> None:
    chunked = ChunkedBlobService()
    digest = await chunked.store(contents(3_000_000))
    async with connected(memory_services(chunked), tmp_path / "socket", batches=False) as peer:
        reader = await GrpcBlobService("remote", peer).open_read(digest)
        assert reader is not None
        async with reader:
            del chunked.contents[chunked.lists[digest][25].digest.raw]
            await reader.seek(2_550_000)
            with pytest.raises(DanglingReference, match="chunk"):
                await reader.read()


async def test_lists_with_huge_chunks_are_not_trusted(tmp_path: Path) -> None:
    data = contents(3_000_000)
    chunks = [StatBlobResponse.ChunkMeta(digest=bytes(32), size=1 << 60)] * 2
    pieces = [blob_chunk(data[start : start + 100_000]) for start in range(0, len(data), 100_000)]
    answers = {
        STAT: messages(StatBlobResponse(chunks=chunks).SerializeToString()),
        "/snix.castore.v1.BlobService/Read": messages(*pieces),
    }
    async with fake_peer(tmp_path, answers) as peer:
        reader = await GrpcBlobService("remote", peer).open_read(B3Digest.of(data))
        assert reader is not None
        async with reader:
            await reader.seek(2_500_000)
            assert await reader.read(10) == data[2_500_000:2_500_010]


# Statuses of theirs


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "InvalidObject"),
        (grpc.StatusCode.DATA_LOSS, "CorruptObject"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitExceeded"),
        (grpc.StatusCode.OUT_OF_RANGE, "LimitExceeded"),
        (grpc.StatusCode.UNIMPLEMENTED, "Unsupported"),
        (grpc.StatusCode.PERMISSION_DENIED, "PermissionDenied"),
        (grpc.StatusCode.UNAUTHENTICATED, "PermissionDenied"),
        (grpc.StatusCode.UNAVAILABLE, "Unavailable"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Unavailable"),
        (grpc.StatusCode.CANCELLED, "Unavailable"),
        (grpc.StatusCode.INTERNAL, "Unavailable"),
        (grpc.StatusCode.UNKNOWN, "Unavailable"),
        (grpc.StatusCode.FAILED_PRECONDITION, "Unavailable"),
    ],
)
async def test_statuses_are_errors_that_name_peer_and_object(code: grpc.StatusCode, error: str, tmp_path: Path) -> None:
    answers: dict[str, Answer] = {STAT: messages(b""), "/snix.castore.v1.BlobService/Read": status(code, "made up")}
    async with fake_peer(tmp_path, answers) as peer:
        service = GrpcBlobService("remote", peer)
        with pytest.raises(Exception, match="made up") as caught:
            await service.open_read(HELLOWORLD_BLOB.digest)
        assert type(caught.value).__name__ == error
        assert str(caught.value).startswith(f"grpc+unix:{tmp_path}/peer: blob {HELLOWORLD_BLOB.digest}: made up")


async def test_nar_calculation(tmp_path: Path) -> None:
    services = memory_services()
    async with connected(services, tmp_path / "socket", batches=False) as peer:
        calculation = GrpcPathInfoService("remote", peer).nar_calculation()
        with pytest.raises(DanglingReference, match=str(HELLOWORLD_BLOB.digest).replace("+", r"\+")):
            await calculation.calculate_nar(FileNode(HELLOWORLD_BLOB.digest, 12))
        await services.blobs.put_many([HashedBlob(HELLOWORLD_BLOB.data)])
        assert (await calculation.calculate_nar(FileNode(HELLOWORLD_BLOB.digest, 12))).size == 128
        with pytest.raises(InvalidObject):
            await calculation.calculate_nar(FileNode(HELLOWORLD_BLOB.digest, 11))


async def test_path_infos_of_a_standard_peer(tmp_path: Path) -> None:
    answers = {
        "/tvix.store.v1.PathInfoService/Get": messages(encode_path_info(PATH_INFO)),
        "/tvix.store.v1.PathInfoService/List": status(grpc.StatusCode.INTERNAL, "unimplemented"),
    }
    async with fake_peer(tmp_path, answers) as peer:
        service = GrpcPathInfoService("remote", peer)
        assert await service.get(PATH_INFO.store_path.digest) == PATH_INFO
        with pytest.raises(Unavailable, match="INTERNAL"):
            await anext(service.list())
