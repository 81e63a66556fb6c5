"""Path infos that are read back when they are put, and replaced when they are found to be corrupt."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tvix_store.errors import CorruptObject
from tvix_store.forwarding import ForwardingPathInfoService
from tvix_store.path_info import PathInfo, PathInfoService, PathMetadata
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_guard.healing import Findings, Healing, put_and_read_back
from tvix_store_guard.quarantine import Quarantine

__all__ = ["VerifyPathInfoService"]


class VerifyPathInfoService(ForwardingPathInfoService):
    """A path info service that is not taken at its word. Its answers have been checked by core.

    Args:
        name: Of the entry.
        inner: The service; not closed with this.
        refetch: Where sound copies of what is corrupt come from; not closed with this.
        on_put: Whether what was put is read back and compared with what the service says that it stored.
        on_get: Whether what is corrupt is written down, and replaced, when it is read.
        quarantine: Where it is written down what is corrupt.
    """

    relays = True

    def __init__(
        self,
        name: str,
        inner: PathInfoService,
        *,
        refetch: PathInfoService | None = None,
        on_put: bool = True,
        on_get: bool = True,
        quarantine: Quarantine | None = None,
    ) -> None:
        super().__init__(inner)
        self._findings = Findings(name, "path info", quarantine)
        self._on_put = on_put
        self._on_get = on_get
        fetch = None if refetch is None else refetch.get_many
        self._healing: Healing[bytes, PathInfo] = Healing(self._findings, bytes.hex, fetch, inner.put_many)
        self._being_put: Counter[bytes] = Counter()
        self._contested: set[bytes] = set()  # put by several at once: what is read back may be another's

    async def get(self, digest: bytes) -> PathInfo | None:
        try:
            return await self.inner.get(digest)
        except CorruptObject as exc:
            return await self._replaced(digest, exc)

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        try:
            return await self.inner.get_metadata(digest)
        except CorruptObject as exc:
            return await self._replaced(digest, exc)

    async def _replaced(self, digest: bytes, exc: CorruptObject) -> PathInfo:
        if not self._on_get:
            raise exc
        return (await self._healing.replaced([digest], exc))[digest]

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        if not self._on_get:
            return await self.inner.get_many(digests)
        return await self._healing.get_many(digests, self.inner.get_many)

    async def put(self, path_info: PathInfo) -> PathInfo:
        stored = path_info

        async def put() -> Mapping[bytes, PathInfo]:
            nonlocal stored
            stored = await self.inner.put(path_info)
            return {stored.store_path.digest: stored}

        async def read(digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
            return [await self.inner.get(digest) for digest in digests]

        if not self._on_put:
            return await self.inner.put(path_info)
        with self._putting([path_info]):
            await put_and_read_back(self._findings, bytes.hex, put, read, self._is_same)
        return stored

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        stored = path_infos

        async def put() -> Mapping[bytes, PathInfo]:
            nonlocal stored
            stored = await self.inner.put_many(path_infos)
            return {path_info.store_path.digest: path_info for path_info in stored}  # the last one of a path counts

        if not self._on_put or not path_infos:
            return await self.inner.put_many(path_infos)
        with self._putting(path_infos):
            await put_and_read_back(self._findings, bytes.hex, put, self.inner.get_many, self._is_same)
        return stored

    @contextmanager
    def _putting(self, path_infos: Sequence[PathInfo]) -> Iterator[None]:
        digests = {path_info.store_path.digest for path_info in path_infos}
        self._contested.update(digest for digest in digests if self._being_put[digest])
        self._being_put.update(digests)
        try:
            yield
        finally:
            self._being_put.subtract(digests)
            ended = {digest for digest in digests if not self._being_put[digest]}
            self._contested -= ended
            for digest in ended:
                del self._being_put[digest]

    def _is_same(self, digest: bytes, given: PathInfo, found: PathInfo) -> bool:
        return given == found or digest in self._contested

    async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        async for damage in self.inner.verify(progress):
            await self._findings.note(damage.digest, str(damage))
            yield damage
