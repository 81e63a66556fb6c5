"""The pack store keeps what every blob service promises."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, placed
from tvix_store.blob import BlobService
from tvix_store.capabilities import Durability
from tvix_store.digest import B3Digest
from tvix_store.testing import BlobDamageTests, BlobPersistenceTests, run_blob_state_machine
from tvix_store_fs.blob import FsBlobService


class TestFsBlobService(BlobPersistenceTests, BlobDamageTests):
    durability = Durability.COMMIT

    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[BlobService]:
        self.opened = [await open_service(tmp_path / "store", durability=self.durability)]
        yield self.opened[0]
        for service in self.opened:
            await service.aclose()

    async def reopen(self, service: BlobService) -> BlobService:
        assert isinstance(service, FsBlobService)
        await service.aclose()
        self.opened.append(await open_service(Path(service.store.layout.path), durability=self.durability))
        return self.opened[-1]

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, FsBlobService)
        chunks = await service.chunks(digest)
        assert chunks is not None
        digests = [chunk.digest for chunk in chunks[len(chunks) // 2 :]] or [digest]
        place = await placed(service.store, digests[0])
        flip(Path(service.store.packs.path(place.pack)), place.position + place.size - 1)
        service.store.reader.clear()


class TestBatched(TestFsBlobService):
    durability = Durability.BATCHED


class TestNone(TestFsBlobService):
    durability = Durability.NONE


def test_blobs_answer_as_a_dict_does() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[BlobService]:
        with tempfile.TemporaryDirectory() as directory:
            async with await open_service(Path(directory) / "store", durability=Durability.NONE) as service:
                yield service

    run_blob_state_machine(factory)
