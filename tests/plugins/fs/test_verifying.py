"""Damage to contents that are stored as they are, which only their hashes tell: the service finds it by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.fs.fs_store import flip, open_service, pack_path, placed
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject
from tvix_store.limits import KIB, MIB
from tvix_store.testing.blob_access import write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fs.blob import FsBlobService

pytestmark = pytest.mark.anyio

SMALL = contents(100 * KIB, 1)
"""In one piece, which does not get shorter."""


async def with_damage(path: Path, *blobs: bytes) -> FsBlobService:
    """A store of these, the first of which has the last bit of its piece, or of the last one of them, flipped."""
    async with await open_service(path) as service:
        for data in blobs:
            await write_blob(service, data)
        digest = B3Digest.of(blobs[0])
        chunks = await service.chunks(digest)
        place = await placed(service.store, chunks[-1].digest if chunks else digest)
    flip(pack_path(path, place.pack), place.position + place.size - 1)
    return await open_service(path)


async def test_a_damaged_piece_is_named_with_what_it_is(tmp_path: Path) -> None:
    async with await with_damage(tmp_path, SMALL) as service:
        for read in (service.get_many([B3Digest.of(SMALL)]), service.open_read(B3Digest.of(SMALL))):
            with pytest.raises(CorruptObject, match="hashes to") as caught:
                await read
            assert caught.value.expected == str(B3Digest.of(SMALL))
            assert caught.value.actual == str(B3Digest.of(SMALL[:-1] + bytes([SMALL[-1] ^ 1])))


async def test_what_is_before_a_damaged_chunk_can_be_read(tmp_path: Path) -> None:
    data = contents(5 * MIB, 2)
    async with await with_damage(tmp_path, data) as service:
        reader = await service.open_read(B3Digest.of(data))
        assert reader is not None
        read = bytearray()
        with pytest.raises(CorruptObject):  # noqa: PT012
            while True:
                read += await reader.read()
        assert len(read) > 3 * MIB
        assert data.startswith(read)
        await reader.seek(len(data) - 1)
        with pytest.raises(CorruptObject):
            await reader.read()
        await reader.aclose()


async def test_a_blob_beside_a_damaged_one_can_be_read(tmp_path: Path) -> None:
    other = contents(100 * KIB, 3)
    async with await with_damage(tmp_path, SMALL, other) as service:
        assert await service.get_many([B3Digest.of(other)]) == [other]


async def test_storing_again_heals(tmp_path: Path) -> None:
    async with await with_damage(tmp_path, SMALL) as service:
        await service.discard_corrupt(B3Digest.of(SMALL))
        await service.put_many([HashedBlob(SMALL)])
        assert await service.get_many([B3Digest.of(SMALL)]) == [SMALL]
