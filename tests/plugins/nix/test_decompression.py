"""What only upstreams compress with."""

from __future__ import annotations

import lzma
from collections.abc import AsyncIterator

import pytest

from plugins.nix.binary_caches import CacheFiles, RealCache
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store_nix.decompression import decompressed

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 40
LZMA = lzma.compress(DATA, lzma.FORMAT_ALONE)


async def pieces(data: bytes, n_bytes: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), n_bytes):
        yield data[start : start + n_bytes]


async def read(data: bytes, n_bytes: int = 1000, max_bytes: int = 1 << 30, method: str = "lzma") -> bytes:
    return b"".join([piece async for piece in decompressed(pieces(data, n_bytes), method, max_bytes)])


@pytest.mark.parametrize("n_bytes", [1, 7, 1 << 20])
async def test_pieces_of_any_size(n_bytes: int) -> None:
    assert await read(LZMA, n_bytes) == DATA


async def test_members_of_lzip_count_as_one(real: RealCache) -> None:
    files = CacheFiles.of(real.written("lzip"))
    member = files[files.nar_name(real.referred)]
    nar = await read(member, method="lzip")
    assert await read(member + member, 100, method="lzip") == nar + nar


@pytest.mark.parametrize("data", [b"", LZMA[:-1], LZMA[:100]])
async def test_truncated(data: bytes) -> None:
    with pytest.raises(InvalidObject, match="lzma stream is truncated"):
        await read(data)


@pytest.mark.parametrize("data", [b"\xffgarbage" * 10, LZMA + b"\xffgarbage", LZMA + LZMA[:20] + b"\xff" * 40])
@pytest.mark.parametrize("n_bytes", [1, 1 << 20])
async def test_corrupt(data: bytes, n_bytes: int) -> None:
    with pytest.raises(InvalidObject, match="lzma stream is corrupt, or goes on behind its end"):
        await read(data, n_bytes)


async def test_more_than_is_allowed() -> None:
    assert await read(LZMA, max_bytes=len(DATA)) == DATA
    with pytest.raises(LimitExceeded, match="more than 10239 bytes"):
        await read(LZMA, max_bytes=len(DATA) - 1)


@pytest.mark.parametrize("method", ["lz4", "", "x" * 1000])
async def test_an_unknown_method_is_named(method: str) -> None:
    with pytest.raises(InvalidObject, match=r"is none of none, xz, .*lzip"):
        await read(DATA, method=method)
