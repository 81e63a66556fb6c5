"""The blob service: one file for each blob, named for its digest. Functions that touch the disk run in threads."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import IO, BinaryIO, ParamSpec, TypeVar

from blake3 import blake3

from tvix_store.blob import BlobReader, BlobService, BlobWriter
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import LimitExceeded, OutOfSpace, Unavailable
from tvix_store.limits import MIB, PIECE_BYTES, SMALL_BLOB_BYTES

__all__ = ["DirtreeBlobService"]

P = ParamSpec("P")
R = TypeVar("R")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a blocking function; the one place where errors of the operating system become those of a store."""
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except OSError as exc:
        kind = OutOfSpace if exc.errno in _NO_ROOM else Unavailable
        raise kind(f"dirtree: {exc}") from exc


class DirtreeBlobService(BlobService):
    """Blobs in files below a directory.

    Args:
        root: The directory; made when it is first written to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True, durability=Durability.COMMIT)

    def path(self, digest: B3Digest) -> Path:
        """The file of a blob; made from hex digits only, whatever a client may send."""
        text = digest.hex()
        return self._root / "blobs" / text[:2] / text

    # What every blob service has to have

    async def has(self, digest: B3Digest) -> bool:
        return await _in_thread(self.path(digest).is_file)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        return _Reader(self.path(digest)) if await self.has(digest) else None

    async def open_write(self) -> BlobWriter:
        return _Writer(self, await _in_thread(_create, self._root / "uploads"))

    # What works without being here, but for a thread hop for each blob

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return await _in_thread(lambda: [self.path(digest).is_file() for digest in digests])

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        return await _in_thread(lambda: [_read_small(self.path(digest), digest, max_blob_bytes) for digest in digests])

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await _in_thread(self._put_many, blobs)

    def _put_many(self, blobs: Sequence[HashedBlob]) -> None:
        for blob in blobs:
            with _create(self._root / "uploads") as file:
                file.write(blob.data)
                _publish(file, self.path(blob.digest))

    # What a service may say that it can do

    async def list(self) -> AsyncIterator[B3Digest]:
        blobs = self._root / "blobs"
        for folder in await _in_thread(_names, blobs):
            for name in await _in_thread(_names, blobs / folder):
                yield B3Digest.parse(name)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        await _in_thread(_delete, [self.path(digest) for digest in digests])

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await _in_thread(_discard_corrupt, self.path(digest), digest)


class _Reader(BlobReader):
    """Opens the file for each piece, so that nothing is left open when a call is cancelled whose thread goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        piece = await _in_thread(_read_at, self._path, self._position, max_bytes)
        self._position += len(piece)
        return piece

    async def seek(self, position: int) -> None:
        self._position = position


class _Writer(BlobWriter):
    def __init__(self, service: DirtreeBlobService, file: IO[bytes]) -> None:
        self._service = service
        self._file = file
        self._hasher = blake3()
        self._digest: B3Digest | None = None

    async def write(self, data: bytes) -> None:
        await _in_thread(self._append, data)

    def _append(self, data: bytes) -> None:
        self._hasher.update(data)
        self._file.write(data)

    async def close(self) -> B3Digest:
        if self._digest is None:
            digest = B3Digest(self._hasher.digest())
            await _in_thread(_publish, self._file, self._service.path(digest))
            self._digest = digest
        return self._digest

    async def aclose(self) -> None:
        await _in_thread(_abandon, self._file)


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _read_at(path: Path, position: int, max_bytes: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(position)
        return file.read(max_bytes)


def _read_small(path: Path, digest: B3Digest, max_bytes: int) -> bytes | None:
    file = _open(path)
    if file is None:
        return None
    with file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise LimitExceeded(f"dirtree: blob {digest} is longer than the {max_bytes} bytes asked for")
    return data


def _create(folder: Path) -> IO[bytes]:
    """A new file for what is being written; outside of the blobs, so that nobody sees it."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=folder, delete=False)


def _publish(file: IO[bytes], path: Path) -> None:
    """Give a file that is written its name. All of it is on the disk before that, and the name is afterwards."""
    file.flush()
    os.fsync(file.fileno())
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(file.name, path)
    for folder in (path.parent, path.parent.parent):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _abandon(file: IO[bytes]) -> None:
    file.close()  # waits for a write that was cancelled, whose thread goes on
    Path(file.name).unlink(missing_ok=True)


def _names(folder: Path) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _discard_corrupt(path: Path, digest: B3Digest) -> None:
    file = _open(path)
    if file is None:
        return
    hasher = blake3()
    with file:
        while piece := file.read(MIB):
            hasher.update(piece)
    if hasher.digest() != digest.raw:
        path.unlink(missing_ok=True)
