"""What a memory service does with encodings that are none."""

from __future__ import annotations

import re

import pytest

from tvix_store.checked import CheckedDirectoryService, CheckedPathInfoService
from tvix_store.errors import CorruptObject
from tvix_store.testing.fixtures import DIRECTORY_COMPLICATED, PATH_INFO
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio


async def test_directory_that_does_not_decode_is_named_and_forgotten() -> None:
    inner = MemoryDirectoryService("near")
    inner.encodings[DIRECTORY_COMPLICATED.digest.raw] = b"\xff"
    service = CheckedDirectoryService("near", inner)
    with pytest.raises(CorruptObject, match=re.escape(f"near: directory {DIRECTORY_COMPLICATED.digest}")):
        await service.get(DIRECTORY_COMPLICATED.digest)
    assert await service.get(DIRECTORY_COMPLICATED.digest) is None


async def test_path_info_that_does_not_decode_is_named_and_forgotten() -> None:
    inner = MemoryPathInfoService("near")
    digest = PATH_INFO.store_path.digest
    inner.encodings[digest] = b"\xff"
    service = CheckedPathInfoService("near", inner)
    with pytest.raises(CorruptObject, match=f"near: path info {digest.hex()}"):
        await service.get(digest)
    assert await service.get(digest) is None


async def test_list_names_a_path_info_that_does_not_decode_and_keeps_it() -> None:
    service = MemoryPathInfoService("near")
    digest = PATH_INFO.store_path.digest
    service.encodings[digest] = b"\xff"
    for _ in range(2):
        with pytest.raises(CorruptObject, match=digest.hex()):
            [info async for info in service.list()]
    await service.discard_corrupt(digest)
    assert [info async for info in service.list()] == []
