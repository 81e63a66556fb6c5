from __future__ import annotations

import asyncio
import bz2
import contextlib
import gzip
import lzma
import random
import shutil
import tracemalloc
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tvix_store.compression import DETECT_BYTES, SUFFIXES, compressed, decompressed, detect, with_head
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.limits import KIB, MIB
from vectors.nar import TREES, encode

pytestmark = pytest.mark.anyio

METHODS = [method for method in SUFFIXES if method != "none"]
CONCATENATED = [method for method in METHODS if method != "br"]
CHECKED = ["xz", "bzip2", "gzip", "zstd"]  # end in a checksum of the contents
every_method = pytest.mark.parametrize("method", METHODS)

NAR = encode(TREES["mixed"])
TEXT = Path(__file__).read_bytes() * 20
RANDOM = random.Random(1).randbytes(3 * MIB)
MIXED = b"".join(bytes((i % 251,)) * (i * 7919 % 400) for i in range(10_000)) + RANDOM[: MIB // 2] + NAR


async def cut(data: bytes, piece_bytes: int = 64 * KIB) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece_bytes):
        yield data[start : start + piece_bytes]


async def join(pieces: AsyncIterable[bytes]) -> bytes:
    gathered = [piece async for piece in pieces]
    assert all(0 < len(piece) <= MIB for piece in gathered)
    return b"".join(gathered)


async def pack(data: bytes, method: str, level: int | None = None) -> bytes:
    return await join(compressed(cut(data), method, level))


async def unpack(data: bytes, method: str, piece_bytes: int = 64 * KIB) -> bytes:
    return await join(decompressed(cut(data, piece_bytes), method))


def packed(data: bytes, method: str) -> bytes:
    return asyncio.run(pack(data, method))


# --- what comes out ---


@pytest.mark.parametrize("method", SUFFIXES)
@pytest.mark.parametrize("piece_bytes", [10_007, 10 * MIB])
async def test_what_is_compressed_is_decompressed_however_it_is_cut(method: str, piece_bytes: int) -> None:
    data = await join(compressed(cut(MIXED, piece_bytes), method))
    assert data == await pack(MIXED, method)
    assert await unpack(data, method, piece_bytes) == MIXED


@pytest.mark.parametrize("method", SUFFIXES)
async def test_nothing_is_something_to_compress(method: str) -> None:
    assert await unpack(await pack(b"", method), method) == b""


@pytest.mark.parametrize(
    ("method", "compress"),
    [
        ("xz", lzma.compress),
        ("bzip2", bz2.compress),
        ("gzip", gzip.compress),
        ("zstd", zstandard.compress),
        ("br", brotli.compress),
    ],
)
async def test_what_others_wrote_is_read_byte_for_byte(method: str, compress: Callable[[bytes], bytes]) -> None:
    assert await unpack(compress(NAR), method, piece_bytes=1) == NAR


@pytest.mark.parametrize(("method", "program"), [("xz", "xz"), ("bzip2", "bzip2"), ("gzip", "gzip"), ("zstd", "zstd")])
async def test_the_usual_programs_read_what_we_write(method: str, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} missing: apt-get install {program}")
    process = await asyncio.create_subprocess_exec(program, "-dc", stdin=PIPE, stdout=PIPE)
    output, _ = await process.communicate(await pack(MIXED, method))
    assert (process.returncode, output) == (0, MIXED)


@every_method
async def test_level_counts(method: str) -> None:
    assert len(await pack(TEXT, method, 9)) < len(await pack(TEXT, method, 1))


@every_method
async def test_levels_that_do_not_exist_are_refused(method: str) -> None:
    with pytest.raises(InvalidObject, match="levels"):
        await pack(b"x", method, 99)


async def test_methods_that_do_not_exist_are_refused() -> None:
    for stream in (compressed(cut(b"x"), "lzip"), decompressed(cut(b"x"), "lzip")):
        with pytest.raises(InvalidObject, match="'lzip' is none of none, xz, bzip2, gzip, zstd, br"):
            await join(stream)


# --- streams that are not right ---


@every_method
async def test_every_truncated_stream_is_refused(method: str) -> None:
    data = await pack(NAR, method)
    for end in range(len(data)):
        with pytest.raises(InvalidObject, match="truncated"):
            await unpack(data[:end], method)


@every_method
@pytest.mark.parametrize("behind", [b"\0", b"x", b"\0\0\0\0", b"\x06", bytes(100), b"nix-archive-1"])
@pytest.mark.parametrize("piece_bytes", [1, MIB])
async def test_bytes_behind_the_end_are_refused(method: str, behind: bytes, piece_bytes: int) -> None:
    with pytest.raises(InvalidObject, match=r"goes on behind its end|corrupt"):
        await unpack(await pack(NAR, method) + behind, method, piece_bytes)


