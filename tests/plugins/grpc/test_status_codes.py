"""What raw calls are answered, under both protocol names; the table is spec/castore.md sections 6 to 9."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import grpc.aio
import pytest

from plugins.grpc.loopback import memory_services, serving
from plugins.grpc.rawcalls import BLOBS, DIRECTORIES, PATH_INFOS, Raw, channel_to, refused
from tvix_store.blob import BlobReader
from tvix_store.digest import EMPTY_DIGEST, B3Digest
from tvix_store.errors import CorruptObject, OutOfSpace, StoreError, Unavailable
from tvix_store.frontend import Services
from tvix_store.limits import KIB, MIB
from tvix_store.nodes import Directory, DirectoryNode, FileNode
from tvix_store.testing.fixtures import (
    BLOB_A,
    BLOB_B,
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_C,
    DIRECTORY_COMPLICATED,
    DIRECTORY_D,
    DIRECTORY_D_DOCUMENTED,
    DIRECTORY_WITH_KEEP,
    DIRECTORY_WRONG_SIZE,
    HELLOWORLD_BLOB,
    PATH_INFO,
    PATH_INFO_FULL,
    contents,
)
from tvix_store.wire import encode_path_info, node_to_message, path_info_to_message
from tvix_store_memory.blob import MemoryBlobService
from vectors.grpc_exchanges import EXCHANGES

pytestmark = pytest.mark.anyio

ABSENT = B3Digest.of(b"absent")


@pytest.fixture
def services() -> Services:
    return memory_services()


@pytest.fixture(params=["tvix", "snix"])
async def raw(request: pytest.FixtureRequest, services: Services, tmp_path: Path) -> AsyncIterator[Raw]:
    async with serving(services, tmp_path / "socket") as url, channel_to(url) as channel:
        yield Raw(channel, request.param)


def text(raw: Raw, digest: B3Digest) -> str:
    return digest.tvix_text if raw.dialect == "tvix" else str(digest)


# BlobService


async def test_stat_of_a_blob_is_an_empty_message(raw: Raw) -> None:
    await raw.send(BLOBS, "Put", [raw.message("BlobChunk", data=HELLOWORLD_BLOB.data)])
    for chunks in (False, True):
        request = raw.message("StatBlobRequest", digest=HELLOWORLD_BLOB.digest.raw, send_chunks=chunks)
        assert await raw.one(BLOBS, "Stat", request) == b""


async def test_stat_of_the_empty_blob_is_fine(raw: Raw) -> None:
    assert await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=EMPTY_DIGEST.raw)) == b""
    assert await raw.many(BLOBS, "Read", raw.message("ReadBlobRequest", digest=EMPTY_DIGEST.raw)) == []


async def test_absent_blobs_are_not_found(raw: Raw) -> None:
    for chunks in (False, True):
        with refused("NOT_FOUND", f"blob {text(raw, ABSENT)} not found"):
            await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=ABSENT.raw, send_chunks=chunks))
    with refused("NOT_FOUND", f"blob {text(raw, ABSENT)} not found"):
        await raw.many(BLOBS, "Read", raw.message("ReadBlobRequest", digest=ABSENT.raw))


@pytest.mark.parametrize("digest", [b"", b"short", bytes(33)])
async def test_blob_digests_of_another_length_are_invalid(raw: Raw, digest: bytes) -> None:
    with refused("INVALID_ARGUMENT", "invalid digest length"):
        await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=digest))
    with refused("INVALID_ARGUMENT", "invalid digest length"):
        await raw.many(BLOBS, "Read", raw.message("ReadBlobRequest", digest=digest))


async def test_put_takes_any_partition(raw: Raw) -> None:
    pieces = [BLOB_B.data[:1], b"", BLOB_B.data[1:70_000], BLOB_B.data[70_000:]]
    answer = await raw.send(BLOBS, "Put", [raw.message("BlobChunk", data=piece) for piece in pieces])
    assert answer == raw.message("PutBlobResponse", digest=BLOB_B.digest.raw).SerializeToString()


async def test_put_of_nothing_is_the_empty_blob(raw: Raw) -> None:
    assert EMPTY_DIGEST.raw in await raw.send(BLOBS, "Put", [])


async def test_put_takes_chunks_that_protobuf_writes_in_another_way(raw: Raw) -> None:
    longer_varint = b"\x0a\x82\x00\x00\x01"
    unknown_field = b"\x12\x01x" + b"\x0a\x02\x00\x01"
    for message in (longer_varint, unknown_field):
        assert BLOB_A.digest.raw in await raw.send(BLOBS, "Put", [message])


async def test_read_comes_in_messages_of_256_kib(raw: Raw) -> None:
    data = contents(MIB + 1)
    await raw.send(BLOBS, "Put", [raw.message("BlobChunk", data=data)])
    messages = await raw.many(BLOBS, "Read", raw.message("ReadBlobRequest", digest=B3Digest.of(data).raw))
    pieces = []
    for message in messages:
        chunk = raw.message("BlobChunk")
        chunk.ParseFromString(message)
        pieces.append(chunk.data)
    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[:-1]} == {256 * KIB}


# DirectoryService


async def put(raw: Raw, *directories: Directory) -> bytes:
    return await raw.send(DIRECTORIES, "Put", [directory.encode() for directory in directories])


async def get(raw: Raw, digest: B3Digest, *, recursive: bool = False) -> list[bytes]:
    return await raw.many(
        DIRECTORIES, "Get", raw.message("GetDirectoryRequest", digest=digest.raw, recursive=recursive)
    )


@pytest.mark.parametrize(
    "closure",
    [
        [DIRECTORY_A],
        [DIRECTORY_A, DIRECTORY_B],
        [DIRECTORY_A, DIRECTORY_A, DIRECTORY_C],
        [DIRECTORY_A, DIRECTORY_C],
        [DIRECTORY_A, DIRECTORY_B, DIRECTORY_D],
        [DIRECTORY_A, DIRECTORY_B, DIRECTORY_D_DOCUMENTED],
        [DIRECTORY_WITH_KEEP, DIRECTORY_COMPLICATED],
    ],
)
async def test_closures_are_taken(raw: Raw, closure: list[Directory]) -> None:
    answer = await put(raw, *closure)
    assert answer == raw.message("PutDirectoryResponse", root_digest=closure[-1].digest.raw).SerializeToString()
    found = await get(raw, closure[-1].digest, recursive=True)
    assert found[0] == closure[-1].encode()
    assert sorted(found) == sorted({directory.encode() for directory in closure})


@pytest.mark.parametrize(
    ("closure", "reason"),
    [
        ([DIRECTORY_A, DIRECTORY_C, DIRECTORY_B], "disconnected roots"),
        ([DIRECTORY_B], "unknown directory was referenced"),
        ([DIRECTORY_A, DIRECTORY_WRONG_SIZE], "wrong size"),
        ([], "got no directories"),
    ],
)
async def test_broken_closures_are_invalid_and_not_stored(raw: Raw, closure: list[Directory], reason: str) -> None:
    with refused("INVALID_ARGUMENT", reason):
        await put(raw, *closure)
    for directory in closure:
        with refused("NOT_FOUND"):
            await get(raw, directory.digest)


async def test_children_that_are_stored_do_not_count(raw: Raw) -> None:
    await put(raw, DIRECTORY_A)
    with refused("INVALID_ARGUMENT", f'unknown directory was referenced: "a" is {text(raw, DIRECTORY_A.digest)}'):
        await put(raw, DIRECTORY_B)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        ("0a270a012e12200000000000000000000000000000000000000000000000000000000000000000182a", "current directory"),
        ("0a0b0a03666f6f12020042182a", "digest"),
        ("1a050a03666f6f", "symlink target"),
    ],
)
async def test_invalid_directories_are_refused(raw: Raw, encoded: str, reason: str) -> None:
    with refused("INVALID_ARGUMENT", reason):
        await raw.send(DIRECTORIES, "Put", [bytes.fromhex(encoded)])


async def test_single_directories(raw: Raw) -> None:
    await put(raw, DIRECTORY_A, DIRECTORY_B)
    assert await get(raw, DIRECTORY_B.digest) == [DIRECTORY_B.encode()]
    with refused("NOT_FOUND", f"directory {text(raw, ABSENT)} not found"):
        await get(raw, ABSENT)


async def test_recursive_get_of_an_absent_root_is_an_empty_success(raw: Raw) -> None:
    assert await get(raw, ABSENT, recursive=True) == []


async def test_recursive_get_without_a_child_breaks_off(raw: Raw, services: Services) -> None:
    await services.directories.put_many([DIRECTORY_B])
    with refused("NOT_FOUND", f"directory {text(raw, DIRECTORY_A.digest)} does not exist"):
        await get(raw, DIRECTORY_B.digest, recursive=True)


async def test_directory_requests_without_a_sound_digest_are_invalid(raw: Raw) -> None:
    with refused("INVALID_ARGUMENT", "invalid by_what"):
        await raw.many(DIRECTORIES, "Get", b"")
    for digest in (b"", b"short"):
        with refused("INVALID_ARGUMENT", "invalid digest length"):
            await raw.many(DIRECTORIES, "Get", raw.message("GetDirectoryRequest", digest=digest))


# PathInfoService


async def test_path_infos(raw: Raw) -> None:
    encoded = encode_path_info(PATH_INFO_FULL)
    assert await raw.one(PATH_INFOS, "Put", encoded) == encoded
    key = raw.message("GetPathInfoRequest", by_output_hash=PATH_INFO_FULL.store_path.digest)
    assert await raw.one(PATH_INFOS, "Get", key) == encoded
    assert await raw.many(PATH_INFOS, "List", b"") == [encoded]


async def test_path_info_requests_without_a_sound_key(raw: Raw) -> None:
    with refused("UNIMPLEMENTED", "by_what needs to be specified"):
        await raw.one(PATH_INFOS, "Get", b"")
    for key in (b"", bytes(19), bytes(32)):
        with refused("INVALID_ARGUMENT", "invalid output digest length"):
            await raw.one(PATH_INFOS, "Get", raw.message("GetPathInfoRequest", by_output_hash=key))
    with refused("NOT_FOUND", "PathInfo not found"):
        await raw.one(PATH_INFOS, "Get", raw.message("GetPathInfoRequest", by_output_hash=bytes(20)))


async def test_invalid_path_infos_are_refused(raw: Raw) -> None:
    message = path_info_to_message(PATH_INFO)
    message.narinfo.nar_sha256 = b"\xbe\xef"
    with refused("INVALID_ARGUMENT", "invalid path info"):
        await raw.one(PATH_INFOS, "Put", message)
    with refused("INVALID_ARGUMENT", "narinfo"):
        await raw.one(PATH_INFOS, "Put", b"")
    assert await raw.many(PATH_INFOS, "List", b"") == []


async def test_calculate_nar(raw: Raw, services: Services) -> None:
    async with await services.blobs.open_write() as writer:
        await writer.write(HELLOWORLD_BLOB.data)
        await writer.close()
    node = FileNode(HELLOWORLD_BLOB.digest, len(HELLOWORLD_BLOB.data))
    answer = await raw.one(PATH_INFOS, "CalculateNAR", node_to_message(node))
    assert answer.hex() == "088001122003e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"


async def test_calculate_nar_of_what_is_not_there(raw: Raw) -> None:
    for node in (FileNode(ABSENT, 3), DirectoryNode(ABSENT, 3)):
        with refused("NOT_FOUND", text(raw, ABSENT)):
            await raw.one(PATH_INFOS, "CalculateNAR", node_to_message(node))


async def test_calculate_nar_wants_a_sound_nameless_node(raw: Raw) -> None:
    named = node_to_message(FileNode(HELLOWORLD_BLOB.digest, 12), b"name")
    short = node_to_message(FileNode(HELLOWORLD_BLOB.digest, 12))
    short.file.digest = b"short"
    for request in (named.SerializeToString(), short.SerializeToString(), b""):
        with refused("INVALID_ARGUMENT", "invalid root node"):
            await raw.one(PATH_INFOS, "CalculateNAR", request)


# All of them


@pytest.mark.parametrize(
    ("service", "method"), [(BLOBS, "Stat"), (PATH_INFOS, "Get"), (PATH_INFOS, "Put"), (PATH_INFOS, "CalculateNAR")]
)
async def test_requests_that_do_not_decode_are_internal(raw: Raw, service: str, method: str) -> None:
    with refused("INTERNAL", "does not decode"):
        await raw.one(service, method, b"\xff\xff\xff")


async def test_streamed_requests_that_do_not_decode_are_internal(raw: Raw) -> None:
    for service in (BLOBS, DIRECTORIES):
        with refused("INTERNAL", "does not decode"):
            await raw.send(service, "Put", [b"\xff\xff\xff"])


async def test_unknown_methods_are_unimplemented(raw: Raw) -> None:
    with refused("UNIMPLEMENTED"):
        await raw.one(BLOBS, "Delete", b"")
    with refused("UNIMPLEMENTED"):
        await raw.one("castore.v2.BlobService", "Stat", b"")


async def test_messages_over_the_limit_are_refused(raw: Raw) -> None:
    data = contents(4 * MIB)
    with refused("RESOURCE_EXHAUSTED"):
        await raw.send(BLOBS, "Put", [raw.message("BlobChunk", data=b"first"), raw.message("BlobChunk", data=data)])
    for stored in (b"first", data, b"first" + data):
        with refused("NOT_FOUND"):
            await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=B3Digest.of(stored).raw))


async def test_golden_exchanges(raw: Raw, services: Services) -> None:
    await services.directories.put_many([DIRECTORY_WITH_KEEP, DIRECTORY_COMPLICATED])
    for exchange in EXCHANGES:
        requests = [bytes.fromhex(request) for request in exchange.requests]
        if exchange.method == "Put":
            responses = [await raw.send(exchange.service, "Put", requests)]
        elif exchange.method == "Read":
            responses = await raw.many(exchange.service, "Read", requests[0])
        else:
            responses = [await raw.one(exchange.service, exchange.method, requests[0])]
        assert [response.hex() for response in responses] == exchange.responses, exchange.label


# Failures of the services


class FailingBlobService(MemoryBlobService):
    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure

    async def has(self, digest: B3Digest) -> NoReturn:
        raise self.failure

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (CorruptObject("rotten"), "DATA_LOSS"),
        (Unavailable("asleep"), "UNAVAILABLE"),
        (OutOfSpace("full"), "RESOURCE_EXHAUSTED"),
        (StoreError("odd"), "INTERNAL"),
    ],
)
async def test_errors_have_their_own_codes(failure: StoreError, code: str, tmp_path: Path) -> None:
    services = memory_services(blobs=FailingBlobService(failure))
    async with serving(services, tmp_path / "socket") as url, channel_to(url) as channel:
        raw = Raw(channel)
        with refused(code, str(failure)):
            await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=ABSENT.raw))
        with refused(code, str(failure)):
            await raw.many(BLOBS, "Read", raw.message("ReadBlobRequest", digest=ABSENT.raw))


async def test_what_nobody_foresaw_is_logged_once_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    services = memory_services(blobs=FailingBlobService(ZeroDivisionError("the secret is 42")))
    async with serving(services, tmp_path / "socket") as url, channel_to(url) as channel:
        raw = Raw(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=ABSENT.raw))
    assert (caught.value.code().name, caught.value.details()) == ("INTERNAL", "internal error")
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]
