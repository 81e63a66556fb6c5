"""Services of all kinds, with core around them, some of whose objects are damaged."""

from __future__ import annotations

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.digest import B3Digest
from tvix_store.forwarding import ForwardingBlobService
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

__all__ = ["Boasting", "DamagedBlobs", "DamagedDirectories", "DamagedPathInfos"]


class Boasting(ForwardingBlobService):
    """States that it verifies, which it does not."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(list=True, delete=True, verifies=True)


class DamagedBlobs(CheckedBlobService):
    """Blobs in memory.

    Args:
        boasts: Whether they are said to be verified.
    """

    def __init__(self, *, boasts: bool = False) -> None:
        self.memory = MemoryBlobService()
        inner: BlobService = Boasting(self.memory) if boasts else self.memory
        super().__init__("inner", inner)

    def damage(self, *digests: B3Digest, at: int = -1) -> None:
        """Change a byte of each."""
        for digest in digests:
            data = bytearray(self.memory.contents[digest.raw])
            data[at] ^= 1
            self.memory.contents[digest.raw] = bytes(data)


class DamagedDirectories(CheckedDirectoryService):
    """Directories in memory."""

    def __init__(self) -> None:
        self.memory = MemoryDirectoryService("inner")
        super().__init__("inner", self.memory)

    def damage(self, *directories: Directory) -> None:
        """Keep something that is no directory in the place of each."""
        for directory in directories:
            assert directory.digest.raw in self.memory.encodings
            self.memory.encodings[directory.digest.raw] = b"\xff"


class DamagedPathInfos(CheckedPathInfoService):
    """Path infos in memory."""

    def __init__(self) -> None:
        self.memory = MemoryPathInfoService("inner")
        super().__init__("inner", self.memory)

    def damage(self, *path_infos: PathInfo) -> None:
        """Keep something that is no path info in the place of each."""
        for path_info in path_infos:
            assert path_info.store_path.digest in self.memory.encodings
            self.memory.encodings[path_info.store_path.digest] = b"\xff"
