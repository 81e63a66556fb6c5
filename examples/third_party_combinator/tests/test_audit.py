"""The conformance suites of tvix-store, and what the lines say."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.digest import HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import OutOfSpace, Unavailable, Unsupported
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfoService
from tvix_store.testing import BlobServiceSuite, DirectoryServiceSuite, PathInfoServiceSuite
from tvix_store.testing.fixtures import DIRECTORY_A, DIRECTORY_B, PATH_INFO
from tvix_store.testing.minimal import MinimalBlobService
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

from tvix_store_audit.blob import AuditBlobService
from tvix_store_audit.directory import AuditDirectoryService
from tvix_store_audit.log import Audit, AuditLog
from tvix_store_audit.path_info import AuditPathInfoService
from tvix_store_audit.plugin import AuditBlobServiceConfig

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def audit(tmp_path: Path) -> AsyncIterator[Audit]:
    async with await AuditLog.open(tmp_path / "audit.jsonl") as log:
        yield Audit(log, "root", "somebody")


def lines(folder: Path) -> list[tuple[str, str, list[str], str | None]]:
    """Kind, deed, objects and error of each line."""
    records = map(json.loads, (folder / "audit.jsonl").read_text().splitlines())
    return [(record["kind"], record["did"], record["objects"], record["error"]) for record in records]


class TestAuditBlobService(BlobServiceSuite):
    @pytest.fixture
    async def service(self, audit: Audit) -> AsyncIterator[BlobService]:
        async with AuditBlobService(MemoryBlobService(), audit) as service:
            yield service


class TestAuditDirectoryService(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self, audit: Audit) -> AsyncIterator[DirectoryService]:
        async with AuditDirectoryService(MemoryDirectoryService(), audit) as service:
            yield service


class TestAuditPathInfoService(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self, audit: Audit) -> AsyncIterator[PathInfoService]:
        async with AuditPathInfoService(MemoryPathInfoService(), audit) as service:
            yield service


A, B = HashedBlob(b"a"), HashedBlob(b"b")
HASH_PART = PATH_INFO.store_path.hash_part


async def _write(service: BlobService) -> None:
    async with await service.open_write() as writer:
        await writer.write(b"a")
        await writer.close()
        await writer.close()


async def _abandon(service: BlobService) -> None:
    async with await service.open_write() as writer:
        await writer.write(b"a")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (_write, [("blob service", "put", [str(A.digest)], None)]),
        (_abandon, []),
        (lambda service: service.put_many([A, B]), [("blob service", "put", [str(A.digest), str(B.digest)], None)]),
        (lambda service: service.put_many([]), []),
        (lambda service: service.delete([A.digest]), [("blob service", "delete", [str(A.digest)], None)]),
        (lambda service: service.delete([]), []),
        (
            lambda service: service.discard_corrupt(A.digest),
            [("blob service", "discard_corrupt", [str(A.digest)], None)],
        ),
        (lambda service: service.get_many([A.digest]), []),
        (lambda service: service.has_many([A.digest]), []),
        (lambda service: service.sync(), []),
    ],
)
async def test_lines_about_blobs(
    audit: Audit, tmp_path: Path, call: Callable[[BlobService], Awaitable[object]], expected: list[object]
) -> None:
    await call(AuditBlobService(MemoryBlobService(), audit))
    assert lines(tmp_path) == expected


async def _upload(service: DirectoryService) -> None:
    async with await service.put_multiple_start() as putter:
        await putter.put_many([DIRECTORY_A, DIRECTORY_B])
        await putter.close()
        await putter.close()


@pytest.mark.parametrize(
    ("call", "did", "objects"),
    [
        (lambda service: service.put(DIRECTORY_A), "put", [DIRECTORY_A]),
        (lambda service: service.put_many([DIRECTORY_A, DIRECTORY_B]), "put", [DIRECTORY_A, DIRECTORY_B]),
        (_upload, "put_closure", [DIRECTORY_B]),
        (lambda service: service.delete([DIRECTORY_A.digest]), "delete", [DIRECTORY_A]),
        (lambda service: service.discard_corrupt(DIRECTORY_A.digest), "discard_corrupt", [DIRECTORY_A]),
    ],
)
async def test_lines_about_directories(
    audit: Audit,
    tmp_path: Path,
    call: Callable[[DirectoryService], Awaitable[object]],
    did: str,
    objects: list[Directory],
) -> None:
    await call(AuditDirectoryService(MemoryDirectoryService(), audit))
    names = [str(directory.digest) for directory in objects]
    assert lines(tmp_path) == [("directory service", did, names, None)]


@pytest.mark.parametrize(
    ("call", "did", "name"),
    [
        (lambda service: service.put(PATH_INFO), "put", str(PATH_INFO.store_path)),
        (lambda service: service.put_many([PATH_INFO]), "put", str(PATH_INFO.store_path)),
        (lambda service: service.delete([PATH_INFO.store_path.digest]), "delete", HASH_PART),
        (lambda service: service.discard_corrupt(PATH_INFO.store_path.digest), "discard_corrupt", HASH_PART),
    ],
)
async def test_lines_about_path_infos(
    audit: Audit, tmp_path: Path, call: Callable[[PathInfoService], Awaitable[object]], did: str, name: str
) -> None:
    await call(AuditPathInfoService(MemoryPathInfoService(), audit))
    assert lines(tmp_path) == [("path info service", did, [name], None)]


async def test_a_failure_is_written_down_and_stays_that_failure(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="MinimalBlobService cannot delete blobs"):
        await AuditBlobService(MinimalBlobService(), audit).delete([A.digest])
    assert lines(tmp_path) == [
        ("blob service", "delete", [str(A.digest)], "MinimalBlobService cannot delete blobs"),
    ]


async def test_a_line_says_who_where_and_when(audit: Audit, tmp_path: Path) -> None:
    await AuditBlobService(MemoryBlobService(), audit).put_many([A])
    record = json.loads((tmp_path / "audit.jsonl").read_text())
    assert (record["who"], record["entry"], record["pid"]) == ("somebody", "root", os.getpid())
    assert record["when"].endswith("+00:00")


async def test_what_cannot_be_written_down_fails() -> None:
    async with await AuditLog.open(Path("/dev/full")) as log:
        service = AuditBlobService(MemoryBlobService(), Audit(log, "root"))
        with pytest.raises(OutOfSpace, match="audit: /dev/full: No space left on device"):
            await service.put_many([A])


async def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"audit: .*/none/audit.jsonl: No such file or directory"):
        await AuditLog.open(tmp_path / "none" / "audit.jsonl")


@pytest.mark.parametrize("known", [None, Capabilities(list=True, durability=Durability.COMMIT)])
def test_it_can_do_what_the_inner_one_can(known: Capabilities | None) -> None:
    config = AuditBlobServiceConfig(type="audit", inner="disk", path="/audit.jsonl")
    assert config.capabilities({"inner": known}) == known
