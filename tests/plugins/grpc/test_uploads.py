"""Uploads that do not come to their end, whatever the reason, leave nothing that can be seen."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from plugins.grpc.loopback import connected, memory_services, serving
from plugins.grpc.rawcalls import BLOBS, DIRECTORIES, PATH_INFOS, Raw, channel_to, refused
from tvix_store.blob import BlobWriter
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import InvalidObject, LimitExceeded, OutOfSpace, PermissionDenied
from tvix_store.frontend import Services
from tvix_store.limits import BATCH_COUNT, KIB, MIB, SMALL_BLOB_BYTES
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.testing.fixtures import DIRECTORY_A, DIRECTORY_B, PATH_INFO, PATH_INFO_SYMLINK, contents
from tvix_store.wire import encode_path_info
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_grpc.channel import Speech
from tvix_store_grpc.directory import GrpcDirectoryService
from tvix_store_grpc.messages import blob_chunk, repeated
from tvix_store_grpc.path_info import GrpcPathInfoService
from tvix_store_grpc.upload import Upload
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService

pytestmark = pytest.mark.anyio

BATCH = "tvix_store.batch.v1.BatchService"


class WatchedWriter(BlobWriter):
    def __init__(self, service: WatchedBlobService) -> None:
        self._service = service
        self._pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._service.received.set()

    async def close(self) -> B3Digest:
        blob = HashedBlob(b"".join(self._pieces))
        self._service.contents[blob.digest.raw] = blob.data
        return blob.digest

    async def aclose(self) -> None:
        self._service.released.release()


class WatchedBlobService(MemoryBlobService):
    """Tells when something came, and when a writer was let go."""

    def __init__(self) -> None:
        super().__init__()
        self.received = asyncio.Event()
        self.released = asyncio.Semaphore(0)

    async def open_write(self) -> BlobWriter:
        return WatchedWriter(self)


@pytest.fixture
async def blobs() -> WatchedBlobService:
    return WatchedBlobService()


@pytest.fixture
async def raw(blobs: WatchedBlobService, tmp_path: Path) -> AsyncIterator[Raw]:
    async with serving(memory_services(blobs), tmp_path / "socket") as url, channel_to(url) as channel:
        yield Raw(channel)


async def cut(call: Any, writing: asyncio.Future[None]) -> None:
    call.cancel()
    writing.cancel()  # it would wait for ever if the call had not begun
    await asyncio.gather(writing, return_exceptions=True)


async def test_a_cancelled_put_stores_nothing_and_lets_the_writer_go(raw: Raw, blobs: WatchedBlobService) -> None:
    call = raw.open(BLOBS, "Put")
    await call.write(blob_chunk(b"some of it"))
    await blobs.received.wait()
    call.cancel()
    await blobs.released.acquire()
    assert blobs.contents == {}


async def test_puts_cut_at_any_moment_store_nothing(raw: Raw, blobs: WatchedBlobService) -> None:
    """What a cancelled stream looks like to the server depends on the moment; some look like its regular end."""
    for turns in range(60):
        call = raw.open(BLOBS, "Put")
        writing = asyncio.ensure_future(call.write(blob_chunk(b"some of it" * (1 + turns % 7 * 5000))))
        for _ in range(turns):
            await asyncio.sleep(0)
        await cut(call, writing)
    await raw.send(BLOBS, "Put", [blob_chunk(b"the last")])
    assert list(blobs.contents.values()) == [b"the last"]


_KILLED_CLIENT = """
import asyncio, os, sys, grpc.aio
async def main():
    channel = grpc.aio.insecure_channel(sys.argv[1])
    calls = [channel.stream_unary("/snix.castore.v1.BlobService/Put", None, None)() for _ in range(20)]
    for call in calls:
        await call.write(b"\\x0a\\x04some")
    os._exit(0)
