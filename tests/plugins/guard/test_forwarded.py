"""What guards pass on: each call as one call, each answer as it is, each failure as that failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fakes.recorder import Recorder
from plugins.guard.guarded import arounds
from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.blob import BlobService
from tvix_store.digest import HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, Unavailable, Unsupported
from tvix_store.nar_calculation import NarCalculationService, NarDigest
from tvix_store.nodes import Directory, Node
from tvix_store.path_info import PathInfoService
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store_guard.readonly import ReadonlyBlobService, ReadonlyDirectoryService, ReadonlyPathInfoService
from tvix_store_guard.singleflight import (
    SingleflightBlobService,
    SingleflightDirectoryService,
    SingleflightPathInfoService,
)
from tvix_store_guard.verify_blob import VerifyBlobService
from tvix_store_guard.verify_directory import VerifyDirectoryService
from tvix_store_guard.verify_path_info import VerifyPathInfoService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(b"blob")
EMPTY = Directory()
PATH = PATH_INFO.store_path.digest
AROUND = ["limit", "retry", "timeout", "breaker"]
TAGS = [*AROUND, "singleflight", "verify", "readonly"]
WRITES = {"open_write", "put", "put_many", "put_multiple_start", "delete", "compact", "discard_corrupt"}


async def drained(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


BLOB_METHODS: dict[str, Callable[[BlobService], Awaitable[object]]] = {
    "has": lambda service: service.has(BLOB.digest),
    "open_read": lambda service: service.open_read(BLOB.digest),
    "open_write": lambda service: service.open_write(),
    "chunks": lambda service: service.chunks(BLOB.digest),
    "has_many": lambda service: service.has_many([BLOB.digest]),
    "get_many": lambda service: service.get_many([BLOB.digest]),
    "put_many": lambda service: service.put_many([BLOB]),
    "list": lambda service: drained(service.list()),
    "delete": lambda service: service.delete([BLOB.digest]),
    "discard_corrupt": lambda service: service.discard_corrupt(BLOB.digest),
    "stats": lambda service: service.stats(),
    "verify": lambda service: drained(service.verify()),
    "compact": lambda service: service.compact(),
    "sync": lambda service: service.sync(),
}
DIRECTORY_METHODS: dict[str, Callable[[DirectoryService], Awaitable[object]]] = {
    "get": lambda service: service.get(EMPTY.digest),
    "put": lambda service: service.put(EMPTY),
    "get_many": lambda service: service.get_many([EMPTY.digest]),
    "put_many": lambda service: service.put_many([EMPTY]),
    "get_recursive": lambda service: drained(service.get_recursive(EMPTY.digest)),
    "put_multiple_start": lambda service: service.put_multiple_start(),
    "list": lambda service: drained(service.list()),
    "delete": lambda service: service.delete([EMPTY.digest]),
    "discard_corrupt": lambda service: service.discard_corrupt(EMPTY.digest),
    "stats": lambda service: service.stats(),
    "verify": lambda service: drained(service.verify()),
    "sync": lambda service: service.sync(),
}
PATH_INFO_METHODS: dict[str, Callable[[PathInfoService], Awaitable[object]]] = {
    "get": lambda service: service.get(PATH),
    "put": lambda service: service.put(PATH_INFO),
    "get_metadata": lambda service: service.get_metadata(PATH),
    "open_nar": lambda service: service.open_nar(PATH),
    "get_many": lambda service: service.get_many([PATH]),
    "put_many": lambda service: service.put_many([PATH_INFO]),
    "list": lambda service: drained(service.list()),
    "delete": lambda service: service.delete([PATH]),
    "discard_corrupt": lambda service: service.discard_corrupt(PATH),
    "stats": lambda service: service.stats(),
    "verify": lambda service: drained(service.verify()),
}


class Compacting(MemoryBlobService):
    async def compact(self) -> int:
        return 7


def blobs(tag: str, recorder: Recorder) -> BlobService:
    inner = AroundBlobService(Compacting(), recorder)
    match tag:
        case "readonly":
            return ReadonlyBlobService("guard", inner)
        case "verify":
            return VerifyBlobService("guard", inner, on_put=False)
        case "singleflight":
            return SingleflightBlobService(inner)
    return AroundBlobService(inner, arounds()[tag])


def directories(tag: str, recorder: Recorder) -> DirectoryService:
    inner = AroundDirectoryService(MemoryDirectoryService("inner"), recorder)
    match tag:
        case "readonly":
            return ReadonlyDirectoryService("guard", inner)
        case "verify":
            return VerifyDirectoryService("guard", inner, on_put=False)
        case "singleflight":
            return SingleflightDirectoryService(inner)
    return AroundDirectoryService(inner, arounds()[tag])


def path_infos(tag: str, recorder: Recorder, memory: PathInfoService | None = None) -> PathInfoService:
    inner = AroundPathInfoService(memory or MemoryPathInfoService("inner"), recorder)
    match tag:
        case "readonly":
            return ReadonlyPathInfoService("guard", inner)
        case "verify":
            return VerifyPathInfoService("guard", inner, on_put=False)
        case "singleflight":
            return SingleflightPathInfoService(inner)
    return AroundPathInfoService(inner, arounds()[tag])


CELLS = [
    *(("blob", tag, method) for tag in TAGS for method in BLOB_METHODS),
    *(("directory", tag, method) for tag in TAGS for method in DIRECTORY_METHODS),
    *(("path info", tag, method) for tag in TAGS for method in PATH_INFO_METHODS),
]
PASSED_ON = [cell for cell in CELLS if cell[1] != "readonly" or cell[2] not in WRITES]


def made(kind: str, tag: str, method: str, recorder: Recorder) -> Awaitable[object]:
    """The call of ``method`` of such a guard."""
    match kind:
        case "blob":
            return BLOB_METHODS[method](blobs(tag, recorder))
        case "directory":
            return DIRECTORY_METHODS[method](directories(tag, recorder))
    return PATH_INFO_METHODS[method](path_infos(tag, recorder))


@pytest.mark.parametrize(("kind", "tag", "method"), PASSED_ON)
async def test_a_call_is_one_call(kind: str, tag: str, method: str) -> None:
    recorder = Recorder()
    await made(kind, tag, method, recorder)
    assert recorder.methods == [method]


@pytest.mark.parametrize("error", [CorruptObject("rotten"), Unsupported("never")], ids=["corrupt", "unsupported"])
@pytest.mark.parametrize(("kind", "tag", "method"), PASSED_ON)
async def test_a_failure_is_that_failure(kind: str, tag: str, method: str, error: Exception) -> None:
    recorder = Recorder()
    recorder.failure = error
    with pytest.raises(type(error), match=str(error)):
        await made(kind, tag, method, recorder)
    assert recorder.methods == [method]


@pytest.mark.parametrize(("kind", "tag", "method"), [cell for cell in PASSED_ON if cell[1] != "retry"])
async def test_unavailable_is_no_miss(kind: str, tag: str, method: str) -> None:
    recorder = Recorder()
    recorder.failure = Unavailable("the line is cut")
    with pytest.raises(Unavailable, match="the line is cut"):
        await made(kind, tag, method, recorder)
    assert recorder.methods == [method]


class _Calculation(NarCalculationService):
    async def calculate_nar(self, node: Node) -> NarDigest:
        return NarDigest(1, bytes(32))


@pytest.mark.parametrize("tag", TAGS)
def test_the_nar_calculation_is_handed_on(tag: str) -> None:
    calculation = _Calculation()

    class Calculating(MemoryPathInfoService):
        def nar_calculation(self) -> NarCalculationService:
            return calculation

    assert path_infos(tag, Recorder(), Calculating()).nar_calculation() is calculation


@pytest.mark.parametrize("tag", TAGS)
async def test_closing_leaves_the_other_service_open(tag: str) -> None:
    closed: list[str] = []

    class Closing(MemoryBlobService):
        async def aclose(self) -> None:
            closed.append("inner")

    inner = Closing()
    guards: dict[str, BlobService] = {
        "readonly": ReadonlyBlobService("guard", inner),
        "verify": VerifyBlobService("guard", inner),
        "singleflight": SingleflightBlobService(inner),
        **{tag: AroundBlobService(inner, around) for tag, around in arounds().items()},
    }
    await guards[tag].aclose()
    assert closed == []


def test_the_table_has_every_method() -> None:
    tested = {"aclose", "capabilities", "nar_calculation", "relays", "explainer"}
    for interface, methods in (
        (BlobService, BLOB_METHODS),
        (DirectoryService, DIRECTORY_METHODS),
        (PathInfoService, PATH_INFO_METHODS),
    ):
        public = {name for name in vars(interface) if not name.startswith("_")}
        assert public - tested == set(methods), interface
