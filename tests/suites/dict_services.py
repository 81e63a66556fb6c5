"""Services over dicts that can do everything a service can: list, delete, chunk, outlive their closing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from tvix_store.blob import BlobReader, BlobWriter, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.chunked import ChunkedReader
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, DanglingReference
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo
from tvix_store.statistics import ServiceStats
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService, MinimalPathInfoService

CHUNK_BYTES = 300_000


@dataclass
class BlobStorage:
    """What is left when a service over it is closed."""

    blobs: dict[B3Digest, list[ChunkMeta]] = field(default_factory=dict)
    chunks: dict[B3Digest, bytes] = field(default_factory=dict)

    def in_use(self) -> set[B3Digest]:
        return {chunk.digest for chunks in self.blobs.values() for chunk in chunks}

    def sweep(self) -> None:
        used = self.in_use()
        for digest in [digest for digest in self.chunks if digest not in used]:
            del self.chunks[digest]


class DictBlobService(MinimalBlobService):
    def __init__(self, storage: BlobStorage | None = None) -> None:
        super().__init__()
        self.storage = storage or BlobStorage()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True, chunks=True, compact=True)

    def chunk_list(self, digest: B3Digest) -> list[ChunkMeta] | None:
        if digest not in self.storage.blobs and digest in self.storage.chunks:
            return [ChunkMeta(digest, len(self.storage.chunks[digest]))]
        return self.storage.blobs.get(digest)

    async def has(self, digest: B3Digest) -> bool:
        return self.chunk_list(digest) is not None

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        chunks = self.chunk_list(digest)
        return chunks if chunks is None or len(chunks) > 1 else []

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        chunks = self.chunk_list(digest)
        return None if chunks is None else ChunkedReader(f"blob {digest}", chunks, self.fetch)

    async def fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]:
        try:
            return [self.storage.chunks[chunk.digest] for chunk in chunks]
        except KeyError as exc:
            raise DanglingReference(f"chunk {exc.args[0]} does not exist") from None

    def store(self, data: bytes) -> B3Digest:
        pieces = [HashedBlob(data[start : start + CHUNK_BYTES]) for start in range(0, len(data), CHUNK_BYTES)]
        for piece in pieces:
            self.storage.chunks.setdefault(piece.digest, piece.data)
        digest = B3Digest.of(data)
        self.storage.blobs.setdefault(digest, [ChunkMeta(piece.digest, len(piece)) for piece in pieces])
        return digest

    async def open_write(self) -> BlobWriter:
        return DictWriter(self)

    async def list(self) -> AsyncIterator[B3Digest]:
        for digest in list(self.storage.blobs):
            yield digest

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        for digest in digests:
            self.storage.blobs.pop(digest, None)
        self.storage.sweep()

    async def stats(self) -> ServiceStats:
        logical = sum(chunk.size for chunks in self.storage.blobs.values() for chunk in chunks)
        return ServiceStats(len(self.storage.blobs), logical, sum(map(len, self.storage.chunks.values())))

    async def compact(self) -> int:
        return 0

    async def discard_corrupt(self, digest: B3Digest) -> None:
        wrong = [chunk.digest for chunk in self.chunk_list(digest) or [] if not self._is_sound(chunk.digest)]
        if wrong:
            self.storage.blobs.pop(digest, None)
            for chunk in wrong:
                self.storage.chunks.pop(chunk, None)
            self.storage.sweep()

    def _is_sound(self, digest: B3Digest) -> bool:
        return digest in self.storage.chunks and B3Digest.of(self.storage.chunks[digest]) == digest


class DictWriter(BlobWriter):
    def __init__(self, service: DictBlobService) -> None:
        self._service = service
        self.pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.pieces.append(data)

    async def close(self) -> B3Digest:
        return self._service.store(b"".join(self.pieces))


class DictDirectoryService(MinimalDirectoryService):
    def __init__(self, directories: dict[B3Digest, Directory] | None = None) -> None:
        super().__init__()
        if directories is not None:
            self.directories = directories

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    async def put(self, directory: Directory) -> None:
        self.directories.setdefault(directory.digest, directory)

    async def list(self) -> AsyncIterator[B3Digest]:
        for digest in list(self.directories):
            yield digest

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        for digest in digests:
            self.directories.pop(digest, None)

    async def stats(self) -> ServiceStats:
        return ServiceStats(len(self.directories))

    async def discard_corrupt(self, digest: B3Digest) -> None:
        if digest in self.directories and self.directories[digest].digest != digest:
            del self.directories[digest]


class DictPathInfoService(MinimalPathInfoService):
    def __init__(self, path_infos: dict[bytes, PathInfo] | None = None) -> None:
        super().__init__()
        if path_infos is not None:
            self.path_infos = path_infos

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True)

    async def list(self) -> AsyncIterator[PathInfo]:
        for digest, path_info in list(self.path_infos.items()):
            if path_info.store_path.digest != digest:
                raise CorruptObject(f"path info {digest.hex()} is about another path", expected=digest.hex())
            yield path_info

    async def discard_corrupt(self, digest: bytes) -> None:
        if digest in self.path_infos and self.path_infos[digest].store_path.digest != digest:
            del self.path_infos[digest]

    async def delete(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            self.path_infos.pop(digest, None)

    async def stats(self) -> ServiceStats:
        return ServiceStats(len(self.path_infos))
