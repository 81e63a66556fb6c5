"""What is read-only refuses what writes, and lets the rest through: each row of the table in the README."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from fakes.recorder import Recorder
from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unavailable, Unsupported
from tvix_store.nodes import Directory
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store_guard.readonly import ReadonlyBlobService, ReadonlyDirectoryService, ReadonlyPathInfoService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(b"blob")
EMPTY = Directory()
PATH = PATH_INFO.store_path.digest


class Blobs(MemoryBlobService):
    capabilities = Capabilities(
        put=True, list=True, delete=True, chunks=True, verifies=True, compact=True
    )  # what a store on disk states


Refused = Callable[[ReadonlyBlobService, ReadonlyDirectoryService, ReadonlyPathInfoService], Awaitable[object]]

REFUSED: dict[str, Refused] = {
    "blob open_write": lambda blobs, directories, path_infos: blobs.open_write(),
    "blob put_many": lambda blobs, directories, path_infos: blobs.put_many([BLOB]),
    "blob delete": lambda blobs, directories, path_infos: blobs.delete([BLOB.digest]),
    "blob compact": lambda blobs, directories, path_infos: blobs.compact(),
    "directory put": lambda blobs, directories, path_infos: directories.put(EMPTY),
    "directory put_many": lambda blobs, directories, path_infos: directories.put_many([EMPTY]),
    "directory put_multiple_start": lambda blobs, directories, path_infos: directories.put_multiple_start(),
    "directory delete": lambda blobs, directories, path_infos: directories.delete([EMPTY.digest]),
    "path info put": lambda blobs, directories, path_infos: path_infos.put(PATH_INFO),
    "path info put_many": lambda blobs, directories, path_infos: path_infos.put_many([PATH_INFO]),
    "path info delete": lambda blobs, directories, path_infos: path_infos.delete([PATH]),
}


@pytest.mark.parametrize("method", REFUSED)
async def test_what_writes_is_refused_and_not_asked(method: str) -> None:
    recorder = Recorder()
    blobs = ReadonlyBlobService("shown", AroundBlobService(Blobs(), recorder))
    directories = ReadonlyDirectoryService("shown", AroundDirectoryService(MemoryDirectoryService("inner"), recorder))
    path_infos = ReadonlyPathInfoService("shown", AroundPathInfoService(MemoryPathInfoService(), recorder))
    with pytest.raises(Unsupported, match=r"^shown is read-only$"):
        await REFUSED[method](blobs, directories, path_infos)
    assert recorder.calls == []


async def test_nothing_is_forgotten_through_it() -> None:
    recorder = Recorder()
    await ReadonlyBlobService("shown", AroundBlobService(Blobs(), recorder)).discard_corrupt(BLOB.digest)
    directories = AroundDirectoryService(MemoryDirectoryService("inner"), recorder)
    await ReadonlyDirectoryService("shown", directories).discard_corrupt(EMPTY.digest)
    path_infos = AroundPathInfoService(MemoryPathInfoService(), recorder)
    await ReadonlyPathInfoService("shown", path_infos).discard_corrupt(PATH)
    assert recorder.calls == []


def test_it_states_what_is_left() -> None:
    left = Capabilities(put=False, list=True, delete=False, chunks=True, verifies=True, compact=False)
    assert ReadonlyBlobService("shown", Blobs()).capabilities == left
    listed = Capabilities(put=False, list=True)
    assert ReadonlyDirectoryService("shown", MemoryDirectoryService("inner")).capabilities == listed
    assert ReadonlyPathInfoService("shown", MemoryPathInfoService()).capabilities == listed


async def test_batches_stay_batches_and_failures_failures() -> None:
    recorder = Recorder()
    service = ReadonlyBlobService("shown", AroundBlobService(Blobs(), recorder))
    assert list(await service.get_many([BLOB.digest, B3Digest.of(b"x")])) == [None, None]
    assert list(await service.has_many([BLOB.digest] * 3)) == [False] * 3
    await service.sync()
    assert recorder.calls == [("get_many", 2), ("has_many", 3), ("sync", 0)]
    recorder.failure = Unavailable("the line is cut")
    with pytest.raises(Unavailable, match="the line is cut"):
        await service.has(BLOB.digest)
