"""DirectoryService, served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from google.protobuf.message import DecodeError

from tvix_store.directory import DirectoryService
from tvix_store.errors import InvalidObject
from tvix_store.limits import KIB
from tvix_store.nodes import Directory
from tvix_store.proto.tvix.castore.protos.rpc_directory_pb2 import GetDirectoryRequest, PutDirectoryResponse
from tvix_store.wire import decode_directory
from tvix_store_grpc.server.blob import digest_from
from tvix_store_grpc.server.calls import ClientStream, Method, Refusal, ServerStream
from tvix_store_grpc.streams import closing

__all__ = ["DirectoryHandlers", "directory_from"]

_DECODE_IN_THREAD_BYTES = 64 * KIB


async def directory_from(encoded: bytes) -> Directory:
    """A directory that a client sent; large ones are decoded aside, for that takes tens of milliseconds.

    Raises:
        InvalidObject: It breaks a rule of the data model, or is no Directory.
    """
    if len(encoded) > _DECODE_IN_THREAD_BYTES:
        return await asyncio.to_thread(decode_directory, encoded)
    return decode_directory(encoded)


def _raw(encoded: bytes) -> bytes:
    """Requests of Put are decoded by `directory_from`."""
    return encoded


class DirectoryHandlers:
    """The methods of DirectoryService.

    Args:
        directories: What they serve.
    """

    def __init__(self, directories: DirectoryService) -> None:
        self._directories = directories

    def methods(self) -> Sequence[Method]:
        """The methods, for either protocol."""
        return (
            ServerStream("Get", GetDirectoryRequest.FromString, self.get),
            ClientStream("Put", _raw, self.put, writes=True),
        )

    async def get(self, request: GetDirectoryRequest) -> AsyncIterator[bytes]:
        """One directory, or it and all below it; nothing at all if the root of those is absent."""
        if request.WhichOneof("by_what") is None:
            raise InvalidObject("invalid by_what: a digest is needed")
        digest = digest_from(request.digest)
        if request.recursive:
            async with closing(self._directories.get_recursive(digest)) as tree:
                async for directory in tree:
                    yield directory.encode()
            return
        found = await self._directories.get(digest)
        if found is None:
            raise Refusal("NOT_FOUND", f"directory {digest} not found")
        yield found.encode()

    async def put(self, messages: AsyncIterator[bytes]) -> PutDirectoryResponse:
        """Store a closure, leaves first, once all of it is there and valid."""
        async with await self._directories.put_multiple_start() as putter:
            async for encoded in messages:
                try:
                    directory = await directory_from(encoded)
                except InvalidObject as exc:
                    if isinstance(exc.__cause__, DecodeError):
                        raise Refusal("INTERNAL", f"request message does not decode: {exc}") from exc
                    raise
                await putter.put_many([directory])
            return PutDirectoryResponse(root_digest=(await putter.close()).raw)
