"""Blobs, each in one of several services."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Mapping, Sequence

from blake3 import blake3

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, OutOfSpace, Unavailable, Unsupported
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.spool import UnlinkedFile
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_spread.capabilities import shard_capabilities
from tvix_store_spread.sharding import Sharding
from tvix_store_spread.upkeep import damages_of, in_all, total_stats

__all__ = ["ShardBlobService"]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ShardBlobService(BlobService):
    """Each blob is in the service that its digest says.

    Args:
        name: Of the entry.
        members: The shards by name; not closed with this.
        weights: Of the shards by name; 1 where none is given.
        spool_dir: Where blobs above ``SMALL_BLOB_BYTES`` wait until their digest, and so their shard, is known.
    """

    relays = True

    def __init__(
        self, name: str, members: Mapping[str, BlobService], weights: Mapping[str, float], spool_dir: str
    ) -> None:
        self.name = name
        self.members = members
        self.sharding = Sharding(members, weights)
        self.spool_dir = spool_dir

    @property
    def capabilities(self) -> Capabilities:
        return shard_capabilities([member.capabilities for member in self.members.values()])

    async def has(self, digest: B3Digest) -> bool:
        return await self.sharding.owner(digest.raw).has(digest)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        return await self.sharding.owner(digest.raw).open_read(digest)

    async def open_write(self) -> BlobWriter:
        return _ShardWriter(self)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        """None are told: they are where the blob is, and would be looked for elsewhere."""
        return [] if await self.has(digest) else None

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        return await self.sharding.many(_keyed(digests), lambda member, batch: member.has_many(batch))

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        return await self.sharding.many(
            _keyed(digests), lambda member, batch: member.get_many(batch, max_blob_bytes=max_blob_bytes)
        )

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await self.sharding.each(
            [(blob.digest.raw, blob) for blob in blobs], lambda member, batch: member.put_many(batch)
        )

    def list(self) -> AsyncIterator[B3Digest]:
        if not self.capabilities.list:
            raise Unsupported(f"{self.name}: not all of its shards can list")
        return self.sharding.listed(lambda member: member.list(), lambda digest: digest.raw)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        if not self.capabilities.delete:
            raise Unsupported(f"{self.name}: not all of its shards can delete")
        await self.sharding.each(_keyed(digests), lambda member, batch: member.delete(batch))

    async def discard_corrupt(self, digest: B3Digest) -> None:
        await self.sharding.owner(digest.raw).discard_corrupt(digest)

    async def stats(self) -> ServiceStats:
        return total_stats(await in_all([*self.members.values()], lambda member: member.stats()), "shards")

    def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        return damages_of(self.members, progress)

    async def compact(self) -> int:
        """Of those that can."""
        able = [member for member in self.members.values() if member.capabilities.compact]
        if not able:
            raise Unsupported(f"{self.name}: none of its shards can compact")
        return sum(await in_all(able, lambda member: member.compact()))

    async def sync(self) -> None:
        await in_all([*self.members.values()], lambda member: member.sync())


def _keyed(digests: Sequence[B3Digest]) -> Sequence[tuple[bytes, B3Digest]]:
    return [(digest.raw, digest) for digest in digests]


class _ShardWriter(BlobWriter):
    """Holds a blob until it is known where it belongs: in memory while it is small, then in a file without a name."""

    def __init__(self, service: ShardBlobService) -> None:
        self._service = service
        self._hasher = blake3()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._file: UnlinkedFile | None = None
        self._file_bytes = 0
        self._digest: B3Digest | None = None

    async def write(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > SMALL_BLOB_BYTES:
            await self._spool()

    async def _spool(self) -> None:
        held = self._held
        try:
            self._file = await asyncio.to_thread(self._append, self._file, held, self._file_bytes)
        except OSError as exc:
            kind = OutOfSpace if exc.errno in _NO_SPACE else Unavailable
            raise kind(f"{self._service.name}: {self._service.spool_dir}: {exc.strerror}") from exc
        self._file_bytes += self._held_bytes
        self._held, self._held_bytes = [], 0

    def _append(self, file: UnlinkedFile | None, pieces: Sequence[bytes], position: int) -> UnlinkedFile:
        file = file or UnlinkedFile(self._service.spool_dir)
        file.write(pieces, position)
        for piece in pieces:
            self._hasher.update(piece)
        return file

    async def close(self) -> B3Digest:
        if self._digest is None:
            self._digest = await self._store()
        return self._digest

    async def _store(self) -> B3Digest:
        if self._file is None:
            blob = HashedBlob(b"".join(self._held))
            await self._service.put_many([blob])
            return blob.digest
        if self._held:
            await self._spool()
        digest = B3Digest(self._hasher.digest())
        async with await self._service.sharding.owner(digest.raw).open_write() as writer:
            position = 0
            while position < self._file_bytes:
                piece = await self._read(self._file, position)
                await writer.write(piece)
                position += len(piece)
            stored = await writer.close()
        if stored != digest:  # it is in the wrong shard now, under its own digest
            raise CorruptObject(
                f"{self._service.name}: {self._service.spool_dir}: what was read is not what was written"
            )
        return digest

    async def _read(self, file: UnlinkedFile, position: int) -> bytes:
        try:
            piece = await asyncio.to_thread(file.read, PIECE_BYTES, position)
        except OSError as exc:
            raise Unavailable(f"{self._service.name}: {self._service.spool_dir}: {exc.strerror}") from exc
        if not piece:
            raise Unavailable(f"{self._service.name}: {self._service.spool_dir}: shorter than what was written")
        return piece

    async def aclose(self) -> None:
        self._held, self._held_bytes = [], 0
        self._file = None
