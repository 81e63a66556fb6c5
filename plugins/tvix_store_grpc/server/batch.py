"""BatchService, served: what the three services do, many objects in a call. See ``batch.proto`` for its rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.frontend import Services
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2 as batch
from tvix_store.resource import map_bounded
from tvix_store.wire import decode_directory, decode_path_info, encode_path_info
from tvix_store_grpc.messages import TOO_LARGE, Slot, blob_chunk, cut, repeated, slots
from tvix_store_grpc.server.blob import digest_from
from tvix_store_grpc.server.calls import ClientStream, Method, Refusal, ServerStream, TwoStreams, Unary
from tvix_store_grpc.server.path_info import output_hash_from
from tvix_store_grpc.streams import closing

__all__ = ["SERVICE_NAME", "VERSION", "BatchHandlers"]

SERVICE_NAME = "tvix_store.batch.v1.BatchService"
VERSION = 1

_FIRST_WINDOW = 64
_MAX_WINDOW = 256
"""How many blobs are fetched before the first of them is sent. A client that asks for more bytes than a batch may
have so costs us at most 256 blobs of the largest size, and one that keeps to the bounds five lookups."""

_FIRST_MESSAGES = 8
_MAX_MESSAGES = 32
"""The same for directories and path infos: each may have a whole message of entries, and those take many times its
bytes in memory, and up to a second to decode."""

T = TypeVar("T")
K = TypeVar("K")


def _capabilities(of: Capabilities) -> batch.ServiceCapabilities:
    return batch.ServiceCapabilities(list=of.list, delete=of.delete, chunks=of.chunks, durability=of.durability.value)


def _check_count(items: Sequence[T]) -> Sequence[T]:
    if len(items) > BATCH_COUNT:
        raise LimitExceeded(f"{len(items)} objects in one call, at most {BATCH_COUNT}")
    return items


def _digests(raw: Sequence[bytes]) -> Sequence[B3Digest]:
    return [digest_from(digest) for digest in _check_count(raw)]


async def _batch_of(messages: AsyncIterator[Iterable[bytes]]) -> Sequence[bytes]:
    """All items of a client stream, which together are one batch.

    Raises:
        LimitExceeded: They are more than one batch may be.
    """
    items: list[bytes] = []
    n_bytes = 0
    async for message in messages:
        more = list(message)
        n_bytes += sum(map(len, more))
        items += more
        _check_count(items)
        if n_bytes > BATCH_BYTES:
            raise LimitExceeded(f"over {BATCH_BYTES} bytes of objects in one call")
    return items


def _hash(contents: Sequence[bytes]) -> Sequence[HashedBlob]:
    return [HashedBlob(data) for data in contents]


def _decode_all(decode: Callable[[bytes], T], encoded: Sequence[bytes]) -> Sequence[T]:
    return [decode(item) for item in encoded]


async def _in_messages(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Items of a stream in messages of a good size. Back-pressure reaches ``items``."""
    pending: list[bytes] = []
    n_bytes = 0
    async for item in items:
        pending.append(item)
        n_bytes += len(item)
        if n_bytes >= PIECE_BYTES or len(pending) >= BATCH_COUNT:
            yield repeated(pending)
            pending, n_bytes = [], 0
    if pending:
        yield repeated(pending)


def _in_slots(answers: Sequence[Slot]) -> Iterable[bytes]:
    for message in cut(answers, map(_length, answers)):
        yield slots(message)