@pytest.mark.parametrize("method", CONCATENATED)
@pytest.mark.parametrize("piece_bytes", [1, 100, MIB])
async def test_streams_that_follow_each_other_are_one(method: str, piece_bytes: int) -> None:
    data = await pack(NAR, method) + await pack(b"", method) + await pack(b"more", method)
    assert await unpack(data, method, piece_bytes) == NAR + b"more"


async def test_brotli_has_no_streams_that_follow_each_other() -> None:
    data = await pack(NAR, "br")
    for piece_bytes in (len(data), MIB):
        with pytest.raises(InvalidObject):
            await unpack(data + data, "br", piece_bytes)


@given(
    method=st.sampled_from(CHECKED),
    place=st.integers(0),
    byte=st.integers(1, 255),
    piece_bytes=st.sampled_from([3, MIB]),
)
@settings(deadline=None)
def test_a_flipped_byte_is_noticed(method: str, place: int, byte: int, piece_bytes: int) -> None:
    data = bytearray(PACKED[method])
    data[place % len(data)] ^= byte
    try:
        output = asyncio.run(unpack(bytes(data), method, piece_bytes))
    except InvalidObject:
        return
    assert output == NAR  # the time in a gzip header, for one, is nothing to us


PACKED = {method: packed(NAR, method) for method in METHODS}


@given(method=st.sampled_from(METHODS), data=st.binary(max_size=200), is_behind=st.booleans())
@settings(deadline=None)
def test_whatever_comes_is_content_or_refused(method: str, data: bytes, is_behind: bool) -> None:
    data = PACKED[method][: len(data)] + data if is_behind else data
    with contextlib.suppress(InvalidObject):
        asyncio.run(unpack(data, method))


# --- zstd, whose frames are walked over here ---


@given(
    contents=st.lists(st.tuples(st.integers(0, 300_000), st.booleans()), max_size=5),
    level=st.sampled_from([-5, 1, 3]),
    checksum=st.booleans(),
    sized=st.booleans(),
    piece_bytes=st.sampled_from([1, 5, 1000, 100_000, 10_000_000]),
)
@settings(deadline=None)
def test_zstd_frames_of_any_shape(
    contents: Sequence[tuple[int, bool]], level: int, checksum: bool, sized: bool, piece_bytes: int
) -> None:
    compressor = zstandard.ZstdCompressor(level, write_checksum=checksum, write_content_size=sized)
    blobs = [RANDOM[:size] if is_random else bytes(size) for size, is_random in contents]
    frames = b"".join(compressor.compress(blob) if sized else streamed(compressor, blob) for blob in (*blobs, b"end"))
    if piece_bytes < 10:
        frames, blobs = compressor.compress(b"end"), []
    assert asyncio.run(unpack(frames, "zstd", piece_bytes)) == b"".join((*blobs, b"end"))


def streamed(compressor: zstandard.ZstdCompressor, data: bytes) -> bytes:
    """A frame that does not know its size."""
    stream = compressor.compressobj()
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize("piece_bytes", [7, MIB])
@pytest.mark.parametrize("size", [0, 1, 5_000])
async def test_zstd_skippable_frames_are_skipped(size: int, piece_bytes: int) -> None:
    skippable = b"\x5a\x2a\x4d\x18" + size.to_bytes(4, "little") + bytes(size)
    data = await pack(NAR, "zstd")
    assert detect(skippable + data) == "zstd"
    assert await unpack(skippable + data + skippable, "zstd", piece_bytes) == NAR
    with pytest.raises(InvalidObject, match="truncated"):
        await unpack(data + skippable[:-1], "zstd", piece_bytes)


async def test_zstd_wants_no_more_memory_than_it_may_have() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    data = streamed(zstandard.ZstdCompressor(compression_params=parameters), b"x")
    with pytest.raises(InvalidObject, match="window of 268435456 bytes, at most 134217728"):
        await unpack(data, "zstd")


@pytest.mark.parametrize(
    "header", [b"\x07\0\0", b"\xfd\xff\xff", b"\xfb\xff\xff"], ids=["reserved", "long", "long RLE"]
)
async def test_zstd_blocks_are_not_longer_than_they_may_be(header: bytes) -> None:
    with pytest.raises(InvalidObject, match="corrupt"):
        await unpack(b"\x28\xb5\x2f\xfd\x00\x58" + header, "zstd")


async def test_xz_wants_no_more_memory_than_it_may_have() -> None:
    for dictionary_bytes, is_taken in ((64 * MIB, True), (512 * MIB, False)):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": dictionary_bytes}]
        data = lzma.compress(NAR, filters=filters)
        if is_taken:
            assert await unpack(data, "xz") == NAR
        else:
            with pytest.raises(InvalidObject, match=r"[Mm]emory"):
                await unpack(data, "xz")


