"""Rendering a NAR from packed zstd frames, the cost of the blob service being known: what is left is the pipeline's.

The tree is imported into one file of frames: 512 KiB of small blobs each in the order of the import, or one chunk of a
large blob. The floor decodes all frames once and hashes all contents (large blobs twice, as chunks and as a whole)
in two threads, in portions that cost Python nothing. A service that verifies, as `fs` does, hashes each piece where it
reads it; otherwise core hashes what it is given, and large blobs as a whole.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from _harness import arguments, compare, scratch
from blake3 import blake3
from zstandard import ZstdCompressor, ZstdDecompressor

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.chunked import ChunkedReader
from tvix_store.chunking import AVERAGE_CHUNK_BYTES, Chunker, cut
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference
from tvix_store.ingest import ingest_path
from tvix_store.limits import KIB, MIB, SMALL_BLOB_BYTES
from tvix_store.nar_render import RenderingNarCalculation, load_tree, render_nar
from tvix_store.nodes import Directory, Node
from tvix_store.wire import decode_directory

_FRAME_BYTES = 512 * KIB
_WALK_STEP = 1024


@dataclass(slots=True)
class Pack:
    """A file of frames, and in memory where everything is in it."""

    path: Path
    frames: list[tuple[int, int]] = field(default_factory=list)  # where they are and how long, compressed
    small: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)  # frame, offset in it, length
    large: dict[bytes, list[ChunkMeta]] = field(default_factory=dict)
    directories: dict[bytes, bytes] = field(default_factory=dict)
    size: int = 0

    def read(self, fd: int, frame: int) -> bytes:
        """One frame, decoded."""
        offset, length = self.frames[frame]
        return _decompressor().decompress(os.pread(fd, length, offset))


_local = threading.local()


def _decompressor() -> ZstdDecompressor:
    found: ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = ZstdDecompressor()
    return found


class PackWriter(BlobService):
    """Fills a pack; nothing can be read from it meanwhile."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self._file = open(pack.path, "wb")  # noqa: SIM115 - closed by aclose
        self._compressor = ZstdCompressor(level=3)
        self._lock = threading.Lock()  # the import stores several batches at once
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    def frame(self, data: bytes | memoryview) -> int:
        """Write a frame; its number."""
        compressed = self._compressor.compress(data)
        self.pack.frames.append((self.pack.size, len(compressed)))
        self.pack.size += len(compressed)
        self._file.write(compressed)
        return len(self.pack.frames) - 1

    def flush(self) -> None:
        """Write the small blobs that were gathered."""
        if self._gathered:
            self.frame(b"".join(self._gathered))
            self._gathered, self._gathered_bytes = [], 0

    def _chunk(self, data: bytes | memoryview) -> ChunkMeta:
        meta = ChunkMeta(B3Digest.of(data), len(data))
        if meta.digest.raw not in self.pack.small:
            self.flush()
            self.pack.small[meta.digest.raw] = self.frame(data), 0, meta.size
        return meta

    async def has(self, digest: B3Digest) -> bool:
        return digest.raw in self.pack.small or digest.raw in self.pack.large

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await asyncio.to_thread(self._put_many, blobs)

    def _put_many(self, blobs: Sequence[HashedBlob]) -> None:
        for blob in blobs:
            if len(blob) > AVERAGE_CHUNK_BYTES:
                self.pack.large[blob.digest.raw] = self.chunks_of(cut(blob.data))
            else:
                with self._lock:
                    self._put_small(blob)

    def _put_small(self, blob: HashedBlob) -> None:
        if self._gathered_bytes + len(blob) > _FRAME_BYTES:
            self.flush()
        self.pack.small[blob.digest.raw] = len(self.pack.frames), self._gathered_bytes, len(blob)
        self._gathered.append(blob.data)
        self._gathered_bytes += len(blob)

    def chunks_of(self, pieces: Sequence[bytes | memoryview]) -> list[ChunkMeta]:
        """Store these chunks."""
        with self._lock:
            return [self._chunk(piece) for piece in pieces]

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        raise NotImplementedError

    async def open_write(self) -> BlobWriter:
        return _Writer(self)

    async def aclose(self) -> None:
        self.flush()
        self._file.close()


