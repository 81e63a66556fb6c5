"""PathInfoService, served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.errors import InvalidObject
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.path_info import OUTPUT_HASH_BYTES, PathInfoService
from tvix_store.proto.tvix.castore.protos.castore_pb2 import Node
from tvix_store.proto.tvix.store.protos.pathinfo_pb2 import PathInfo as PathInfoMessage
from tvix_store.proto.tvix.store.protos.rpc_pathinfo_pb2 import (
    CalculateNARResponse,
    GetPathInfoRequest,
    ListPathInfoRequest,
)
from tvix_store.wire import encode_path_info, node_from_message, path_info_from_message
from tvix_store_grpc.server.calls import Method, Refusal, ServerStream, Unary
from tvix_store_grpc.streams import closing

__all__ = ["PathInfoHandlers", "output_hash_from"]


def output_hash_from(raw: bytes) -> bytes:
    """The digest of a store path in a request.

    Raises:
        InvalidObject: It is not 20 bytes long.
    """
    if len(raw) != OUTPUT_HASH_BYTES:
        raise InvalidObject(f"invalid output digest length: {len(raw)} bytes instead of {OUTPUT_HASH_BYTES}")
    return raw


class PathInfoHandlers:
    """The methods of PathInfoService.

    Args:
        path_infos: What they serve.
        nar_calculation: What answers CalculateNAR.
    """

    def __init__(self, path_infos: PathInfoService, nar_calculation: NarCalculationService) -> None:
        self._path_infos = path_infos
        self._nar_calculation = nar_calculation

    def methods(self) -> Sequence[Method]:
        """The methods, for either protocol."""
        return (
            Unary("Get", GetPathInfoRequest.FromString, self.get),
            Unary("Put", PathInfoMessage.FromString, self.put, writes=True),
            Unary("CalculateNAR", Node.FromString, self.calculate_nar),
            ServerStream("List", ListPathInfoRequest.FromString, self.list),
        )

    async def get(self, request: GetPathInfoRequest) -> bytes:
        """The path info of a store path."""
        if request.WhichOneof("by_what") is None:
            raise Refusal("UNIMPLEMENTED", "by_what needs to be specified")
        path_info = await self._path_infos.get(output_hash_from(request.by_output_hash))
        if path_info is None:
            raise Refusal("NOT_FOUND", "PathInfo not found")
        return encode_path_info(path_info)

    async def put(self, request: PathInfoMessage) -> bytes:
        """Store a path info; answers it as stored."""
        return encode_path_info(await self._path_infos.put(path_info_from_message(request)))

    async def calculate_nar(self, request: Node) -> CalculateNARResponse:
        """Size and SHA-256 of the NAR of a node."""
        try:
            name, node = node_from_message(request)
        except InvalidObject as exc:
            raise InvalidObject(f"invalid root node: {exc}") from exc
        if name:
            raise InvalidObject("invalid root node: it has a name, but none is allowed here")
        nar = await self._nar_calculation.calculate_nar(node)
        return CalculateNARResponse(nar_size=nar.size, nar_sha256=nar.sha256)

    async def list(self, request: ListPathInfoRequest) -> AsyncIterator[bytes]:
        """All path infos."""
        async with closing(self._path_infos.list()) as path_infos:
            async for path_info in path_infos:
                yield encode_path_info(path_info)
