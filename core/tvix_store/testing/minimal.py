"""The least that is a service: what the interfaces leave abstract, over a dict. They lose all when they are closed."""

from __future__ import annotations

from tvix_store.blob import BlobReader, BlobService, BlobWriter, BytesReader
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo, PathInfoService

__all__ = ["MinimalBlobService", "MinimalDirectoryService", "MinimalPathInfoService"]


class MinimalBlobService(BlobService):
    """Blobs in a dict."""

    def __init__(self) -> None:
        self.blobs: dict[B3Digest, bytes] = {}

    async def has(self, digest: B3Digest) -> bool:
        return digest in self.blobs

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        data = self.blobs.get(digest)
        return None if data is None else BytesReader(data)

    async def open_write(self) -> BlobWriter:
        return _MinimalWriter(self)


class _MinimalWriter(BlobWriter):
    def __init__(self, service: MinimalBlobService) -> None:
        self._service = service
        self._pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)

    async def close(self) -> B3Digest:
        blob = HashedBlob(b"".join(self._pieces))
        self._service.blobs[blob.digest] = blob.data
        return blob.digest


class MinimalDirectoryService(DirectoryService):
    """Directories in a dict."""

    def __init__(self) -> None:
        self.directories: dict[B3Digest, Directory] = {}

    async def get(self, digest: B3Digest) -> Directory | None:
        return self.directories.get(digest)

    async def put(self, directory: Directory) -> None:
        self.directories[directory.digest] = directory


class MinimalPathInfoService(PathInfoService):
    """Path infos in a dict."""

    def __init__(self) -> None:
        self.path_infos: dict[bytes, PathInfo] = {}

    async def get(self, digest: bytes) -> PathInfo | None:
        return self.path_infos.get(digest)

    async def put(self, path_info: PathInfo) -> PathInfo:
        self.path_infos[path_info.store_path.digest] = path_info
        return path_info
