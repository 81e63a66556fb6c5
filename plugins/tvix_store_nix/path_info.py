"""Path infos of a Nix binary cache elsewhere; whoever asks for one makes its contents come here."""

from __future__ import annotations

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.directory import DirectoryService
from tvix_store.errors import Unsupported
from tvix_store.frontend import Services
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.path_info import NarStream, PathInfo, PathInfoService, PathMetadata
from tvix_store_nix.fetch import Fetches, FetchOptions
from tvix_store_nix.narinfos import NarInfoPolicy, NarInfos
from tvix_store_nix.upstream import Upstream

__all__ = ["NixPathInfoService"]


class NixPathInfoService(PathInfoService):
    """The paths of an upstream binary cache. It remembers none of them for long: put it behind a cache.

    Args:
        name: Of the entry.
        upstream: The cache; closed with this.
        blobs: Where contents go; not closed with this.
        directories: Likewise.
        policy: What is believed.
        options: Bounds of fetching.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        blobs: BlobService,
        directories: DirectoryService,
        policy: NarInfoPolicy,
        options: FetchOptions,
    ) -> None:
        self.name = name
        self._upstream = upstream
        self._narinfos = NarInfos(name, upstream, policy)
        services = Services(blobs, directories, self, RenderingNarCalculation(blobs, directories))
        self._fetches = Fetches(name, upstream, services, options, self._narinfos.forget)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(put=False)

    async def get(self, digest: bytes) -> PathInfo | None:
        narinfo = await self._narinfos.get(digest)
        return None if narinfo is None else await self._fetches.get(narinfo)

    async def put(self, path_info: PathInfo) -> PathInfo:
        raise Unsupported(f"{self.name}: {path_info.store_path} cannot be put into an upstream binary cache")

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        narinfo = await self._narinfos.get(digest)
        return None if narinfo is None else narinfo.metadata

    async def open_nar(self, digest: bytes) -> NarStream | None:
        narinfo = await self._narinfos.get(digest)
        return None if narinfo is None else await self._fetches.open(narinfo)

    async def discard_corrupt(self, digest: bytes) -> None:
        """Ask the upstream again the next time."""
        self._narinfos.forget(digest)

    async def aclose(self) -> None:
        try:
            await self._fetches.aclose()
            await self._narinfos.aclose()
        finally:
            await self._upstream.aclose()
