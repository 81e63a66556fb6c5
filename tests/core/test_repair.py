"""One object from another store."""

from __future__ import annotations

import pytest

from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.digest import HashedBlob
from tvix_store.errors import CorruptObject
from tvix_store.limits import MIB
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.repair import fetch_blob, fetch_directory
from tvix_store.testing.fixtures import contents
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService

pytestmark = pytest.mark.anyio

DIRECTORY = Directory({b"link": SymlinkNode(b"target")})


@pytest.mark.parametrize("size", [0, 5, 2 * MIB + 1])
async def test_a_blob_is_had_or_not(size: int) -> None:
    blob = HashedBlob(contents(size))
    source, target = MemoryBlobService(), MemoryBlobService()
    assert await fetch_blob(blob.digest, source, target) is False
    await source.put_many([blob])
    assert await fetch_blob(blob.digest, source, target) is True
    assert target.contents == {blob.digest.raw: blob.data}


@pytest.mark.parametrize("size", [5, 2 * MIB + 1])
async def test_a_blob_that_is_wrong_there_too_is_not_stored(size: int) -> None:
    blob = HashedBlob(contents(size))
    source, target = MemoryBlobService(), MemoryBlobService()
    source.contents[blob.digest.raw] = contents(size, 1)
    with pytest.raises(CorruptObject):
        await fetch_blob(blob.digest, CheckedBlobService("source", source), target)
    assert target.contents == {}


async def test_a_directory_is_had_or_not() -> None:
    source, target = MemoryDirectoryService(), MemoryDirectoryService()
    assert await fetch_directory(DIRECTORY.digest, source, target) is False
    await source.put(DIRECTORY)
    assert await fetch_directory(DIRECTORY.digest, source, target) is True
    assert target.encodings == source.encodings


async def test_a_directory_that_is_wrong_there_too_is_not_stored() -> None:
    source, target = MemoryDirectoryService(), MemoryDirectoryService()
    source.encodings[DIRECTORY.digest.raw] = Directory().encode()
    with pytest.raises(CorruptObject):
        await fetch_directory(DIRECTORY.digest, CheckedDirectoryService("source", source), target)
    assert target.encodings == {}
