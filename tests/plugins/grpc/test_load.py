"""Many calls at once, and calls that ask for much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from plugins.grpc.loopback import memory_services, serving
from plugins.grpc.rawcalls import BLOBS, Raw, channel_to, refused
from tvix_store.blob import BlobWriter
from tvix_store.digest import EMPTY_DIGEST, B3Digest
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.proto.tvix_store.batch.v1.batch_pb2 import Digests, PathInfoKeys
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store_grpc.messages import slots
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

BATCH = "tvix_store.batch.v1.BatchService"


async def test_none_of_many_calls_at_once_is_cancelled(tmp_path: Path) -> None:
    async with (
        serving(memory_services(), tmp_path / "socket", max_streams=3000) as url,
        channel_to(url) as channel,
    ):
        raw = Raw(channel)
        request = raw.message("StatBlobRequest", digest=EMPTY_DIGEST.raw)
        answers = await asyncio.gather(*(raw.one(BLOBS, "Stat", request) for _ in range(3000)))
    assert set(answers) == {b""}


class GatedBlobService(MemoryBlobService):
    """Says when an upload has begun, and lets none go on before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Semaphore(0)
        self.gate = asyncio.Event()

    async def open_write(self) -> BlobWriter:
        self.begun.release()
        await self.gate.wait()
        return await super().open_write()


def put(raw: Raw, data: bytes) -> asyncio.Task[bytes]:
    return asyncio.create_task(raw.send(BLOBS, "Put", [raw.message("BlobChunk", data=data)]))


async def test_uploads_beyond_the_limit_wait_for_a_place(tmp_path: Path) -> None:
    blobs = GatedBlobService()
    async with (
        serving(memory_services(blobs), tmp_path / "socket", max_uploads=2) as url,
        channel_to(url) as channel,
    ):
        puts = [put(Raw(channel), bytes([number])) for number in range(5)]
        for _ in range(2):
            await blobs.begun.acquire()
        assert (
            await Raw(channel).one(BLOBS, "Stat", Raw(channel).message("StatBlobRequest", digest=EMPTY_DIGEST.raw))
            == b""
        )
        assert blobs.begun.locked()
        blobs.gate.set()
        await asyncio.gather(*puts)
    assert len(blobs.contents) == 5


async def test_an_upload_that_finds_no_place_in_time_may_be_tried_later(tmp_path: Path) -> None:
    blobs = GatedBlobService()
    async with (
        serving(memory_services(blobs), tmp_path / "socket", max_uploads=1, upload_wait_s=0) as url,
        channel_to(url) as channel,
    ):
        first = put(Raw(channel), b"first")
        await blobs.begun.acquire()
        with refused("UNAVAILABLE", "max_uploads"):
            await put(Raw(channel), b"second")
        blobs.gate.set()
        await first
        await put(Raw(channel), b"second")
    assert len(blobs.contents) == 2


class WatchedDirectoryService(MemoryDirectoryService):
    """Remembers how many were asked for at once."""

    most = 0

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        self.most = max(self.most, len(digests))
        return await super().get_many(digests)


class WatchedPathInfoService(MemoryPathInfoService):
    """Remembers how many were asked for at once."""

    most = 0

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        self.most = max(self.most, len(digests))
        return await super().get_many(digests)


async def test_a_batch_of_directories_is_fetched_a_few_at_a_time(tmp_path: Path) -> None:
    service = WatchedDirectoryService()
    directories = [Directory({b"%d" % index: SymlinkNode(b"t")}) for index in range(999)]
    await service.put_many(directories)
    digests = [directory.digest.raw for directory in directories]
    async with (
        serving(memory_services(directories=service), tmp_path / "socket") as url,
        channel_to(url) as channel,
    ):
        absent = bytes(32)
        messages = await Raw(channel).many(BATCH, "GetDirectories", Digests(digests=[*digests, absent]))
    assert b"".join(messages) == slots([*(directory.encode() for directory in directories), None])
    assert service.most <= 32


async def test_a_batch_of_path_infos_is_fetched_a_few_at_a_time(tmp_path: Path) -> None:
    service = WatchedPathInfoService()
    await service.put(PATH_INFO)
    keys = [PATH_INFO.store_path.digest, *(b"%020d" % index for index in range(999))]
    async with (
        serving(memory_services(path_infos=service), tmp_path / "socket") as url,
        channel_to(url) as channel,
    ):
        messages = await Raw(channel).many(BATCH, "GetPathInfos", PathInfoKeys(output_hashes=keys))
    assert b"".join(messages).count(slots([None])) >= 999
    assert service.most <= 32