class _Writer(BlobWriter):
    def __init__(self, service: PackWriter) -> None:
        self._service = service
        self._chunker = Chunker()
        self._hasher = blake3()
        self._chunks: list[ChunkMeta] = []

    async def write(self, data: bytes) -> None:
        self._hasher.update(data)
        self._chunks += self._service.chunks_of(self._chunker.feed(data))

    async def close(self) -> B3Digest:
        self._chunks += self._service.chunks_of(self._chunker.finish())
        digest = self._hasher.digest()
        self._service.pack.large[digest] = self._chunks
        return B3Digest(digest)


class PackedBlobs(BlobService):
    """Reads from a pack: one hop to a thread for a whole batch, in which it is hashed, too, if this verifies."""

    def __init__(self, pack: Pack, fd: int, verifies: bool) -> None:
        self._pack = pack
        self._fd = fd
        self._verifies = verifies

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(chunks=True, verifies=self._verifies)

    async def has(self, digest: B3Digest) -> bool:
        return digest.raw in self._pack.small or digest.raw in self._pack.large

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        return await asyncio.to_thread(self._get_many, digests)

    def _get_many(self, digests: Sequence[B3Digest]) -> Sequence[bytes | None]:
        small, large = self._pack.small, self._pack.large
        found: list[bytes | None] = [None] * len(digests)
        wanted: dict[int, list[tuple[int, int, int]]] = {}  # by frame, so that each is decoded once
        for index, digest in enumerate(digests):
            if (place := small.get(digest.raw)) is not None:
                frame, offset, length = place
                if (slices := wanted.get(frame)) is None:
                    slices = wanted[frame] = []
                slices.append((index, offset, offset + length))
            elif (chunks := large.get(digest.raw)) is not None:
                found[index] = b"".join(self._get_chunks(chunks))
        for frame, slices in wanted.items():
            data = self._pack.read(self._fd, frame)
            for index, start, end in slices:
                found[index] = piece = data[start:end]
                if self._verifies and blake3(piece).digest() != digests[index].raw:
                    raise CorruptObject(f"blob {digests[index]} is corrupt")
        return found

    def _get_chunks(self, chunks: Sequence[ChunkMeta]) -> list[bytes]:
        contents: list[bytes] = []
        for chunk in chunks:
            place = self._pack.small.get(chunk.digest.raw)
            if place is None:
                raise DanglingReference(f"chunk {chunk.digest} does not exist")
            contents.append(self._pack.read(self._fd, place[0]))
        return contents

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        return self._pack.large.get(digest.raw, [])

    async def _fetch(self, chunks: Sequence[ChunkMeta]) -> Sequence[bytes]:
        return await asyncio.to_thread(self._get_chunks, chunks)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        chunks = self._pack.large.get(digest.raw)
        if chunks is None:
            chunks = [ChunkMeta(digest, self._pack.small[digest.raw][2])]
        return ChunkedReader(f"blob {digest}", chunks, self._fetch)

    async def open_write(self) -> BlobWriter:
        raise NotImplementedError


class PackedDirectories(DirectoryService):
    """Directories as their encodings, decoded in a thread."""

    def __init__(self, directories: dict[bytes, bytes]) -> None:
        self._directories = directories

    async def get(self, digest: B3Digest) -> Directory | None:
        encoded = self._directories.get(digest.raw)
        return None if encoded is None else decode_directory(encoded)

    async def put(self, directory: Directory) -> None:
        self._directories[directory.digest.raw] = directory.encode()

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        waiting = [root]
        seen = {root}
        while waiting:
            batch, waiting = waiting[:_WALK_STEP], waiting[_WALK_STEP:]
            for directory in await asyncio.to_thread(self._decode, batch):
                yield directory
                for _, child in directory.directories():
                    if child.digest not in seen:
                        seen.add(child.digest)
                        waiting.append(child.digest)

    def _decode(self, digests: Sequence[B3Digest]) -> list[Directory]:
        encodings = [self._directories[digest.raw] for digest in digests]
        directories = [Directory.decode_canonical(encoded) or decode_directory(encoded) for encoded in encodings]
        for directory in directories:
            directory.digest  # noqa: B018 - hashed here, off the event loop
        return directories


