"""BlobService, served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.blob import BlobService
from tvix_store.digest import DIGEST_BYTES, B3Digest
from tvix_store.errors import InvalidObject
from tvix_store.limits import PIECE_BYTES
from tvix_store.proto.tvix.castore.protos.rpc_blobstore_pb2 import (
    PutBlobResponse,
    ReadBlobRequest,
    StatBlobRequest,
    StatBlobResponse,
)
from tvix_store_grpc.messages import blob_chunk, blob_chunk_data
from tvix_store_grpc.server.calls import ClientStream, Method, Refusal, ServerStream, Unary

__all__ = ["BlobHandlers", "digest_from"]


def digest_from(raw: bytes) -> B3Digest:
    """The digest in a request.

    Raises:
        InvalidObject: It is not 32 bytes long, or not there.
    """
    if len(raw) != DIGEST_BYTES:
        raise InvalidObject(f"invalid digest length: {len(raw)} bytes instead of {DIGEST_BYTES}")
    return B3Digest(raw)


class BlobHandlers:
    """The methods of BlobService.

    Args:
        blobs: What they serve.
    """

    def __init__(self, blobs: BlobService) -> None:
        self._blobs = blobs

    def methods(self) -> Sequence[Method]:
        """The methods, for either protocol."""
        return (
            Unary("Stat", StatBlobRequest.FromString, self.stat),
            ServerStream("Read", ReadBlobRequest.FromString, self.read),
            ClientStream("Put", blob_chunk_data, self.put, writes=True, contents=True),
        )

    async def stat(self, request: StatBlobRequest) -> StatBlobResponse:
        """Whether the blob or chunk is there, and of which chunks it is made if the client wants to know."""
        digest = digest_from(request.digest)
        if not request.send_chunks:
            if not await self._blobs.has(digest):
                raise Refusal("NOT_FOUND", f"blob {digest} not found")
            return StatBlobResponse()
        chunks = await self._blobs.chunks(digest)
        if chunks is None:
            raise Refusal("NOT_FOUND", f"blob {digest} not found")
        if len(chunks) == 1:
            return StatBlobResponse()
        metas = [StatBlobResponse.ChunkMeta(digest=chunk.digest.raw, size=chunk.size) for chunk in chunks]
        return StatBlobResponse(chunks=metas)

    async def read(self, request: ReadBlobRequest) -> AsyncIterator[bytes]:
        """The contents, piece by piece."""
        digest = digest_from(request.digest)
        reader = await self._blobs.open_read(digest)
        if reader is None:
            raise Refusal("NOT_FOUND", f"blob {digest} not found")
        async with reader:
            while piece := await reader.read(PIECE_BYTES):
                yield blob_chunk(piece)

    async def put(self, pieces: AsyncIterator[bytes]) -> PutBlobResponse:
        """Store what the client sends, once it has sent all of it."""
        async with await self._blobs.open_write() as writer:
            async for piece in pieces:
                if piece:
                    await writer.write(piece)
            return PutBlobResponse(digest=(await writer.close()).raw)
