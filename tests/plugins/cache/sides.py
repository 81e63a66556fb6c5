"""A near and a far side that write down what they are asked, and fail when told to."""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes.recorder import Recorder
from tvix_store.around import AroundBlobService, AroundDirectoryService
from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store_cache.blob import CacheBlobService
from tvix_store_cache.directory import CacheDirectoryService
from tvix_store_cache.sides import CachePolicy
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService

__all__ = ["BlobSide", "BlobSides", "DirectorySide", "DirectorySides"]


@dataclass
class BlobSide:
    """Blobs: ``store`` holds them, ``service`` is what a composition would hand out, ``asked`` what was asked of it."""

    store: BlobService = field(default_factory=MemoryBlobService)
    asked: Recorder = field(default_factory=Recorder)

    @property
    def service(self) -> BlobService:
        return AroundBlobService(CheckedBlobService("side", self.store), self.asked)

    @property
    def memory(self) -> MemoryBlobService:
        assert isinstance(self.store, MemoryBlobService)
        return self.store


@dataclass
class BlobSides:
    """Two of them."""

    near: BlobSide = field(default_factory=BlobSide)
    far: BlobSide = field(default_factory=BlobSide)

    def cache(self, policy: CachePolicy = CachePolicy()) -> CacheBlobService:  # noqa: B008 - it cannot change
        return CacheBlobService("cache", self.near.service, self.far.service, policy)


@dataclass
class DirectorySide:
    """Directories; ``memory`` holds them, ``asked`` is what was asked."""

    memory: MemoryDirectoryService = field(default_factory=MemoryDirectoryService)
    asked: Recorder = field(default_factory=Recorder)

    @property
    def service(self) -> AroundDirectoryService:
        return AroundDirectoryService(CheckedDirectoryService("side", self.memory), self.asked)


@dataclass
class DirectorySides:
    """Two of them."""

    near: DirectorySide = field(default_factory=DirectorySide)
    far: DirectorySide = field(default_factory=DirectorySide)

    def cache(self, policy: CachePolicy = CachePolicy()) -> CacheDirectoryService:  # noqa: B008 - it cannot change
        return CacheDirectoryService("cache", self.near.service, self.far.service, policy)