async def _in_windows(
    keys: Sequence[K], fetch: Callable[[Sequence[K]], Awaitable[Sequence[Slot]]], *, first: int, most: int
) -> AsyncIterator[bytes]:
    """Messages of slots for ``keys``, fetched as many at once as are likely to be no more than a batch."""
    start, window = 0, first
    while start < len(keys):
        answers = await fetch(keys[start : start + window])
        for message in _in_slots(answers):
            yield message
        start += len(answers)
        average = sum(map(_length, answers)) // len(answers)
        window = max(1, min(most, BATCH_BYTES // max(average, 1)))


def _length(answer: Slot) -> int:
    return len(answer) if isinstance(answer, bytes) else 0


class BatchHandlers:
    """The methods of BatchService.

    Args:
        services: What they serve.
        writable: Whether puts are taken.
    """

    def __init__(self, services: Services, *, writable: bool) -> None:
        self._blobs = services.blobs
        self._directories = services.directories
        self._path_infos = services.path_infos
        self._writable = writable

    def methods(self) -> Sequence[Method]:
        """The methods."""
        digests = batch.Digests.FromString
        encoded = _repeated_field(batch.EncodedDirectories, "encoded")
        return (
            Unary("Describe", batch.DescribeRequest.FromString, self.describe),
            Unary("HasBlobs", digests, self.has_blobs),
            ServerStream("GetBlobs", batch.GetBlobsRequest.FromString, self.get_blobs),
            ClientStream(
                "PutBlobs",
                _repeated_field(batch.BlobContents, "contents"),
                self.put_blobs,
                writes=True,
                contents=True,
            ),
            ServerStream("ReadBlob", batch.ReadBlobRequest.FromString, self.read_blob),
            ServerStream("ListBlobs", batch.ListRequest.FromString, self.list_blobs),
            ServerStream("GetDirectories", digests, self.get_directories),
            ServerStream("GetClosure", batch.GetClosureRequest.FromString, self.get_closure),
            ClientStream("PutDirectories", encoded, self.put_directories, writes=True),
            ClientStream("PutClosure", encoded, self.put_closure, writes=True),
            ServerStream("ListDirectories", batch.ListRequest.FromString, self.list_directories),
            ServerStream("GetPathInfos", batch.PathInfoKeys.FromString, self.get_path_infos),
            TwoStreams(
                "PutPathInfos", _repeated_field(batch.EncodedPathInfos, "encoded"), self.put_path_infos, writes=True
            ),
        )

    async def describe(self, request: batch.DescribeRequest) -> batch.DescribeResponse:
        """What this server does, and how much of it at once."""
        return batch.DescribeResponse(
            version=VERSION,
            max_batch_bytes=BATCH_BYTES,
            max_batch_count=BATCH_COUNT,
            max_blob_bytes=SMALL_BLOB_BYTES,
            blobs=_capabilities(self._blobs.capabilities),
            directories=_capabilities(self._directories.capabilities),
            path_infos=_capabilities(self._path_infos.capabilities),
            writable=self._writable,
        )

    # Blobs

    async def has_blobs(self, request: batch.Digests) -> batch.Presence:
        """One byte for each digest."""
        return batch.Presence(present=bytes(await self._blobs.has_many(_digests(request.digests))))

    async def get_blobs(self, request: batch.GetBlobsRequest) -> AsyncIterator[bytes]:
        """Whole blobs, a window at a time, so that what is held does not depend on what was asked for."""
        digests = _digests(request.digests)
        limit = min(request.max_blob_bytes or SMALL_BLOB_BYTES, SMALL_BLOB_BYTES)
        fetch = partial(self._blob_slots, limit=limit)
        async for message in _in_windows(digests, fetch, first=_FIRST_WINDOW, most=_MAX_WINDOW):
            yield message

    async def _blob_slots(self, digests: Sequence[B3Digest], limit: int) -> Sequence[Slot]:
        try:
            return await self._blobs.get_many(digests, max_blob_bytes=limit)
        except LimitExceeded:  # one of them: find out which

            async def slot(digest: B3Digest) -> Slot:
                try:
                    return (await self._blobs.get_many([digest], max_blob_bytes=limit))[0]
                except LimitExceeded:
                    return TOO_LARGE

            return await map_bounded(slot, digests)

    async def put_blobs(self, messages: AsyncIterator[Iterable[bytes]]) -> bytes:
        """Store whole blobs, all at once."""
        contents = await _batch_of(messages)
        for data in contents:
            if len(data) > SMALL_BLOB_BYTES:
                raise LimitExceeded(f"a blob of {len(data)} bytes in a batch, at most {SMALL_BLOB_BYTES}")
        blobs = await asyncio.to_thread(_hash, contents)  # all at the end: beside the receiving it takes longer
        await self._blobs.put_many(blobs)
        return repeated([blob.digest.raw for blob in blobs])

    async def read_blob(self, request: batch.ReadBlobRequest) -> AsyncIterator[bytes]:
        """A range of a blob; only from the start to the end is the whole checked against its digest."""
        digest = digest_from(request.digest)
        reader = await self._blobs.open_read(digest)
        if reader is None:
            raise Refusal("NOT_FOUND", f"blob {digest} not found")
        async with reader:
            if request.offset:
                await reader.seek(request.offset)
            left = request.length if request.HasField("length") else None
            while left is None or left > 0:
                piece = await reader.read(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
                if not piece:
                    break
                if left is not None:
                    left -= len(piece)
                yield blob_chunk(piece)

    async def list_blobs(self, request: batch.ListRequest) -> AsyncIterator[bytes]:
        """The digests of all blobs."""
        async for message in self._listed(self._blobs.list()):
            yield message

    async def _listed(self, digests: AsyncIterator[B3Digest]) -> AsyncIterator[bytes]:
        async with closing(digests):
            async for message in _in_messages(digest.raw async for digest in digests):
                yield message

    # Directories

    async def get_directories(self, request: batch.Digests) -> AsyncIterator[bytes]:
        """Single directories."""
        digests = _digests(request.digests)
        async for message in _in_windows(digests, self._directory_slots, first=_FIRST_MESSAGES, most=_MAX_MESSAGES):
            yield message

    async def _directory_slots(self, digests: Sequence[B3Digest]) -> Sequence[Slot]:
        found = await self._directories.get_many(digests)
        return [None if directory is None else directory.encode() for directory in found]

    async def get_closure(self, request: batch.GetClosureRequest) -> AsyncIterator[bytes]:
        """A directory and all below it, the root first."""
        async with closing(self._directories.get_recursive(digest_from(request.digest))) as tree:
            async for message in _in_messages(directory.encode() async for directory in tree):
                yield message

    async def put_directories(self, messages: AsyncIterator[Iterable[bytes]]) -> bytes:
        """Store single directories."""
        directories = await asyncio.to_thread(_decode_all, decode_directory, await _batch_of(messages))
        await self._directories.put_many(directories)
        return repeated([directory.digest.raw for directory in directories])

    async def put_closure(self, messages: AsyncIterator[Iterable[bytes]]) -> bytes:
        """Store a closure, once all of it is there and valid."""
        async with await self._directories.put_multiple_start() as putter:
            last: Directory | None = None
            async for message in messages:
                directories = await asyncio.to_thread(_decode_all, decode_directory, list(message))
                if directories:
                    last = directories[-1]
                    await putter.put_many(directories)
            if last is None:
                raise InvalidObject("got no directories")
            return repeated([(await putter.close()).raw])

    async def list_directories(self, request: batch.ListRequest) -> AsyncIterator[bytes]:
        """The digests of all directories."""
        async for message in self._listed(self._directories.list()):
            yield message

    # Path infos

    async def get_path_infos(self, request: batch.PathInfoKeys) -> AsyncIterator[bytes]:
        """Path infos by the digests of their store paths."""
        keys = [output_hash_from(key) for key in _check_count(request.output_hashes)]
        async for message in _in_windows(keys, self._path_info_slots, first=_FIRST_MESSAGES, most=_MAX_MESSAGES):
            yield message

    async def _path_info_slots(self, keys: Sequence[bytes]) -> Sequence[Slot]:
        found = await self._path_infos.get_many(keys)
        return [None if path_info is None else encode_path_info(path_info) for path_info in found]

    async def put_path_infos(self, messages: AsyncIterator[Iterable[bytes]]) -> AsyncIterator[bytes]:
        """Store path infos; answers them as stored."""
        path_infos: Sequence[PathInfo] = _decode_all(decode_path_info, await _batch_of(messages))
        stored = [encode_path_info(path_info) for path_info in await self._path_infos.put_many(path_infos)]
        for message in cut(stored, map(len, stored)):
            yield repeated(message)


def _repeated_field(message: type, field: str) -> Callable[[bytes], Iterable[bytes]]:
    """Decodes a message that is one repeated field of bytes to its items."""

    def decode(encoded: bytes) -> Iterable[bytes]:
        items: Iterable[bytes] = getattr(message.FromString(encoded), field)  # type: ignore[attr-defined]
        return items

    return decode
