"""Blobs of another service, with faults."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.around import AroundBlobService, Call
from tvix_store.blob import BlobReader, BlobService, BlobWriter
from tvix_store.config import Kind
from tvix_store.digest import B3Digest
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store_fault.faults import Faults, Lifetime

__all__ = ["FaultBlobService"]

_READ = Call(Kind.BLOB, "reader.read")
_SEEK = Call(Kind.BLOB, "reader.seek")


class FaultBlobService(AroundBlobService):
    """A blob service that fails on purpose, and gives what it was not asked for. It is core that has to notice.

    Args:
        inner: The service; not closed with this.
        faults: What goes wrong.
    """

    relays = False

    def __init__(self, inner: BlobService, faults: Faults) -> None:
        super().__init__(inner, faults)
        self.faults = faults

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        lifetime = self.faults.lifetime()
        reader = await self.faults.call(Call(Kind.BLOB, "open_read"), lambda: self.inner.open_read(digest))
        return None if reader is None else _FaultReader(reader, self.faults, lifetime)

    async def open_write(self) -> BlobWriter:
        lifetime = self.faults.lifetime()
        return _FaultWriter(await super().open_write(), lifetime)

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        blobs = list(await super().get_many(digests, max_blob_bytes=max_blob_bytes))
        faults = self.faults
        corrupts = faults.falls(faults.rates.corrupt_rate, "get_many")
        truncates = faults.falls(faults.rates.truncate_rate, "get_many")
        if corrupts or truncates:
            full = [index for index, blob in enumerate(blobs) if blob]
            if full:
                index = full[faults.below(len(full))]
                blob = blobs[index] or b""
                blobs[index] = _flipped(blob, faults) if corrupts else blob[: faults.below(len(blob))]
        return blobs


def _flipped(data: bytes, faults: Faults) -> bytes:
    bit = faults.below(8 * len(data))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class _FaultReader(BlobReader):
    """Gives wrong bytes only as long as it was not sought: core does not see them after that."""

    def __init__(self, inner: BlobReader, faults: Faults, lifetime: Lifetime) -> None:
        self._inner = inner
        self._faults = faults
        self._lifetime = lifetime
        self._was_sought = False
        self._is_at_end = False
        self._fails_next = False

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        faults, rates = self._faults, self._faults.rates
        self._lifetime.require()
        if self._fails_next:
            raise faults.failure(f"{_READ.method}, in the middle,")
        if self._is_at_end:
            return b""
        if faults.falls(rates.short_read_rate, _READ.method):
            max_bytes = 1 + faults.below(max_bytes)
            self._fails_next = faults.below(2) == 1
        try:
            piece = await faults.call(_READ, lambda: self._inner.read(max_bytes))
        except Exception:
            self._fails_next = True  # it is of no further use
            raise
        corrupts = faults.falls(rates.corrupt_rate, _READ.method)
        truncates = faults.falls(rates.truncate_rate, _READ.method)
        if piece and not self._was_sought:
            if corrupts:
                piece = _flipped(piece, faults)
            if truncates:
                piece = piece[: faults.below(len(piece))]
                self._is_at_end = True
        return piece

    async def seek(self, position: int) -> None:
        self._lifetime.require()
        await self._faults.call(_SEEK, lambda: self._inner.seek(position))
        self._was_sought = True
        self._is_at_end = False

    async def aclose(self) -> None:
        await self._inner.aclose()


class _FaultWriter(BlobWriter):
    """A writer that a crash ends."""

    def __init__(self, inner: BlobWriter, lifetime: Lifetime) -> None:
        self._inner = inner
        self._lifetime = lifetime

    async def write(self, data: bytes) -> None:
        self._lifetime.require()
        await self._inner.write(data)

    async def close(self) -> B3Digest:
        self._lifetime.require()
        return await self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()
