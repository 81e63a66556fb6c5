"""Every method of every kind as something to try on a service, and services that write down what they are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fakes.recorder import Recorder
from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.digest import HashedBlob
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.blob_access import read_blob, write_blob
from tvix_store.testing.fixtures import DIRECTORY_A, DIRECTORY_B, PATH_INFO, contents, store_path
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

__all__ = ["BATCHES", "BLOB", "KINDS", "OBJECTS", "OTHERS", "READS", "WRITES", "Member", "key", "many", "member", "put"]

BLOB = HashedBlob(contents(5000))
OTHER_BLOB = HashedBlob(contents(700, 1))
KINDS = ("blob", "directory", "path_info")
OBJECTS: Mapping[str, Any] = {"blob": BLOB, "directory": DIRECTORY_B, "path_info": PATH_INFO}
OTHERS: Mapping[str, Any] = {
    "blob": OTHER_BLOB,
    "directory": DIRECTORY_A,
    "path_info": replace(PATH_INFO, store_path=store_path("other")),
}

Try = Callable[[Any], Awaitable[object]]


@dataclass
class Member:
    """A service in memory.

    Args:
        memory: What is stored.
        recorder: What was called, and what is to fail.
        service: For combinators.
    """

    memory: Any
    recorder: Recorder
    service: Any

    def fail(self, error: Exception, *methods: str) -> None:
        self.recorder.failure = error
        self.recorder.failing = methods


def member(kind: str) -> Member:
    """An empty one."""
    recorder = Recorder()
    if kind == "blob":
        blobs = MemoryBlobService()
        return Member(blobs, recorder, AroundBlobService(CheckedBlobService("memory", blobs), recorder))
    if kind == "directory":
        directories = MemoryDirectoryService()
        checked = CheckedDirectoryService("memory", directories)
        return Member(directories, recorder, AroundDirectoryService(checked, recorder))
    path_infos = MemoryPathInfoService()
    return Member(path_infos, recorder, AroundPathInfoService(CheckedPathInfoService("memory", path_infos), recorder))


def key(kind: str, thing: Any) -> Any:
    """What an object is found by."""
    return thing.store_path.digest if kind == "path_info" else thing.digest


def many(kind: str) -> list[Any]:
    """Objects enough for every one of a few shards."""
    if kind == "blob":
        return [HashedBlob(b"%d" % number) for number in range(60)]
    if kind == "directory":
        return [Directory({b"leaf": SymlinkNode(b"%d" % number)}) for number in range(60)]
    infos = [store_path(f"path-{number}") for number in range(60)]
    return [PathInfo(store_path=path, node=PATH_INFO.node, nar_size=1, nar_sha256=bytes(32)) for path in infos]


async def put(kind: str, service: Any, *things: Any) -> None:
    """Store objects; the one of the kind if none is given."""
    await service.put_many(list(things) or [OBJECTS[kind]])


async def _has_many(service: Any) -> object:
    return (await service.has_many([BLOB.digest]))[0]


async def _get_many_blobs(service: Any) -> object:
    return (await service.get_many([BLOB.digest]))[0]


async def _get_many_directories(service: Any) -> object:
    return (await service.get_many([DIRECTORY_B.digest]))[0]


async def _get_recursive(service: Any) -> object:
    async for directory in service.get_recursive(DIRECTORY_B.digest):
        return directory
    return None


async def _get_many_path_infos(service: Any) -> object:
    return (await service.get_many([PATH_INFO.store_path.digest]))[0]


async def _chunks(service: Any) -> object:
    return await service.chunks(BLOB.digest) is not None


READS: Mapping[tuple[str, str], Try] = {
    ("blob", "has"): lambda service: service.has(BLOB.digest),
    ("blob", "open_read"): lambda service: read_blob(service, BLOB.digest),
    ("blob", "chunks"): _chunks,
    ("blob", "has_many"): _has_many,
    ("blob", "get_many"): _get_many_blobs,
    ("directory", "get"): lambda service: service.get(DIRECTORY_B.digest),
    ("directory", "get_many"): _get_many_directories,
    ("directory", "get_recursive"): _get_recursive,
    ("path_info", "get"): lambda service: service.get(PATH_INFO.store_path.digest),
    ("path_info", "get_metadata"): lambda service: service.get_metadata(PATH_INFO.store_path.digest),
    ("path_info", "get_many"): _get_many_path_infos,
}
"""Each gives something that counts as true if the object of the kind is there."""

BATCHES = [("blob", "has_many"), ("blob", "get_many"), ("directory", "get_many"), ("path_info", "get_many")]


async def _upload(service: Any) -> object:
    async with await service.put_multiple_start() as putter:
        await putter.put_many([DIRECTORY_A, DIRECTORY_B])
        return await putter.close()


WRITES: Mapping[tuple[str, str], Try] = {
    ("blob", "put_many"): lambda service: service.put_many([BLOB]),
    ("blob", "open_write"): lambda service: write_blob(service, BLOB.data),
    ("directory", "put"): lambda service: service.put(DIRECTORY_B),
    ("directory", "put_many"): lambda service: service.put_many([DIRECTORY_B]),
    ("directory", "put_multiple_start"): _upload,
    ("path_info", "put"): lambda service: service.put(PATH_INFO),
    ("path_info", "put_many"): lambda service: service.put_many([PATH_INFO]),
}
"""Each stores the object of the kind."""
