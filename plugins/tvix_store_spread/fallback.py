"""Services in order: what the first does not have, the next may have. Writes go to the first that takes any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvix_store.blob import BlobService, BlobWriter
from tvix_store.capabilities import Capabilities
from tvix_store.digest import HashedBlob
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import Unsupported
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store_spread.asking import Asking
from tvix_store_spread.blob import SeveralBlobService
from tvix_store_spread.capabilities import fallback_capabilities
from tvix_store_spread.directory import SeveralDirectoryService
from tvix_store_spread.path_info import SeveralPathInfoService

__all__ = ["FallbackBlobService", "FallbackDirectoryService", "FallbackPathInfoService"]


def _no_puts(name: str) -> Unsupported:
    return Unsupported(f"{name}: none of its services takes puts")


class FallbackBlobService(SeveralBlobService):
    """Blobs of the first service that has them.

    Args:
        name: Of the entry.
        members: The services by name, in their order; not closed with this.
        skips_errors: Whether the next is asked where one fails. If nobody has it, the failure is raised all the same.
    """

    def __init__(self, name: str, members: Mapping[str, BlobService], *, skips_errors: bool = False) -> None:
        super().__init__(name, members, Asking([*members.values()], skips_errors=skips_errors))

    @property
    def capabilities(self) -> Capabilities:
        return fallback_capabilities([member.capabilities for member in self.members.values()])

    def _target(self) -> BlobService:
        for member in self.members.values():
            if member.capabilities.put:
                return member
        raise _no_puts(self.name)

    async def open_write(self) -> BlobWriter:
        return await self._target().open_write()

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await self._target().put_many(blobs)

    async def sync(self) -> None:
        if self.capabilities.put:
            await self._target().sync()


class FallbackDirectoryService(SeveralDirectoryService):
    """Directories of the first service that has them; arguments as for `FallbackBlobService`."""

    def __init__(self, name: str, members: Mapping[str, DirectoryService], *, skips_errors: bool = False) -> None:
        super().__init__(name, members, Asking([*members.values()], skips_errors=skips_errors))

    @property
    def capabilities(self) -> Capabilities:
        return fallback_capabilities([member.capabilities for member in self.members.values()])

    def _target(self) -> DirectoryService:
        for member in self.members.values():
            if member.capabilities.put:
                return member
        raise _no_puts(self.name)

    async def put(self, directory: Directory) -> None:
        await self._target().put(directory)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        await self._target().put_many(directories)

    async def put_multiple_start(self) -> DirectoryPutter:
        return await self._target().put_multiple_start()

    async def sync(self) -> None:
        if self.capabilities.put:
            await self._target().sync()


class FallbackPathInfoService(SeveralPathInfoService):
    """Path infos of the first service that has them; arguments as for `FallbackBlobService`."""

    def __init__(self, name: str, members: Mapping[str, PathInfoService], *, skips_errors: bool = False) -> None:
        super().__init__(name, members, Asking([*members.values()], skips_errors=skips_errors))

    @property
    def capabilities(self) -> Capabilities:
        return fallback_capabilities([member.capabilities for member in self.members.values()])

    def _target(self) -> PathInfoService:
        for member in self.members.values():
            if member.capabilities.put:
                return member
        raise _no_puts(self.name)

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self._target().put(path_info)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        return await self._target().put_many(path_infos)
