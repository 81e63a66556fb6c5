"""The conformance suite of tvix-store, and what is special to this service."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import ValidationError
from tvix_store_dirtree import blob as dirtree
from tvix_store_dirtree.blob import DirtreeBlobService
from tvix_store_dirtree.plugin import DirtreeBlobServiceConfig

from tvix_store.blob import BlobService
from tvix_store.config import ServiceUrl
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import ConfigError, OutOfSpace, StoreError, Unavailable
from tvix_store.testing import BlobDamageTests, BlobPersistenceTests, run_blob_state_machine


class TestDirtreeBlobService(BlobPersistenceTests, BlobDamageTests):
    """All promises of a blob service, of one that keeps what it stores, and of one whose files could rot."""

    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[BlobService]:
        async with DirtreeBlobService(tmp_path) as service:
            yield service

    async def reopen(self, service: BlobService) -> BlobService:
        assert isinstance(service, DirtreeBlobService)
        await service.aclose()
        return DirtreeBlobService(service._root)

    async def damage(self, service: BlobService, digest: B3Digest) -> None:
        assert isinstance(service, DirtreeBlobService)
        path = service.path(digest)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    async def test_nothing_is_left_of_uploads(self, service: BlobService, tmp_path: Path) -> None:
        await service.put_many([HashedBlob(b"kept")])
        async with await service.open_write() as writer:
            await writer.write(b"abandoned")
        assert list((tmp_path / "uploads").iterdir()) == []

    @pytest.mark.parametrize(("error", "kind"), [(errno.ENOSPC, OutOfSpace), (errno.EIO, Unavailable)])
    async def test_full_disk_is_told_apart(
        self, service: BlobService, monkeypatch: pytest.MonkeyPatch, error: int, kind: type[StoreError]
    ) -> None:
        def fail(*args: object) -> None:
            raise OSError(error, "what the system says")

        monkeypatch.setattr(dirtree, "_publish", fail)
        with pytest.raises(kind, match=r"dirtree: .* what the system says") as caught:
            await service.put_many([HashedBlob(b"data")])
        assert type(caught.value) is kind


def test_agrees_with_the_model() -> None:
    """Whatever the order of operations."""

    @asynccontextmanager
    async def fresh() -> AsyncIterator[BlobService]:
        folder = await asyncio.to_thread(TemporaryDirectory)
        try:
            async with DirtreeBlobService(Path(folder.name)) as service:
                yield service
        finally:
            await asyncio.to_thread(folder.cleanup)

    run_blob_state_machine(fresh, max_examples=15)


class TestConfig:
    """Entries and URLs."""

    def test_url_form(self) -> None:
        expected = DirtreeBlobServiceConfig(type="dirtree", path="/var/lib/blobs of mine")
        assert DirtreeBlobServiceConfig.from_url(ServiceUrl("dirtree:///var/lib/blobs%20of%20mine")) == expected

    @pytest.mark.parametrize("url", ["dirtree://", "dirtree://host/path", "dirtree+x:///path", "dirtree:///path?x=y"])
    def test_other_urls_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigError, match="expected dirtree:///absolute/path"):
            DirtreeBlobServiceConfig.from_url(ServiceUrl(url))

    @pytest.mark.parametrize("entry", [{}, {"path": ""}, {"path": "/x", "size": 3}])
    def test_wrong_entries_are_refused(self, entry: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            DirtreeBlobServiceConfig.model_validate({"type": "dirtree", **entry})
