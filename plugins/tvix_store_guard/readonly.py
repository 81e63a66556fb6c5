"""Services of all kinds that nothing is put into, or deleted from, by those who have them from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import Unsupported
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService, ForwardingPathInfoService
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo, PathInfoService

__all__ = ["ReadonlyBlobService", "ReadonlyDirectoryService", "ReadonlyPathInfoService"]


def _without_writes(capabilities: Capabilities) -> Capabilities:
    return replace(capabilities, put=False, delete=False, compact=False)


class ReadonlyBlobService(ForwardingBlobService):
    """A blob service that only reads are let through to.

    Args:
        name: Of the entry.
        inner: The service; not closed with this.
    """

    relays = True

    def __init__(self, name: str, inner: BlobService) -> None:
        super().__init__(inner)
        self._refusal = f"{name} is read-only"

    @property
    def capabilities(self) -> Capabilities:
        return _without_writes(super().capabilities)

    async def open_write(self) -> BlobWriter:
        raise Unsupported(self._refusal)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        raise Unsupported(self._refusal)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        raise Unsupported(self._refusal)

    async def compact(self) -> int:
        raise Unsupported(self._refusal)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        """Nothing: whoever stores the blob forgets it when it finds it to be corrupt."""


class ReadonlyDirectoryService(ForwardingDirectoryService):
    """A directory service that only reads are let through to.

    Args:
        name: Of the entry.
        inner: The service; not closed with this.
    """

    relays = True

    def __init__(self, name: str, inner: DirectoryService) -> None:
        super().__init__(inner)
        self._refusal = f"{name} is read-only"

    @property
    def capabilities(self) -> Capabilities:
        return _without_writes(super().capabilities)

    async def put(self, directory: Directory) -> None:
        raise Unsupported(self._refusal)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        raise Unsupported(self._refusal)

    async def put_multiple_start(self) -> DirectoryPutter:
        raise Unsupported(self._refusal)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        raise Unsupported(self._refusal)

    async def discard_corrupt(self, digest: B3Digest) -> None:
        """Nothing: whoever stores the directory forgets it when it finds it to be corrupt."""


class ReadonlyPathInfoService(ForwardingPathInfoService):
    """A path info service that only reads are let through to.

    Args:
        name: Of the entry.
        inner: The service; not closed with this.
    """

    relays = True

    def __init__(self, name: str, inner: PathInfoService) -> None:
        super().__init__(inner)
        self._refusal = f"{name} is read-only"

    @property
    def capabilities(self) -> Capabilities:
        return _without_writes(super().capabilities)

    async def put(self, path_info: PathInfo) -> PathInfo:
        raise Unsupported(self._refusal)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        raise Unsupported(self._refusal)

    async def delete(self, digests: Sequence[bytes]) -> None:
        raise Unsupported(self._refusal)

    async def discard_corrupt(self, digest: bytes) -> None:
        """Nothing: whoever stores the path info forgets it when it finds it to be corrupt."""
