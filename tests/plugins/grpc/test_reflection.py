"""A client that has never seen our protos: it learns services and messages by reflection, then uses them.

The grpc channels and stubs here are the blocking ones, in a thread, as another program would have them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from plugins.grpc.loopback import memory_services, serving

pytestmark = pytest.mark.anyio

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "snix.castore.v1.BlobService",
    "snix.castore.v1.DirectoryService",
    "snix.store.v1.PathInfoService",
    "tvix.castore.v1.BlobService",
    "tvix.castore.v1.DirectoryService",
    "tvix.store.v1.PathInfoService",
    "tvix_store.batch.v1.BatchService",
]


@pytest.fixture
async def target() -> AsyncIterator[str]:
    async with serving(memory_services()) as url:
        yield url.removeprefix("grpc+http://")


def put_and_read(target: str, service_name: str, data: bytes) -> bytes:
    """Call the blob service of that name, all that is known of it having been learnt from the server."""
    with grpc.insecure_channel(target) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service: Any = pool.FindServiceByName(service_name)
        put, read = service.methods_by_name["Put"], service.methods_by_name["Read"]
        chunk_class, request_class = GetMessageClass(put.input_type), GetMessageClass(read.input_type)
        put_call: Any = channel.stream_unary(
            f"/{service_name}/Put", chunk_class.SerializeToString, GetMessageClass(put.output_type).FromString
        )
        chunks: Any = [chunk_class(data=data[:5]), chunk_class(data=data[5:])]
        digest = put_call(iter(chunks)).digest
        read_call: Any = channel.unary_stream(
            f"/{service_name}/Read", request_class.SerializeToString, GetMessageClass(read.output_type).FromString
        )
        return b"".join(chunk.data for chunk in read_call(request_class(digest=digest)))


@pytest.mark.parametrize("dialect", ["tvix", "snix"])
async def test_generic_client_puts_and_reads_a_blob(target: str, dialect: str) -> None:
    data = b"Hello, whoever you are"
    assert await asyncio.to_thread(put_and_read, target, f"{dialect}.castore.v1.BlobService", data) == data


async def test_v1alpha_lists_the_services(target: str) -> None:
    def names() -> list[str]:
        with grpc.insecure_channel(target) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert await asyncio.to_thread(names) == SERVICES


def ask(target: str, version: str, *requests: reflection_pb2.ServerReflectionRequest) -> list[Any]:
    """Questions to the reflection of that version; its messages differ in their package name only."""
    with grpc.insecure_channel(target) as channel:
        call: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        return list(call(iter(requests)))


def request(**fields: Any) -> reflection_pb2.ServerReflectionRequest:
    return reflection_pb2.ServerReflectionRequest(**fields)


both_versions = pytest.mark.parametrize("version", ["v1", "v1alpha"])


@both_versions
async def test_both_versions_list_the_same(target: str, version: str) -> None:
    (answer,) = await asyncio.to_thread(ask, target, version, request(list_services=""))
    assert [service.name for service in answer.list_services_response.service] == SERVICES


@both_versions
@pytest.mark.parametrize("name", SERVICES)
async def test_every_service_is_described(target: str, version: str, name: str) -> None:
    (answer,) = await asyncio.to_thread(ask, target, version, request(file_containing_symbol=name))
    files = [FileDescriptorProto.FromString(file) for file in answer.file_descriptor_response.file_descriptor_proto]
    assert name in {f"{file.package}.{service.name}" for file in files for service in file.service}
    pool, by_name = DescriptorPool(), {file.name: file for file in files}

    def add(file: FileDescriptorProto) -> None:
        for dependency in file.dependency:
            add(by_name.get(dependency) or FileDescriptorProto(name=dependency))
        pool.Add(file)

    add(files[0])
    assert pool.FindServiceByName(name).methods


@both_versions
@pytest.mark.parametrize(
    "symbol",
    [
        "tvix.castore.v1.BlobService.Put",
        "snix.castore.v1.Entry",
        "tvix.castore.v1.Node",
        "tvix.castore.v1.StatBlobResponse.ChunkMeta",
        "tvix.store.v1.NARInfo.CA.Hash",
        "snix.castore.v1.Directory.files",
    ],
)
async def test_symbols_of_all_kinds_are_found(target: str, version: str, symbol: str) -> None:
    (answer,) = await asyncio.to_thread(ask, target, version, request(file_containing_symbol=symbol))
    assert answer.WhichOneof("message_response") == "file_descriptor_response"


@both_versions
@pytest.mark.parametrize(
    "name",
    [
        f"{dialect}/{file}"
        for dialect in ("tvix", "snix")
        for file in (
            "castore/protos/castore.proto",
            "castore/protos/rpc_blobstore.proto",
            "castore/protos/rpc_directory.proto",
            "store/protos/pathinfo.proto",
            "store/protos/rpc_pathinfo.proto",
        )
    ],
)
async def test_files_are_found_by_name(target: str, version: str, name: str) -> None:
    (answer,) = await asyncio.to_thread(ask, target, version, request(file_by_filename=name))
    first = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert first.name == name


@both_versions
async def test_what_is_unknown_is_not_found_and_the_stream_goes_on(target: str, version: str) -> None:
    answers = await asyncio.to_thread(
        ask,
        target,
        version,
        request(file_containing_symbol="tvix.castore.v1.NoSuchThing"),
        request(file_by_filename="no/such.proto"),
        request(file_containing_symbol="google.protobuf.FileDescriptorProto"),
        request(),
        request(list_services=""),
    )
    codes = [answer.error_response.error_code for answer in answers]
    assert codes == [5, 5, 5, 3, 0]
