"""A blob service that lives in another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta, read_at_most
from tvix_store.capabilities import Capabilities
from tvix_store.chunked import ChunkedReader
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, DanglingReference, LimitExceeded, Unsupported
from tvix_store.limits import MIB, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.proto.tvix.castore.protos.rpc_blobstore_pb2 import (
    PutBlobResponse,
    ReadBlobRequest,
    StatBlobRequest,
    StatBlobResponse,
)
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2 as batch
from tvix_store.resource import map_bounded
from tvix_store_grpc.channel import BLOBS, Absent, Extension, Peer, Speech
from tvix_store_grpc.messages import blob_chunk, blob_chunk_data, cut, repeated
from tvix_store_grpc.streams import closing
from tvix_store_grpc.upload import Upload

__all__ = ["GrpcBlobService"]

_BATCHES_AT_ONCE = 2
_SKIP_BYTES = 4 * PIECE_BYTES
"""Seeking forward over less than this reads on; what lies between is on its way already."""
_MAX_CHUNK_BYTES = 64 * MIB
"""Chunks are held whole; a list with larger ones is not used."""


class GrpcBlobService(BlobService):
    """Blobs of another store, over gRPC.

    Args:
        name: Of the entry.
        peer: The connection; whoever made it closes it.
    """

    def __init__(self, name: str, peer: Peer) -> None:
        self.name = name
        self._peer = peer

    @property
    def capabilities(self) -> Capabilities:
        """What the peer said; before it was asked, and if it has no batches, only that it may know chunks."""
        described = self._peer.described
        return Capabilities(chunks=True) if described is None else described.blobs

    async def has(self, digest: B3Digest) -> bool:
        speech = await self._peer.speech()
        try:
            await self._peer.unary(speech.path(BLOBS, "Stat"), StatBlobRequest(digest=digest.raw), f"blob {digest}")
        except Absent:
            return False
        return True

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        speech = await self._peer.speech()
        request = StatBlobRequest(digest=digest.raw, send_chunks=True)
        what = f"blob {digest}"
        try:
            raw = await self._peer.unary(speech.path(BLOBS, "Stat"), request, what)
        except Absent:
            return None
        answer = self._peer.decode(StatBlobResponse, raw, what)
        chunks = [ChunkMeta(self._peer.digest(chunk.digest, what), chunk.size) for chunk in answer.chunks]
        return chunks if len(chunks) > 1 else []

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        reader = _Reader(self, self._peer, digest)
        try:
            await reader.start()
        except Absent:
            return None
        except BaseException:
            await reader.aclose()
            raise
        return reader

    async def open_write(self) -> BlobWriter:
        return _Writer(self._peer, await self._peer.speech())

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        extension = (await self._peer.speech()).extension
        if extension is None:
            return await super().has_many(digests)
        present: list[bool] = []
        for start in range(0, len(digests), extension.max_count):
            asked = digests[start : start + extension.max_count]
            request = batch.Digests(digests=[digest.raw for digest in asked])
            what = f"{len(asked)} blobs"
            raw = await self._peer.unary(Speech.batch_path("HasBlobs"), request, what)
            answers = self._peer.decode(batch.Presence, raw, what).present
            if len(answers) != len(asked):
                raise CorruptObject(f"{self._peer.name}: {what}: {len(answers)} answers")
            present.extend(map(bool, answers))
        return present

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        extension = (await self._peer.speech()).extension
        if extension is None:
            return await super().get_many(digests, max_blob_bytes=max_blob_bytes)
        blobs: list[bytes | None] = []
        for start in range(0, len(digests), extension.max_count):
            blobs += await self._get_batch(digests[start : start + extension.max_count], extension, max_blob_bytes)
        return blobs

    async def _get_batch(
        self, digests: Sequence[B3Digest], extension: Extension, max_blob_bytes: int
    ) -> Sequence[bytes | None]:
        what = f"{len(digests)} blobs"
        limit = max(1, min(max_blob_bytes, extension.max_blob_bytes))  # 0 would mean the peer's own
        request = batch.GetBlobsRequest(digests=[digest.raw for digest in digests], max_blob_bytes=limit)
        blobs: list[bytes | None] = []
        too_large: list[int] = []
        async with closing(self._peer.download(Speech.batch_path("GetBlobs"), request, what)) as messages:
            async for raw in messages:
                slots = self._peer.decode(batch.BlobBatch, raw, what).slots
                if len(blobs) + len(slots) > len(digests):
                    raise CorruptObject(f"{self._peer.name}: {what}: more answers than that")
                for slot in slots:
                    if slot.too_large or len(slot.contents) > limit:
                        if limit >= max_blob_bytes:
                            raise self._too_long(digests[len(blobs)], max_blob_bytes)
                        too_large.append(len(blobs))
                    blobs.append(slot.contents if slot.HasField("contents") else None)
        if len(blobs) != len(digests):
            raise CorruptObject(f"{self._peer.name}: {what}: only {len(blobs)} answers")
        for index in too_large:
            blobs[index] = await self._get_large(digests[index], max_blob_bytes)
        return blobs

    def _too_long(self, digest: B3Digest, max_blob_bytes: int) -> LimitExceeded:
        return LimitExceeded(f"{self._peer.name}: blob {digest} is longer than the {max_blob_bytes} bytes asked for")

    async def _get_large(self, digest: B3Digest, max_blob_bytes: int) -> bytes | None:
        reader = await self.open_read(digest)
        if reader is None:
            return None
        async with reader:
            return await read_at_most(reader, max_blob_bytes, f"{self._peer.name}: blob {digest}")

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        extension = (await self._peer.speech()).extension
        if extension is None:
            await super().put_many(blobs)
            return
        small = [blob for blob in blobs if len(blob) <= extension.max_blob_bytes]
        batches = list(cut(small, map(len, small), extension.max_bytes, extension.max_count))
        await map_bounded(self._put_batch, batches, _BATCHES_AT_ONCE)
        if len(small) < len(blobs):
            await super().put_many([blob for blob in blobs if len(blob) > extension.max_blob_bytes])

    async def _put_batch(self, blobs: Sequence[HashedBlob]) -> None:
        what = f"{len(blobs)} blobs"
        async with Upload(self._peer, Speech.batch_path("PutBlobs"), what) as upload:
            for message in cut(blobs, map(len, blobs)):
                await upload.send(repeated([blob.data for blob in message]))
            raw = await upload.finish()
        if raw != repeated([blob.digest.raw for blob in blobs]):
            stored = self._peer.decode(batch.Digests, raw, what).digests
            raise CorruptObject(f"{self._peer.name}: {what}: it stored {len(stored)}, or others than were sent")

    async def list(self) -> AsyncIterator[B3Digest]:
        extension = (await self._peer.speech()).extension
        if extension is None or not extension.blobs.list:
            raise Unsupported(f"{self._peer.name} cannot list blobs")
        async with closing(
            self._peer.download(Speech.batch_path("ListBlobs"), batch.ListRequest(), "list")
        ) as messages:
            async for raw in messages:
                for digest in self._peer.decode(batch.Digests, raw, "list").digests:
                    yield self._peer.digest(digest, "list")


class _Reader(BlobReader):
    """Reads along one Read stream; a seek that is no short skip forward starts another where it is wanted.

    A peer without ranges is asked for the chunks then, and each of those is fetched as a blob.
    """

    def __init__(self, service: GrpcBlobService, peer: Peer, digest: B3Digest) -> None:
        self._service = service
        self._peer = peer
        self._digest = digest
        self._what = f"blob {digest}"
        self._messages: AsyncIterator[bytes] | None = None
        self._piece = b""
        self._piece_start = 0  # where in the blob the piece begins
        self._position = 0
        self._ended = False
        self._chunked: ChunkedReader | None = None

    async def start(self) -> None:
        """Open the stream and wait for its first piece, which tells whether the blob is there.

        Raises:
            Absent: It is not.
        """
        await self._open(await self._peer.speech(), 0)
        await self._advance()

    async def _open(self, speech: Speech, position: int) -> None:
        """Start a stream of pieces, at ``position`` where the peer can do that, else at the start of the blob."""
        await self._close_stream()
        self._ended = False
        self._piece = b""
        if speech.extension is not None and position:
            ranged = batch.ReadBlobRequest(digest=self._digest.raw, offset=position)
            self._messages = self._peer.download(Speech.batch_path("ReadBlob"), ranged, self._what)
            self._piece_start = position
        else:
            whole = ReadBlobRequest(digest=self._digest.raw)
            self._messages = self._peer.download(speech.path(BLOBS, "Read"), whole, self._what)
            self._piece_start = 0

    async def _advance(self) -> None:
        """Go on to the next piece that is not empty, or to the end."""
        assert self._messages is not None
        self._piece_start += len(self._piece)
        self._piece = b""
        async for raw in self._messages:
            self._piece = self._peer.parse(blob_chunk_data, raw, self._what)
            if self._piece:
                return
        self._ended = True

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        if self._chunked is not None:
            return await self._chunked.read(max_bytes)
        if not self._piece_start <= self._position <= self._piece_start + len(self._piece) + _SKIP_BYTES:
            await self._jump()
            if self._chunked is not None:
                return await self._chunked.read(max_bytes)
        while not self._ended and self._position >= self._piece_start + len(self._piece):
            await self._advance()
        start = self._position - self._piece_start
        piece = self._piece[start : start + max_bytes]
        self._position += len(piece)
        return piece

    async def _jump(self) -> None:
        if self._ended and self._position >= self._piece_start:
            return  # past the end
        speech = await self._peer.speech()
        if speech.extension is None and self._position > 0:
            chunks = [chunk for chunk in await self._service.chunks(self._digest) or () if chunk.size]
            if chunks and max(chunk.size for chunk in chunks) <= _MAX_CHUNK_BYTES:
                await self._close_stream()
                self._chunked = ChunkedReader(f"{self._peer.name}: {self._what}", chunks, self._fetch)
                await self._chunked.seek(self._position)
                return
            if self._position >= self._piece_start:
                return  # read on and skip
        await self._open(speech, self._position)

    async def _fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]:
        return await map_bounded(self._fetch_chunk, chunks)

    async def _fetch_chunk(self, chunk: ChunkMeta) -> bytes:
        data = await self._service._get_large(chunk.digest, chunk.size)
        if data is None:
            raise DanglingReference(f"{self._peer.name}: {self._what}: chunk {chunk.digest} does not exist")
        return data

    async def seek(self, position: int) -> None:
        self._position = position
        if self._chunked is not None:
            await self._chunked.seek(position)

    async def _close_stream(self) -> None:
        if self._messages is not None:
            async with closing(self._messages):
                self._messages = None

    async def aclose(self) -> None:
        await self._close_stream()
        self._piece = b""
        if self._chunked is not None:
            await self._chunked.aclose()


class _Writer(BlobWriter):
    """A Put stream; small writes are gathered to messages of a good size."""

    def __init__(self, peer: Peer, speech: Speech) -> None:
        self._peer = peer
        self._path = speech.path(BLOBS, "Put")
        self._upload: Upload | None = None
        self._pending: list[bytes] = []
        self._n_pending = 0
        self._digest: B3Digest | None = None

    def _started(self) -> Upload:
        if self._upload is None:
            self._upload = Upload(self._peer, self._path, "blob upload")
        return self._upload

    async def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._n_pending += len(data)
        if self._n_pending >= PIECE_BYTES:
            await self._flush(PIECE_BYTES)

    async def _flush(self, at_least: int) -> None:
        """Send what is pending; a rest shorter than ``at_least`` stays."""
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        upload = self._started()
        sent = 0
        self._pending.clear()
        with memoryview(data) as view:
            while len(data) - sent >= at_least:
                await upload.send(blob_chunk(view[sent : sent + PIECE_BYTES]))
                sent += min(PIECE_BYTES, len(data) - sent)
                if sent == len(data):
                    break
        if sent < len(data):
            self._pending.append(data[sent:])
        self._n_pending = len(data) - sent

    async def close(self) -> B3Digest:
        if self._digest is None:
            if self._n_pending:
                await self._flush(1)
            raw = await self._started().finish()
            answer = self._peer.decode(PutBlobResponse, raw, "blob upload")
            self._digest = self._peer.digest(answer.digest, "blob upload")
        return self._digest

    async def aclose(self) -> None:
        self._pending.clear()
        if self._upload is not None and self._digest is None:
            await self._upload.aclose()