# --- bombs, back pressure, cancellation ---


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """How much was allocated at most since the test began."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


RLE_BLOCKS = b"\x02\x00\x10\x00" * 20_000  # a byte, 128 KiB times


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Streams of 64 MiB of zeros; that of zstd has 2.4 GiB and no end."""
    zeros = bytes(64 * MIB)
    small = {method: packed(zeros, method) for method in METHODS if method != "zstd"}
    return {**small, "zstd": b"\x28\xb5\x2f\xfd\x00\x58" + RLE_BLOCKS}


@every_method
async def test_bomb_takes_little_memory(method: str, bombs: dict[str, bytes], traced: Callable[[], int]) -> None:
    n_bytes = 0

    async def count() -> None:
        nonlocal n_bytes
        async for piece in decompressed(cut(bombs[method], 10 * MIB), method, max_bytes=60 * MIB):
            assert len(piece) <= MIB
            n_bytes += len(piece)

    with pytest.raises(LimitExceeded, match="more than 62914560 bytes"):
        await count()
    assert 58 * MIB < n_bytes <= 60 * MIB
    assert traced() < 14 * MIB  # 8 of them are the dictionary of xz


async def test_zstd_blocks_are_decoded_a_few_at_a_time(bombs: dict[str, bytes]) -> None:
    stream = decompressed(cut(bombs["zstd"], len(bombs["zstd"])), "zstd")
    assert {len(await anext(stream)) for _ in range(10)} == {MIB}
    await stream.aclose()


@pytest.mark.parametrize("method", SUFFIXES)
async def test_limit_is_inclusive(method: str) -> None:
    data = await pack(NAR, method)
    assert await join(decompressed(cut(data), method, max_bytes=len(NAR))) == NAR
    with pytest.raises(LimitExceeded, match=f"{method} stream has more than {len(NAR) - 1} bytes"):
        await join(decompressed(cut(data), method, max_bytes=len(NAR) - 1))


async def test_many_short_streams_take_linear_time() -> None:
    """Each decoder hands back what it did not use; a megabyte of them must not be copied 50,000 times."""
    data = bz2.compress(b"") * 20_000 + bz2.compress(b"end")
    assert await unpack(data, "bzip2", len(data)) == b"end"


class Source:
    """Counts what is asked for, and knows whether it was closed."""

    def __init__(self, data: bytes) -> None:
        self.n_bytes = 0
        self.data = data

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in cut(self.data):
            self.n_bytes += len(piece)
            yield piece


@pytest.mark.parametrize("method", SUFFIXES)
async def test_source_is_read_no_faster_than_the_result(method: str) -> None:
    for stream_of in (decompressed, compressed):
        source = Source(await pack(RANDOM, method) if stream_of is decompressed else RANDOM)
        stream = stream_of(source.pieces(), method)
        got = len(await anext(stream))
        before = source.n_bytes
        await asyncio.sleep(0)
        assert source.n_bytes == before
        if method not in ("br", "bzip2", "xz") or stream_of is decompressed:  # these gather a lot before they write
            assert before <= got + 1.5 * MIB
        await stream.aclose()


@every_method
async def test_what_the_source_raises_comes_through(method: str) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield PACKED[method][:20]
        raise ConnectionResetError("gone")

    for stream in (decompressed(failing(), method), compressed(failing(), method)):
        with pytest.raises(ConnectionResetError, match="gone"):
            await join(stream)


# --- detection ---


@pytest.mark.parametrize("method", SUFFIXES)
async def test_method_is_detected(method: str) -> None:
    for level in (None, 1, 9):
        data = await pack(NAR, method, level if method != "none" else None)
        assert detect(data[:DETECT_BYTES]) == method
        if method != "br":
            assert detect(data[:24]) == method


async def test_brotli_is_detected_in_front_of_content_that_does_not_compress() -> None:
    tree = TREES["hello"]
    assert detect((await pack(encode(tree) + RANDOM[:100_000], "br", 11))[:DETECT_BYTES]) == "br"


@pytest.mark.parametrize("head", [b"", b"\x0d", b"PK\x03\x04", b"BZh9", b"StorePath: /nix/store", bytes(100), RANDOM])
def test_other_data_is_not_detected(head: bytes) -> None:
    assert detect(head) is None


def test_brotli_of_something_else_is_not_detected() -> None:
    assert detect(brotli.compress(b"StorePath: /nix/store")) is None


@pytest.mark.parametrize("n_bytes", [1, 100, len(NAR), MIB])
async def test_a_head_is_looked_at_without_losing_it(n_bytes: int) -> None:
    head, whole = await with_head(cut(NAR, 100), n_bytes)
    assert head == NAR[: -(-n_bytes // 100) * 100]
    assert await join(whole) == NAR