async def fill(pack: Pack, tree: str) -> Node:
    """Import the tree."""
    async with PackWriter(pack) as blobs:
        return (await ingest_path(tree, blobs, PackedDirectories(pack.directories))).node


def nix_dump(tree: str) -> float:
    """``nix-store --dump`` of the tree on disk."""
    start = time.perf_counter()
    subprocess.run(["nix-store", "--dump", tree], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def bare(pack: Pack, fd: int) -> float:
    """Decode and hash all there is, in two threads."""

    def work(frames: range) -> None:
        for frame in frames:
            blake3(pack.read(fd, frame)).digest()

    def whole(n_bytes: int) -> None:
        piece = bytes(MIB)
        hasher = blake3()
        for _ in range(n_bytes // MIB):
            hasher.update(piece)

    n_whole = sum(chunk.size for chunks in pack.large.values() for chunk in chunks)
    middle = len(pack.frames) // 64
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as executor:
        wholes = [executor.submit(whole, n_whole // 64) for _ in range(64)]
        for index in range(65):
            frames = range(index * middle, min((index + 1) * middle, len(pack.frames)))
            wholes.append(executor.submit(work, frames))
        for future in wholes:
            future.result()
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Rendering:
    """What the contestants render."""

    pack: Pack
    fd: int
    node: Node
    checked_by: str = "service"

    def blobs(self) -> BlobService:
        inner = PackedBlobs(self.pack, self.fd, self.checked_by == "service")
        return inner if self.checked_by == "nobody" else CheckedBlobService("pack", inner)

    def directories(self) -> DirectoryService:
        return CheckedDirectoryService("pack", PackedDirectories(self.pack.directories))

    def load(self) -> float:
        """Decode the directories, and find the size."""

        async def run() -> None:
            (await load_tree(self.node, self.directories())).nar_size()

        start = time.perf_counter()
        asyncio.run(run())
        return time.perf_counter() - start

    def render(self) -> float:
        """Write to ``/dev/null``."""

        async def run() -> None:
            tree = await load_tree(self.node, self.directories())
            async with aclosing(render_nar(tree, self.blobs())) as pieces:
                async for piece in pieces:
                    sink.write(piece)

        start = time.perf_counter()
        with open(os.devnull, "wb", buffering=0) as sink:
            asyncio.run(run())
        return time.perf_counter() - start

    def calculate(self) -> float:
        """Size and SHA-256."""
        start = time.perf_counter()
        asyncio.run(RenderingNarCalculation(self.blobs(), self.directories()).calculate_nar(self.node))
        return time.perf_counter() - start

    def check(self, tree: str) -> None:
        """See that it is right."""
        digest = asyncio.run(RenderingNarCalculation(self.blobs(), self.directories()).calculate_nar(self.node))
        sha256 = hashlib.sha256()
        with subprocess.Popen(["nix-store", "--dump", tree], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while piece := process.stdout.read(MIB):
                sha256.update(piece)
        if sha256.digest() != digest.sha256:
            raise SystemExit("what is rendered is not the NAR of the tree")


def main() -> None:
    """Compare them."""
    options = arguments(__doc__ or "")
    with scratch() as directory:
        pack = Pack(directory / "pack")
        node = asyncio.run(fill(pack, options.tree))
        with open(pack.path, "rb") as file:
            rendering = Rendering(pack, file.fileno(), node)
            rendering.check(options.tree)
            gc.freeze()  # the index in memory stands for one on disk, which no collection would walk
            n_bytes = sum(size for _, _, size in pack.small.values())
            print(f"{options.tree}: {n_bytes / MIB:.0f} MiB in {len(pack.frames)} frames, everything in the page cache")
            compare(
                {
                    "floor: nix-store --dump of the disk": lambda: nix_dump(options.tree),
                    "decode all frames, hash all, 2 threads": lambda: bare(pack, file.fileno()),
                    "load the directories, find the size": rendering.load,
                    "render, checked by the service": rendering.render,
                    "render, checked by core": Rendering(pack, file.fileno(), node, "core").render,
                    "render, unchecked": Rendering(pack, file.fileno(), node, "nobody").render,
                    "calculate size and SHA-256": rendering.calculate,
                },
                options.runs,
            )


if __name__ == "__main__":
    main()
