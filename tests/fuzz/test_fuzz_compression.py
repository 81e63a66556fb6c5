"""Decompression: never anything but InvalidObject, and what is taken is what the library makes of it in one go."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
from collections.abc import AsyncIterator, Callable, Sequence

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fuzz.held_memory import growth_of, resident_bytes
from fuzz.mutations import cuts, damaged, fuzzing, mutants, pieces_of, samples
from tvix_store.compression import decompressed, detect
from tvix_store.errors import InvalidObject
from tvix_store.limits import KIB, MIB

MAX_BYTES = 20 * MIB


def zstd_at_once(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.readall()


AT_ONCE: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.decompress,
    "bzip2": bz2.decompress,
    "gzip": gzip.decompress,
    "zstd": zstd_at_once,
    "br": brotli.decompress,
}
every_method = pytest.mark.parametrize("method", AT_ONCE)


def outcome(pieces: Sequence[bytes], method: str) -> bytes | type[InvalidObject]:
    return asyncio.run(decoded(pieces, method))


async def decoded(pieces: Sequence[bytes], method: str) -> bytes | type[InvalidObject]:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    try:
        return b"".join([piece async for piece in decompressed(source(), method, max_bytes=MAX_BYTES)])
    except InvalidObject as exc:
        assert "\n" not in str(exc)  # noqa: PT017 - it need not be raised
        return type(exc)


@every_method
def test_samples_are_taken(method: str) -> None:
    for data in samples(method):
        assert outcome([data], method) == AT_ONCE[method](data)


@every_method
@fuzzing
@given(data=st.data(), places=cuts)
def test_damaged_streams(method: str, data: st.DataObject, places: list[float]) -> None:
    stream = data.draw(damaged(method))
    result = outcome([stream], method)
    assert outcome(pieces_of(stream, places), method) == result
    if isinstance(result, bytes):
        assert AT_ONCE[method](stream) == result


@fuzzing
@given(st.binary(max_size=200) | st.sampled_from(sorted(AT_ONCE)).flatmap(damaged), st.sampled_from(sorted(AT_ONCE)))
def test_streams_of_something_else(stream: bytes, method: str) -> None:
    detect(stream)
    outcome([stream], method)


@every_method
def test_no_memory_is_kept(method: str) -> None:
    streams = mutants(method)
    with asyncio.Runner() as runner:

        def run() -> None:
            runner.run(decoded([next(streams)], method))

        growth = growth_of(run, 100)
        before = resident_bytes()
        for _ in range(400):
            run()
    assert growth < 32 * KIB
    assert resident_bytes() - before < 8 * MIB  # with what zstd and brotli have, of which Python does not know
