"""What Stat answers for blobs that sqlite keeps in chunks: the records that the reference writes to disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from plugins.grpc.loopback import memory_services, serving
from plugins.grpc.rawcalls import BLOBS, Raw, channel_to
from tvix_store.digest import B3Digest
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from vectors.castore_nars import BLOB_B_RECORD, X_S_RECORD_SHA256, ZEROS_RECORD
from vectors.chunking import BLOB_B, stream

pytestmark = pytest.mark.anyio


async def _stat(folder: Path, dialect: str, data: bytes) -> bytes:
    async with (
        await Database.open(str(folder / "store.sqlite")) as database,
        serving(memory_services(SqliteBlobService("test", database)), folder / "socket") as url,
        channel_to(url) as channel,
    ):
        raw = Raw(channel, dialect)
        pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
        await raw.send(BLOBS, "Put", [raw.message("BlobChunk", data=piece) for piece in pieces])
        request = raw.message("StatBlobRequest", digest=B3Digest.of(data).raw, send_chunks=True)
        return await raw.one(BLOBS, "Stat", request)


@pytest.mark.parametrize("dialect", ["tvix", "snix"])
async def test_the_record_of_blob_b(tmp_path: Path, dialect: str) -> None:
    assert (await _stat(tmp_path, dialect, BLOB_B)).hex() == BLOB_B_RECORD


async def test_the_record_of_zeros_repeats_a_chunk(tmp_path: Path) -> None:
    assert (await _stat(tmp_path, "snix", bytes(1048577))).hex() == ZEROS_RECORD


async def test_the_record_of_the_long_stream(tmp_path: Path) -> None:
    record = await _stat(tmp_path, "snix", stream(3145728))
    assert (len(record), hashlib.sha256(record).hexdigest()) == (440, X_S_RECORD_SHA256)