asyncio.run(main())
"""


async def test_a_client_that_dies_stores_nothing(raw: Raw, blobs: WatchedBlobService, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED_CLIENT, f"unix:{tmp_path}/socket")
    assert await process.wait() == 0
    await raw.send(BLOBS, "Put", [blob_chunk(b"the last")])
    for _ in range(21):
        await blobs.released.acquire()
    assert list(blobs.contents.values()) == [b"the last"]


async def test_a_message_over_the_limit_ends_the_put_and_stores_nothing(raw: Raw, blobs: WatchedBlobService) -> None:
    with refused("RESOURCE_EXHAUSTED", "larger than max"):
        await raw.send(BLOBS, "Put", [blob_chunk(b"some"), blob_chunk(bytes(5 * MIB))])
    await blobs.released.acquire()
    assert blobs.contents == {}


async def test_cut_batches_store_nothing(raw: Raw, blobs: WatchedBlobService) -> None:
    for turns in range(40):
        call = raw.open(BATCH, "PutBlobs")
        writing = asyncio.ensure_future(call.write(repeated([b"a", b"b" * 2000])))
        for _ in range(turns):
            await asyncio.sleep(0)
        await cut(call, writing)
    await raw.send(BATCH, "PutBlobs", [repeated([b"the last"])])
    assert list(blobs.contents.values()) == [b"the last"]


@pytest.mark.parametrize(("service", "method"), [(DIRECTORIES, "Put"), (BATCH, "PutClosure")])
async def test_cut_closures_store_nothing(service: str, method: str, tmp_path: Path) -> None:
    directories = MemoryDirectoryService()
    encoded = DIRECTORY_A.encode() if method == "Put" else repeated([DIRECTORY_A.encode()])
    services = memory_services(directories=directories)
    async with serving(services, tmp_path / "socket") as url, channel_to(url) as channel:
        raw = Raw(channel)
        for turns in range(40):
            call = raw.open(service, method)
            writing = asyncio.ensure_future(call.write(encoded))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cut(call, writing)
        await raw.send(DIRECTORIES, "Put", [Directory({b"last": SymlinkNode(b"one")}).encode()])
    assert await services.directories.get(DIRECTORY_A.digest) is None


async def test_our_writer_stores_nothing_without_close(blobs: WatchedBlobService, tmp_path: Path) -> None:
    async with connected(memory_services(blobs), tmp_path / "socket") as peer:
        service = GrpcBlobService("remote", peer)
        async with await service.open_write() as writer:
            await writer.write(bytes(MIB))
        await blobs.released.acquire()
    assert blobs.contents == {}


# What is refused


async def write_much(service: GrpcBlobService) -> None:
    async with await service.open_write() as writer:
        for _ in range(50):
            await writer.write(bytes(256 * KIB))
        await writer.close()


async def refused_writes(raw: Raw) -> None:
    text = "allow_remote_writes"
    with refused("PERMISSION_DENIED", text):
        await raw.send(BLOBS, "Put", [blob_chunk(b"some")])
    with refused("PERMISSION_DENIED", text):
        await raw.send(DIRECTORIES, "Put", [DIRECTORY_A.encode()])
    with refused("PERMISSION_DENIED", text):
        await raw.one(PATH_INFOS, "Put", encode_path_info(PATH_INFO))
    for method in ("PutBlobs", "PutDirectories", "PutClosure"):
        with refused("PERMISSION_DENIED", text):
            await raw.send(BATCH, method, [])


async def test_other_machines_may_not_write_unless_allowed() -> None:
    services = memory_services()
    async with serving(services, "0.0.0.0:0") as url, channel_to(url) as channel:
        for dialect in ("tvix", "snix"):
            await refused_writes(Raw(channel, dialect))
    async with serving(services, "0.0.0.0:0", allow_remote_writes=True) as url, channel_to(url) as channel:
        await Raw(channel).send(BLOBS, "Put", [blob_chunk(b"some")])


async def test_refused_writes_are_permission_denied_to_our_client() -> None:
    async with connected(memory_services(), "0.0.0.0:0") as peer:
        blobs, directories = GrpcBlobService("b", peer), GrpcDirectoryService("d", peer)
        with pytest.raises(PermissionDenied, match="allow_remote_writes"):
            await blobs.put_many([HashedBlob(b"some")])
        with pytest.raises(PermissionDenied, match="allow_remote_writes"):
            await write_much(blobs)
        with pytest.raises(PermissionDenied, match="allow_remote_writes"):
            await directories.put_many([DIRECTORY_B])
        with pytest.raises(PermissionDenied, match="allow_remote_writes"):
            await GrpcPathInfoService("p", peer).put_many([PATH_INFO])


class FullBlobService(MemoryBlobService):
    """Fails at some point of an upload."""

    async def open_write(self) -> BlobWriter:
        return FullWriter()

    async def put_many(self, blobs: Any) -> None:
        raise OutOfSpace("no room")


class FullWriter(BlobWriter):
    left = 3

    async def write(self, data: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            raise OutOfSpace("no room")

    async def close(self) -> B3Digest:
        raise OutOfSpace("no room")


@pytest.mark.parametrize("batches", [True, False])
async def test_an_early_error_of_the_peer_is_the_one_that_is_raised(batches: bool, tmp_path: Path) -> None:
    """However the end of the call and what is being sent meet."""
    services = memory_services(FullBlobService())
    async with connected(services, tmp_path / "socket", batches=batches) as peer:
        service = GrpcBlobService("remote", peer)
        for _ in range(200):
            with pytest.raises(OutOfSpace, match="no room"):
                await write_much(service)
        with pytest.raises(OutOfSpace, match="no room"):
            await service.put_many([HashedBlob(bytes([n]) * 10_000) for n in range(100)])


@pytest.mark.parametrize(
    ("contents_of_call", "reason"),
    [
        ([b"x" * (SMALL_BLOB_BYTES + 1)], "a blob of 1048577 bytes"),
        ([b"%d" % number for number in range(BATCH_COUNT + 1)], "1025 objects"),
        ([contents(SMALL_BLOB_BYTES, seed) for seed in range(9)], "8388608 bytes of objects"),
    ],
)
async def test_batches_over_the_limits_are_refused(
    blobs: WatchedBlobService, tmp_path: Path, contents_of_call: list[bytes], reason: str
) -> None:
    async with (
        connected(memory_services(blobs), tmp_path / "socket") as peer,
        Upload(peer, Speech.batch_path("PutBlobs"), "too much") as upload,
    ):
        with pytest.raises(LimitExceeded, match=reason):
            await send_and_finish(upload, contents_of_call)
    assert blobs.contents == {}


async def send_and_finish(upload: Upload, items: list[bytes]) -> None:
    for item in items:
        await upload.send(repeated([item]))
    await upload.finish()


async def test_bad_objects_in_a_batch_are_invalid_and_nothing_is_stored(services_peer: tuple[Services, Any]) -> None:
    services, raw = services_peer
    with refused("INVALID_ARGUMENT"):
        await raw.send(BATCH, "PutDirectories", [repeated([DIRECTORY_A.encode(), b"\x0a\x01x"])])
    with refused("INVALID_ARGUMENT"):
        await raw.send(BATCH, "PutClosure", [repeated([DIRECTORY_A.encode()]), repeated([b"\x0a\x01x"])])
    with refused("INVALID_ARGUMENT"):
        await raw.one(BATCH, "HasBlobs", repeated([b"short"]))
    call: Any = raw.channel.stream_stream(f"/{BATCH}/PutPathInfos", None, None)
    with refused("INVALID_ARGUMENT"):
        async for _ in call(iter([repeated([encode_path_info(PATH_INFO_SYMLINK), b""])])):
            pass
    assert await services.directories.get(DIRECTORY_A.digest) is None
    assert await services.path_infos.get(PATH_INFO_SYMLINK.store_path.digest) is None


@pytest.fixture
async def services_peer(tmp_path: Path) -> AsyncIterator[tuple[Services, Raw]]:
    services = memory_services()
    async with serving(services, tmp_path / "other") as url, channel_to(url) as channel:
        yield services, Raw(channel)


async def test_wrong_closures_fail_where_the_mistake_is_made(tmp_path: Path) -> None:
    async with connected(memory_services(), tmp_path / "socket") as peer:
        service = GrpcDirectoryService("remote", peer)
        async with await service.put_multiple_start() as putter:
            with pytest.raises(InvalidObject, match="unknown directory was referenced"):
                await putter.put_many([DIRECTORY_B])
        async with await service.put_multiple_start() as putter:
            with pytest.raises(InvalidObject, match="got no directories"):
                await putter.close()


async def test_directories_over_the_message_limit_are_refused_by_name(tmp_path: Path) -> None:
    large = Directory({b"%0250d" % number: SymlinkNode(b"x") for number in range(17_000)})
    async with connected(memory_services(), tmp_path / "socket") as peer:
        with pytest.raises(LimitExceeded, match="larger than max"):
            await GrpcDirectoryService("remote", peer).put(large)
    async with connected(memory_services(), tmp_path / "socket", max_message_bytes=16 * MIB) as peer:
        service = GrpcDirectoryService("remote", peer)
        await service.put(large)
        assert await service.get(large.digest) == large
