"""A pack store that is verified: as durable as it is without, and what is damaged is found as before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, placed
from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest
from tvix_store.testing import BlobDamageTests, BlobPersistenceTests
from tvix_store.testing.blob_access import read_blob, read_rest, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fs.blob import FsBlobService
from tvix_store_guard.verify_blob import VerifyBlobService
from tvix_store_memory.blob import MemoryBlobService


def fs_of(service: BlobService) -> FsBlobService:
    assert isinstance(service, VerifyBlobService)
    assert isinstance(service.inner, CheckedBlobService)
    assert isinstance(service.inner.inner, FsBlobService)
    return service.inner.inner


class TestVerifyOverFs(BlobPersistenceTests, BlobDamageTests):
    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[BlobService]:
        self.opened = [await open_service(tmp_path / "store")]
        async with VerifyBlobService("guard", CheckedBlobService("inner", self.opened[0])) as service:
            yield service
        for fs in self.opened:
            await fs.aclose()

    async def reopen(self, service: BlobService) -> BlobService:
        fs = fs_of(service)
        await fs.aclose()
        self.opened.append(await open_service(Path(fs.store.layout.path)))
        return VerifyBlobService("guard", CheckedBlobService("inner", self.opened[-1]))

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        fs = fs_of(service)
        chunks = await fs.chunks(digest)
        assert chunks is not None
        digests = [chunk.digest for chunk in chunks[len(chunks) // 2 :]] or [digest]
        place = await placed(fs.store, digests[0])
        flip(Path(fs.store.packs.path(place.pack)), place.position + place.size - 1)
        fs.store.reader.clear()

    @pytest.mark.parametrize("size", [12, 3_000_000])
    async def test_what_is_damaged_is_replaced_while_it_is_read(self, service: BlobService, size: int) -> None:
        digest = await write_blob(service, data := contents(size))
        await self.damage(service, digest)
        refetch = MemoryBlobService()
        await write_blob(refetch, data)
        async with VerifyBlobService("guard", CheckedBlobService("inner", fs_of(service)), refetch=refetch) as healing:
            assert await read_blob(healing, digest) == data
        assert await read_blob(service, digest) == data

    async def test_what_is_damaged_is_replaced_after_a_seek(self, service: BlobService) -> None:
        digest = await write_blob(service, data := contents(3_000_000))
        await self.damage(service, digest)
        refetch = MemoryBlobService()
        await write_blob(refetch, data)
        async with VerifyBlobService("guard", CheckedBlobService("inner", fs_of(service)), refetch=refetch) as healing:
            reader = await healing.open_read(digest)
            assert reader is not None
            async with reader:
                await reader.read(100)
                await reader.seek(1000)
                assert await read_rest(reader) == data[1000:]
