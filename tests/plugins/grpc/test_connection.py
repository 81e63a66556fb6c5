"""Peers that are not there, come back, or take their time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.grpc.fake_peer import fake_peer, messages
from plugins.grpc.loopback import memory_services, serving
from tvix_store.digest import EMPTY_DIGEST, HashedBlob
from tvix_store.errors import Unavailable
from tvix_store.nodes import FileNode
from tvix_store.testing.fixtures import DIRECTORY_A, HELLOWORLD_BLOB, PATH_INFO, contents
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_grpc.channel import Peer
from tvix_store_grpc.directory import GrpcDirectoryService
from tvix_store_grpc.endpoint import parse_endpoint
from tvix_store_grpc.path_info import GrpcPathInfoService
from tvix_store_grpc.upload import Upload

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(HELLOWORLD_BLOB.data)


async def consume(iterator: Any) -> None:
    async for _ in iterator:
        pass


async def write(service: GrpcBlobService) -> None:
    async with await service.open_write() as writer:
        await writer.write(BLOB.data)
        await writer.close()


async def upload(service: GrpcDirectoryService) -> None:
    async with await service.put_multiple_start() as putter:
        await putter.put_many([DIRECTORY_A])
        await putter.close()


def all_calls(peer: Peer) -> list[Callable[[], Awaitable[object]]]:
    blobs, directories = GrpcBlobService("b", peer), GrpcDirectoryService("d", peer)
    path_infos = GrpcPathInfoService("p", peer)
    return [
        lambda: blobs.has(BLOB.digest),
        lambda: blobs.has_many([BLOB.digest, EMPTY_DIGEST]),
        lambda: blobs.get_many([BLOB.digest, EMPTY_DIGEST]),
        lambda: blobs.put_many([BLOB]),
        lambda: blobs.chunks(BLOB.digest),
        lambda: blobs.open_read(BLOB.digest),
        lambda: write(blobs),
        lambda: consume(blobs.list()),
        lambda: directories.get(DIRECTORY_A.digest),
        lambda: directories.get_many([DIRECTORY_A.digest]),
        lambda: directories.put_many([DIRECTORY_A]),
        lambda: upload(directories),
        lambda: consume(directories.get_recursive(DIRECTORY_A.digest)),
        lambda: consume(directories.list()),
        lambda: path_infos.get(bytes(20)),
        lambda: path_infos.get_many([bytes(20)]),
        lambda: path_infos.put(PATH_INFO),
        lambda: path_infos.put_many([PATH_INFO]),
        lambda: consume(path_infos.list()),
        lambda: path_infos.nar_calculation().calculate_nar(FileNode(EMPTY_DIGEST, 0)),
    ]


@pytest.mark.parametrize("index", range(20))
async def test_every_call_says_that_nobody_is_there(index: int, tmp_path: Path) -> None:
    async with Peer(parse_endpoint(f"grpc+unix:{tmp_path}/nobody")) as peer:
        with pytest.raises(Unavailable, match=f"grpc\\+unix:{tmp_path}/nobody: "):
            await all_calls(peer)[index]()


@pytest.mark.parametrize("index", range(20))
async def test_every_call_says_that_nobody_is_there_any_more(index: int, tmp_path: Path) -> None:
    async with Peer(parse_endpoint(f"grpc+unix:{tmp_path}/socket")) as peer:
        async with serving(memory_services(), tmp_path / "socket"):
            await peer.speech()
        with pytest.raises(Unavailable, match=f"grpc\\+unix:{tmp_path}/socket: "):
            await all_calls(peer)[index]()


async def test_streams_to_nobody_fail_too(tmp_path: Path) -> None:
    async with (
        Peer(parse_endpoint(f"grpc+unix:{tmp_path}/nobody")) as peer,
        Upload(peer, "/snix.castore.v1.BlobService/Put", "blob") as put,
    ):
        with pytest.raises(Unavailable, match="nobody: blob: "):
            await send_on(put)


async def send_on(put: Upload) -> None:
    while True:
        await put.send(b"")


async def test_a_daemon_that_comes_back_is_found_again_and_asked_anew(tmp_path: Path) -> None:
    async with Peer(parse_endpoint(f"grpc+unix:{tmp_path}/socket")) as peer:
        service = GrpcBlobService("remote", peer)
        async with serving(memory_services(), tmp_path / "socket"):
            await service.put_many([BLOB])
        with pytest.raises(Unavailable):
            await service.has(BLOB.digest)
        async with serving(memory_services(), tmp_path / "socket", batches=False):
            for _ in range(100):
                try:
                    await service.put_many([BLOB])
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
            assert await service.has(BLOB.digest)
            assert (await peer.speech()).extension is None


async def test_a_blob_that_breaks_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    services = memory_services()
    data = contents(40_000_000)
    async with await services.blobs.open_write() as writer:
        await writer.write(data)
        digest = await writer.close()
    async with Peer(parse_endpoint(f"grpc+unix:{tmp_path}/socket")) as peer:
        async with serving(services, tmp_path / "socket", drain_s=0):
            reader = await GrpcBlobService("remote", peer).open_read(digest)
            assert reader is not None
            await reader.read()
        with pytest.raises(Unavailable):
            await read_on(reader)
        await reader.aclose()


async def read_on(reader: Any) -> None:
    while await reader.read():
        pass


async def test_unary_calls_may_have_a_timeout(tmp_path: Path) -> None:
    async def silence(requests: Any, context: Any) -> None:
        await asyncio.Event().wait()

    answers = {"/tvix.castore.v1.BlobService/Stat": messages(b""), "/tvix.store.v1.PathInfoService/Get": silence}
    async with fake_peer(tmp_path, answers), Peer(parse_endpoint(f"grpc+unix:{tmp_path}/peer"), 0.2) as peer:
        with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
            await GrpcPathInfoService("remote", peer).get(bytes(20))
