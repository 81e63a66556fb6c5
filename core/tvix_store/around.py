"""Doing something around each call to a service: what retries, limits, time-outs and observers have in common.

A subclass of `Around` says what; the three services here see to it that every call goes through it, those on readers,
writers and uploads included. They pass on what they get, as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import NoReturn, TypeVar

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import Unavailable
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService, ForwardingPathInfoService
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nodes import Directory
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress

__all__ = ["Access", "Around", "AroundBlobService", "AroundDirectoryService", "AroundPathInfoService", "Call"]

T = TypeVar("T")


class Access(Enum):
    """What a call does to what is stored."""

    READ = "read"
    WRITE = "write"
    UPKEEP = "upkeep"
    """Looking after all of it, or removing some: ``list``, ``stats``, ``verify``, ``compact``, ``delete``, ``sync``,
    ``discard_corrupt``."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Args:
        kind: Of the service.
        method: Its name; those of what was opened are ``reader.read``, ``nar.read``, ``writer.write``, ``putter.close``
            and the like.
        access: What it does.
        n_objects: How many objects it is about; for methods that go through everything, 0.
        is_repeatable: Whether to make it again after a failure is as good as to make it once.
    """

    kind: Kind
    method: str
    access: Access = Access.READ
    n_objects: int = 1
    is_repeatable: bool = True


class Around(ABC):
    """What is done around each call."""

    @abstractmethod
    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        """Make a call.

        Args:
            call: What it is.
            operation: Makes it; more than once only if it is repeatable.

        Returns:
            What the operation returned.
        """

    async def iterate(self, call: Call, items: Callable[[], AsyncIterator[T]]) -> AsyncGenerator[T]:
        """Make a call that answers bit by bit. Up to the first item it is made as every other (this default).

        Args:
            call: What it is.
            items: Makes it; more than once only as long as there was no item.
        """

        async def begin() -> tuple[AsyncIterator[T], list[T]]:
            iterator = items()
            async for item in iterator:
                return iterator, [item]
            return iterator, []

        iterator, first = await self.call(call, begin)
        try:
            for item in first:
                yield item
                async for following in iterator:
                    yield following
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()


_READ = Call(Kind.BLOB, "reader.read")
_SEEK = Call(Kind.BLOB, "reader.seek")
_NAR_READ = Call(Kind.PATH_INFO, "nar.read", is_repeatable=False)
_WRITE = Call(Kind.BLOB, "writer.write", Access.WRITE, is_repeatable=False)
_WRITER_CLOSE = Call(Kind.BLOB, "writer.close", Access.WRITE, is_repeatable=False)
_PUTTER_PUT_MANY = Call(Kind.DIRECTORY, "putter.put_many", Access.WRITE, is_repeatable=False)
_PUTTER_CLOSE = Call(Kind.DIRECTORY, "putter.close", Access.WRITE, is_repeatable=False)


class _Reader(BlobReader):
    """A reader; one that failed is opened again at the same place when its call is repeated."""

    def __init__(self, service: AroundBlobService, digest: B3Digest, inner: BlobReader) -> None:
        self._service = service
        self._digest = digest
        self._inner: BlobReader | None = inner
        self._position = 0
        self._was_sought = False

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        async def read() -> bytes:
            reader = await self._reader()
            try:
                return await reader.read(max_bytes)
            except BaseException:  # a read that was cancelled, too, may have moved on
                await self._drop()
                raise

        piece = await self._service.around.call(_READ, read)
        self._position += len(piece)
        return piece

    async def _reader(self) -> BlobReader:
        if self._inner is None:
            reader = await self._service.inner.open_read(self._digest)
            if reader is None:
                raise Unavailable(f"blob {self._digest} is gone since it was opened")
            self._inner = reader
            if self._was_sought:
                await reader.seek(self._position)
            else:  # read, so that the whole is still checked against the digest
                left = self._position
                while left and (piece := await reader.read(min(left, PIECE_BYTES))):
                    left -= len(piece)
        return self._inner

    async def _drop(self) -> None:
        if self._inner is not None:
            reader, self._inner = self._inner, None
            await reader.aclose()

    async def seek(self, position: int) -> None:
        async def seek() -> None:
            reader = await self._reader()
            try:
                await reader.seek(position)
            except BaseException:
                await self._drop()
                raise

        await self._service.around.call(_SEEK, seek)
        self._position = position
        self._was_sought = True

    async def aclose(self) -> None:
        await self._drop()


class _Writer(BlobWriter):
    def __init__(self, around: Around, inner: BlobWriter) -> None:
        self._around = around
        self._inner = inner

    async def write(self, data: bytes) -> None:
        await self._around.call(_WRITE, lambda: self._inner.write(data))

    async def close(self) -> B3Digest:
        return await self._around.call(_WRITER_CLOSE, self._inner.close)

    async def aclose(self) -> None:
        await self._inner.aclose()


class AroundBlobService(ForwardingBlobService):
    """A blob service with something done around each call.

    Args:
        inner: The service; not closed with this.
        around: What is done.
    """

    relays = True

    def __init__(self, inner: BlobService, around: Around) -> None:
        super().__init__(inner)
        self.around = around

    async def has(self, digest: B3Digest) -> bool:
        return await self.around.call(Call(Kind.BLOB, "has"), lambda: self.inner.has(digest))

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        reader = await self.around.call(Call(Kind.BLOB, "open_read"), lambda: self.inner.open_read(digest))
        return None if reader is None else _Reader(self, digest, reader)

    async def open_write(self) -> BlobWriter:
        writer = await self.around.call(Call(Kind.BLOB, "open_write", Access.WRITE), self.inner.open_write)
        return _Writer(self.around, writer)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        return await self.around.call(Call(Kind.BLOB, "chunks"), lambda: self.inner.chunks(digest))

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        call = Call(Kind.BLOB, "has_many", n_objects=len(digests))
        return await self.around.call(call, lambda: self.inner.has_many(digests))

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        call = Call(Kind.BLOB, "get_many", n_objects=len(digests))
        return await self.around.call(call, lambda: self.inner.get_many(digests, max_blob_bytes=max_blob_bytes))

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        call = Call(Kind.BLOB, "put_many", Access.WRITE, len(blobs))
        await self.around.call(call, lambda: self.inner.put_many(blobs))

    def list(self) -> AsyncIterator[B3Digest]:
        return self.around.iterate(Call(Kind.BLOB, "list", Access.UPKEEP, 0), self.inner.list)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        call = Call(Kind.BLOB, "delete", Access.UPKEEP, len(digests))
        await self.around.call(call, lambda: self.inner.delete(digests))

    async def discard_corrupt(self, digest: B3Digest) -> None:
        call = Call(Kind.BLOB, "discard_corrupt", Access.UPKEEP)
        await self.around.call(call, lambda: self.inner.discard_corrupt(digest))

    async def stats(self) -> ServiceStats:
        return await self.around.call(Call(Kind.BLOB, "stats", Access.UPKEEP, 0), self.inner.stats)

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        call = Call(Kind.BLOB, "verify", Access.UPKEEP, 0, is_repeatable=False)
        return self.around.iterate(call, lambda: self.inner.verify(progress))

    async def compact(self) -> int:
        return await self.around.call(Call(Kind.BLOB, "compact", Access.UPKEEP, 0), self.inner.compact)

    async def sync(self) -> None:
        await self.around.call(Call(Kind.BLOB, "sync", Access.UPKEEP, 0), self.inner.sync)


class _Putter(DirectoryPutter):
    def __init__(self, around: Around, inner: DirectoryPutter) -> None:
        self._around = around
        self._inner = inner

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self._around.call(_PUTTER_PUT_MANY, lambda: self._inner.put_many(directories))

    async def close(self) -> B3Digest:
        return await self._around.call(_PUTTER_CLOSE, self._inner.close)

    async def aclose(self) -> None:
        await self._inner.aclose()


class AroundDirectoryService(ForwardingDirectoryService):
    """A directory service with something done around each call.

    Args:
        inner: The service; not closed with this.
        around: What is done.
    """

    relays = True

    def __init__(self, inner: DirectoryService, around: Around) -> None:
        super().__init__(inner)
        self.around = around

    async def get(self, digest: B3Digest) -> Directory | None:
        return await self.around.call(Call(Kind.DIRECTORY, "get"), lambda: self.inner.get(digest))

    async def put(self, directory: Directory) -> None:
        call = Call(Kind.DIRECTORY, "put", Access.WRITE)
        await self.around.call(call, lambda: self.inner.put(directory))

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        call = Call(Kind.DIRECTORY, "get_many", n_objects=len(digests))
        return await self.around.call(call, lambda: self.inner.get_many(digests))

    async def put_many(self, directories: Sequence[Directory]) -> None:
        call = Call(Kind.DIRECTORY, "put_many", Access.WRITE, len(directories))
        await self.around.call(call, lambda: self.inner.put_many(directories))

    def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        return self.around.iterate(Call(Kind.DIRECTORY, "get_recursive"), lambda: self.inner.get_recursive(root))

    async def put_multiple_start(self) -> DirectoryPutter:
        call = Call(Kind.DIRECTORY, "put_multiple_start", Access.WRITE)
        return _Putter(self.around, await self.around.call(call, self.inner.put_multiple_start))

    def list(self) -> AsyncIterator[B3Digest]:
        return self.around.iterate(Call(Kind.DIRECTORY, "list", Access.UPKEEP, 0), self.inner.list)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        call = Call(Kind.DIRECTORY, "delete", Access.UPKEEP, len(digests))
        await self.around.call(call, lambda: self.inner.delete(digests))

    async def discard_corrupt(self, digest: B3Digest) -> None:
        call = Call(Kind.DIRECTORY, "discard_corrupt", Access.UPKEEP)
        await self.around.call(call, lambda: self.inner.discard_corrupt(digest))

    async def stats(self) -> ServiceStats:
        return await self.around.call(Call(Kind.DIRECTORY, "stats", Access.UPKEEP, 0), self.inner.stats)

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        call = Call(Kind.DIRECTORY, "verify", Access.UPKEEP, 0, is_repeatable=False)
        return self.around.iterate(call, lambda: self.inner.verify(progress))

    async def sync(self) -> None:
        await self.around.call(Call(Kind.DIRECTORY, "sync", Access.UPKEEP, 0), self.inner.sync)


class _NarPieces(AsyncGenerator[bytes, None]):
    """The pieces of a NAR, each taken by a call of its own.

    A class, because the end of a generator function that was never begun goes unnoticed.
    """

    def __init__(self, around: Around, inner: AsyncGenerator[bytes]) -> None:
        self._around = around
        self._inner = inner

    async def asend(self, value: None) -> bytes:
        async def read() -> bytes | None:
            return await anext(self._inner, None)

        piece = await self._around.call(_NAR_READ, read)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: object = None,
        tb: TracebackType | None = None,
    ) -> NoReturn:
        await self.aclose()
        raise typ

    async def aclose(self) -> None:
        await self._inner.aclose()


class AroundPathInfoService(ForwardingPathInfoService):
    """A path info service with something done around each call.

    Args:
        inner: The service; not closed with this.
        around: What is done.
    """

    relays = True

    def __init__(self, inner: PathInfoService, around: Around) -> None:
        super().__init__(inner)
        self.around = around

    async def get(self, digest: bytes) -> PathInfo | None:
        return await self.around.call(Call(Kind.PATH_INFO, "get"), lambda: self.inner.get(digest))

    async def put(self, path_info: PathInfo) -> PathInfo:
        call = Call(Kind.PATH_INFO, "put", Access.WRITE)
        return await self.around.call(call, lambda: self.inner.put(path_info))

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        return await self.around.call(Call(Kind.PATH_INFO, "get_metadata"), lambda: self.inner.get_metadata(digest))

    async def open_nar(self, digest: bytes) -> NarStream | None:
        stream = await self.around.call(Call(Kind.PATH_INFO, "open_nar"), lambda: self.inner.open_nar(digest))
        return None if stream is None else NarStream(stream.size, _NarPieces(self.around, stream.pieces))

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        call = Call(Kind.PATH_INFO, "get_many", n_objects=len(digests))
        return await self.around.call(call, lambda: self.inner.get_many(digests))

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        call = Call(Kind.PATH_INFO, "put_many", Access.WRITE, len(path_infos))
        return await self.around.call(call, lambda: self.inner.put_many(path_infos))

    def list(self) -> AsyncIterator[PathInfo]:
        return self.around.iterate(Call(Kind.PATH_INFO, "list", Access.UPKEEP, 0), self.inner.list)

    async def delete(self, digests: Sequence[bytes]) -> None:
        call = Call(Kind.PATH_INFO, "delete", Access.UPKEEP, len(digests))
        await self.around.call(call, lambda: self.inner.delete(digests))

    async def discard_corrupt(self, digest: bytes) -> None:
        call = Call(Kind.PATH_INFO, "discard_corrupt", Access.UPKEEP)
        await self.around.call(call, lambda: self.inner.discard_corrupt(digest))

    async def stats(self) -> ServiceStats:
        return await self.around.call(Call(Kind.PATH_INFO, "stats", Access.UPKEEP, 0), self.inner.stats)

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        call = Call(Kind.PATH_INFO, "verify", Access.UPKEEP, 0, is_repeatable=False)
        return self.around.iterate(call, lambda: self.inner.verify(progress))
