"""How the blob suite puts, gets and looks for blobs, and the fixtures its parts have in common."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tvix_store.blob import BlobReader, BlobService
from tvix_store.checked import CheckedBlobService
from tvix_store.digest import B3Digest
from tvix_store.errors import Unsupported
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.verification import Damage, VerifyProgress, no_progress

__all__ = [
    "BlobSuiteBase",
    "assert_absent",
    "assert_gets",
    "assert_reads",
    "brief",
    "delete_blobs",
    "list_blobs",
    "read_blob",
    "read_rest",
    "verify_blobs",
    "write_blob",
]


def brief(data: bytes | None) -> object:
    """Contents to compare: as they are if short, or length and digest, because pytest explains what differs."""
    return data if data is None or len(data) <= 64 else f"{len(data)} bytes, {B3Digest.of(data)}"


async def write_blob(service: BlobService, *pieces: bytes) -> B3Digest:
    """Put a blob through a writer, one ``write`` for each piece."""
    async with await service.open_write() as writer:
        for piece in pieces:
            await writer.write(piece)
        return await writer.close()


async def read_blob(service: BlobService, digest: B3Digest, max_bytes: int = PIECE_BYTES) -> bytes | None:
    """A blob through a reader; ``None`` if it is absent."""
    reader = await service.open_read(digest)
    if reader is None:
        return None
    pieces: list[bytes] = []
    async with reader:
        while piece := await reader.read(max_bytes):
            assert len(piece) <= max_bytes
            pieces.append(piece)
        assert await reader.read(max_bytes) == b""
    return b"".join(pieces)


async def assert_reads(
    service: BlobService, digest: B3Digest, data: bytes | None, max_bytes: int = PIECE_BYTES
) -> None:
    """A reader gives ``data``; there is none if that is ``None``."""
    assert brief(await read_blob(service, digest, max_bytes)) == brief(data)


async def assert_gets(
    service: BlobService,
    digests: Sequence[B3Digest],
    datas: Sequence[bytes | None],
    *,
    max_blob_bytes: int = SMALL_BLOB_BYTES,
) -> None:
    """The batch gives ``datas``, in their order."""
    found = await service.get_many(digests, max_blob_bytes=max_blob_bytes)
    assert [brief(data) for data in found] == [brief(data) for data in datas]


async def read_rest(reader: BlobReader) -> bytes:
    """What is left to read."""
    pieces: list[bytes] = []
    while piece := await reader.read():
        pieces.append(piece)
    return b"".join(pieces)


async def list_blobs(service: BlobService) -> Sequence[B3Digest]:
    """All that is listed, in order, so that what is listed twice shows."""
    return sorted([digest async for digest in service.list()])


async def verify_blobs(service: BlobService, progress: VerifyProgress = no_progress) -> Sequence[Damage]:
    """All that verifying finds."""
    return [damage async for damage in service.verify(progress)]


async def delete_blobs(service: BlobService, *digests: B3Digest) -> bool:
    """Delete blobs; ``False``, having seen that it is refused, if the service does not state that it can."""
    if service.capabilities.delete:
        await service.delete(digests)
        return True
    with pytest.raises(Unsupported):
        await service.delete(digests)
    return False


async def assert_absent(service: BlobService, digest: B3Digest) -> None:
    """No method that looks a blob up finds it."""
    assert await service.has(digest) is False
    assert await service.open_read(digest) is None
    assert await service.chunks(digest) is None
    assert list(await service.has_many([digest])) == [False]
    assert list(await service.get_many([digest])) == [None]
    if service.capabilities.list:
        assert digest not in await list_blobs(service)


class BlobSuiteBase:
    """What a test of a blob service is given."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The store runs on asyncio alone."""
        return "asyncio"

    @pytest.fixture
    async def service(self) -> BlobService:
        """The service under test, empty. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `service`")

    @pytest.fixture
    async def store(self, service: BlobService) -> BlobService:
        """The service as a composition hands it out: with the checks of core around it."""
        return CheckedBlobService("test", service)
