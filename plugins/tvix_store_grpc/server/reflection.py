"""Server reflection in both its versions, for clients that have never seen our protos.

grpcio-reflection knows v1alpha only; v1 is the same messages under another package name. So its descriptor is made
from that of v1alpha, and one set of handlers serves both. All descriptors are in a pool of their own: what else the
process has loaded is not shown.

Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from tvix_store.proto.snix.castore.protos import rpc_blobstore_pb2 as snix_blobs
from tvix_store.proto.snix.castore.protos import rpc_directory_pb2 as snix_directories
from tvix_store.proto.snix.store.protos import rpc_pathinfo_pb2 as snix_path_infos
from tvix_store.proto.tvix.castore.protos import rpc_blobstore_pb2 as tvix_blobs
from tvix_store.proto.tvix.castore.protos import rpc_directory_pb2 as tvix_directories
from tvix_store.proto.tvix.store.protos import rpc_pathinfo_pb2 as tvix_path_infos
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2
from tvix_store.proto.tvix_store.explain.v1 import explain_pb2
from tvix_store_grpc.server.calls import Method, TwoStreams

__all__ = ["SERVICE_NAMES", "ReflectionHandlers"]

_PACKAGE = "grpc.reflection.v1"
_ALPHA = "grpc.reflection.v1alpha"
SERVICE_NAMES = (f"{_PACKAGE}.ServerReflection", f"{_ALPHA}.ServerReflection")

_FILES: Sequence[FileDescriptor] = (
    tvix_blobs.DESCRIPTOR,
    tvix_directories.DESCRIPTOR,
    tvix_path_infos.DESCRIPTOR,
    snix_blobs.DESCRIPTOR,
    snix_directories.DESCRIPTOR,
    snix_path_infos.DESCRIPTOR,
    batch_pb2.DESCRIPTOR,
    explain_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)


def _v1_of_alpha() -> FileDescriptorProto:
    """The descriptor file of v1."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = _PACKAGE
    for message in file.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = _renamed(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type = _renamed(method.input_type)
            method.output_type = _renamed(method.output_type)
    return file


def _renamed(type_name: str) -> str:
    return type_name.replace(f".{_ALPHA}.", f".{_PACKAGE}.")


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    added: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name not in added:
            added.add(file.name)
            for dependency in file.dependencies:
                add(dependency)
            pool.AddSerializedFile(file.serialized_pb)

    for file in _FILES:
        add(file)
    pool.AddSerializedFile(_v1_of_alpha().SerializeToString())
    return pool


class ReflectionHandlers:
    """The methods of ServerReflection.

    Args:
        service_names: What to list; all of them, with reflection itself.
    """

    def __init__(self, service_names: Iterable[str]) -> None:
        self._pool = _pool()
        self._servicer: Any = reflection.ReflectionServicer(service_names, self._pool)

    def methods(self) -> Sequence[Method]:
        """The methods, for either version."""
        return (
            TwoStreams(
                "ServerReflectionInfo", reflection_pb2.ServerReflectionRequest.FromString, self.info, endless=True
            ),
        )

    async def info(
        self, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest]
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answers questions about services and types, one by one."""
        async for request in requests:
            for response in self._servicer.ServerReflectionInfo(iter((self._findable(request),)), None):
                response.original_request.CopyFrom(request)
                yield response

    def _findable(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionRequest:
        """Ask for the service instead of one of its methods: protobuf's pool does not find those."""
        service, _, method = request.file_containing_symbol.rpartition(".")
        try:
            known = method in self._pool.FindServiceByName(service).methods_by_name
        except KeyError:
            known = False
        return reflection_pb2.ServerReflectionRequest(file_containing_symbol=service) if known else request
