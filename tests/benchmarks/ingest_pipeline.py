"""The pipeline of an import alone: with nothing to write, and with a blob service that only compresses.

Floors: reading and BLAKE3 of every file with two threads; the same, and zstd -3 of the distinct ones in 256 KiB frames.
``ingest_path`` also hashes the NAR with SHA-256, which is sequential: its time with one thread is there to compare.
Several trees are separated by colons: ``--tree /usr/share:/usr/lib``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import zstandard
from _harness import arguments, compare, regular_files
from blake3 import blake3

from tvix_store.blob import BlobReader, BlobService, BlobWriter
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import ClosurePutter, DirectoryPutter, DirectoryService
from tvix_store.ingest import ingest_path
from tvix_store.limits import KIB, MIB
from tvix_store.nodes import Directory

_THREADS = 2
_FLOOR_FRAME_BYTES = 256 * KIB
_FRAME_BYTES = 512 * KIB
_FSYNC_S = 0.005

# --- floors


def _pieces(path: str, buffer: bytearray) -> Iterator[memoryview]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while n_bytes := os.readv(descriptor, [buffer]):
            yield memoryview(buffer)[:n_bytes]
    finally:
        os.close(descriptor)


def _in_threads(paths: list[str], work: Callable[[Iterator[list[str]]], None]) -> float:
    """Seconds that two threads take for all paths, each taking 64 at a time."""
    pending = iter(paths)
    lock = threading.Lock()

    def portions() -> Iterator[list[str]]:
        while True:
            with lock:
                portion = list(islice(pending, 64))
            if not portion:
                return
            yield portion

    start = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as threads:
        for done in [threads.submit(work, portions()) for _ in range(_THREADS)]:
            done.result()
    return time.perf_counter() - start


def read_and_hash(paths: list[str]) -> float:
    """Read and BLAKE3."""

    def work(portions: Iterator[list[str]]) -> None:
        buffer = bytearray(MIB)
        for portion in portions:
            for path in portion:
                hasher = blake3()
                for piece in _pieces(path, buffer):
                    hasher.update(piece)
                hasher.digest()

    return _in_threads(paths, work)


def read_and_compress(paths: list[str]) -> float:
    """Read, BLAKE3, and zstd of what did not come before."""
    seen: set[bytes] = set()

    def work(portions: Iterator[list[str]]) -> None:
        buffer = bytearray(MIB)
        compressor = zstandard.ZstdCompressor(level=3)
        frame = bytearray()
        for portion in portions:
            for path in portion:
                hasher = blake3()
                for piece in _pieces(path, buffer):
                    hasher.update(piece)
                if hasher.digest() in seen:
                    continue
                seen.add(hasher.digest())
                for piece in _pieces(path, buffer):
                    frame += piece
                    while len(frame) >= _FLOOR_FRAME_BYTES:
                        compressor.compress(frame[:_FLOOR_FRAME_BYTES])
                        del frame[:_FLOOR_FRAME_BYTES]
        compressor.compress(frame)

    return _in_threads(paths, work)


def sha256(paths: list[str]) -> float:
    """Read and SHA-256, with one thread."""
    start = time.perf_counter()
    buffer = bytearray(MIB)
    hasher = hashlib.sha256()
    for path in paths:
        for piece in _pieces(path, buffer):
            hasher.update(piece)
    return time.perf_counter() - start


# --- services


class _AllPresent(BlobService):
    """Has everything, and takes nothing."""

    async def has(self, digest: B3Digest) -> bool:
        return True

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return [True] * len(digests)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        raise NotImplementedError

    async def open_write(self) -> BlobWriter:
        raise NotImplementedError


class _Compressing(BlobService):
    """Compresses on a pool of two threads, and waits as if it were for a disk; remembers only what came before."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS)
        self._local = threading.local()
        self._seen: set[B3Digest] = set()

    async def has(self, digest: B3Digest) -> bool:
        return digest in self._seen

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return [digest in self._seen for digest in digests]

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        raise NotImplementedError

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        calls = []
        frame: list[bytes] = []
        n_bytes = 0
        for blob in blobs:
            frame.append(blob.data)
            n_bytes += len(blob)
            if n_bytes >= _FRAME_BYTES:
                calls.append(self.compress(frame))
                frame, n_bytes = [], 0
        await asyncio.gather(*calls, self.compress(frame))
        await self.commit({blob.digest for blob in blobs})

    async def open_write(self) -> BlobWriter:
        return _CompressingWriter(self)

    def compress(self, frame: list[bytes]) -> asyncio.Future[None]:
        """Compress a frame."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._compress, frame)

    def _compress(self, frame: list[bytes]) -> None:
        if not hasattr(self._local, "compressor"):
            self._local.compressor = zstandard.ZstdCompressor(level=3)
        self._local.compressor.compress(b"".join(frame))

    async def commit(self, digests: set[B3Digest]) -> None:
        """Wait as long as an fsync takes."""
        await asyncio.sleep(_FSYNC_S)
        self._seen |= digests

    async def aclose(self) -> None:
        self._threads.shutdown()


class _CompressingWriter(BlobWriter):
    def __init__(self, service: _Compressing) -> None:
        self._service = service
        self._hasher = blake3()
        self._waiting: list[asyncio.Future[None]] = []

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._hasher.update, data)
        for start in range(0, len(data), _FRAME_BYTES):
            self._waiting.append(self._service.compress([data[start : start + _FRAME_BYTES]]))
        while len(self._waiting) > 4:
            await self._waiting.pop(0)

    async def close(self) -> B3Digest:
        await asyncio.gather(*self._waiting)
        digest = B3Digest(self._hasher.digest())
        await self._service.commit({digest})
        return digest


class _Directories(DirectoryService):
    """Checks closures, and forgets them."""

    async def get(self, digest: B3Digest) -> Directory | None:
        raise NotImplementedError

    async def put(self, directory: Directory) -> None:
        raise NotImplementedError

    async def put_multiple_start(self) -> DirectoryPutter:
        return _Putter(self)


class _Putter(ClosurePutter):
    async def store(self, encoded: Sequence[bytes]) -> None:
        pass


# --- contestants


async def _ingest(tree: str, service: BlobService) -> float:
    async with CheckedBlobService("blobs", service) as blobs:
        start = time.perf_counter()
        await ingest_path(tree, blobs, CheckedDirectoryService("directories", _Directories()))
        return time.perf_counter() - start


def second_import(tree: str) -> float:
    """Import what is there already."""
    return asyncio.run(_ingest(tree, _AllPresent()))


def first_import(tree: str) -> float:
    """Import into a service that only compresses."""
    return asyncio.run(_ingest(tree, _Compressing()))


def compare_tree(tree: str, runs: int) -> None:
    """Print the table for one tree."""
    paths = regular_files(tree)
    n_bytes = sum(Path(path).stat().st_size for path in paths)
    print(f"{tree}: {len(paths)} files, {n_bytes / 2**20:.0f} MiB; load {os.getloadavg()[0]:.1f}")
    compare(
        {
            "floor: read, BLAKE3, 2 threads": lambda: read_and_hash(paths),
            "read, SHA-256, 1 thread": lambda: sha256(paths),
            "second import, nothing to write": lambda: second_import(tree),
        },
        runs,
        n_bytes,
    )
    compare(
        {
            "floor: read, BLAKE3, zstd -3, 2 threads": lambda: read_and_compress(paths),
            "first import into a compressing service": lambda: first_import(tree),
        },
        runs,
        n_bytes,
    )


def main() -> None:
    """Compare them for each tree."""
    options = arguments(__doc__ or "")
    for tree in options.tree.split(":"):
        compare_tree(tree, options.runs)


if __name__ == "__main__":
    main()
