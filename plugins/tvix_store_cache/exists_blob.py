"""Blobs of which it is remembered whether they are there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.blob import BlobReader, BlobService, BlobWriter, ChunkMeta
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject
from tvix_store.forwarding import ForwardingBlobService
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.verification import Damage, VerifyProgress, no_progress
from tvix_store_cache.answers import Answers

__all__ = ["ExistsBlobService"]


class ExistsBlobService(ForwardingBlobService):
    """Remembers which blobs ``inner`` has and which it lacks; nothing of what is in them.

    That a blob is there is only ever an answer to ``has``. That it is not answers everything that looks it up.

    Args:
        inner: The service; not closed with this.
        answers: What it said.
    """

    relays = True

    def __init__(self, inner: BlobService, answers: Answers) -> None:
        super().__init__(inner)
        self.answers = answers

    async def has(self, digest: B3Digest) -> bool:
        return (await self.has_many([digest]))[0]

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        known = {digest for digest in digests if digest.raw in self.answers.present}
        asked = self._not_absent([digest for digest in dict.fromkeys(digests) if digest not in known])
        if asked:
            with self.answers.asking() as asking:
                found = await self.inner.has_many(asked)
                asking.learn([digest.raw for digest in asked], found)
            known.update(digest for digest, hit in zip(asked, found, strict=True) if hit)
        return [digest in known for digest in digests]

    def _not_absent(self, digests: Sequence[B3Digest]) -> list[B3Digest]:
        return [digest for digest in digests if digest.raw not in self.answers.absent]

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        if digest.raw in self.answers.absent:
            return None
        with self.answers.asking() as asking:
            reader = await self.inner.open_read(digest)
            asking.learn([digest.raw], [reader is not None])
        return None if reader is None else _ExistsReader(reader, self.answers)

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        if digest.raw in self.answers.absent:
            return None
        with self.answers.asking() as asking:
            chunks = await self.inner.chunks(digest)
            asking.learn([digest.raw], [chunks is not None])
        return chunks

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        asked = self._not_absent(digests)
        if not asked:
            return [None] * len(digests)
        with self.answers.asking() as asking:
            found = await self.inner.get_many(asked, max_blob_bytes=max_blob_bytes)
            asking.learn([digest.raw for digest in asked], [data is not None for data in found])
        blobs = dict(zip(asked, found, strict=True))
        return [blobs.get(digest) for digest in digests]

    async def open_write(self) -> BlobWriter:
        return _ExistsWriter(await self.inner.open_write(), self.answers)

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        with self.answers.putting(blob.digest.raw for blob in blobs):
            await self.inner.put_many(blobs)

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        try:
            await self.inner.delete(digests)
        finally:
            self.answers.lost()

    async def discard_corrupt(self, digest: B3Digest) -> None:
        try:
            await self.inner.discard_corrupt(digest)
        finally:
            self.answers.lost()

    async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        async for damage in self.inner.verify(progress):
            self.answers.lost()
            yield damage
        self.answers.lost()  # what is wrong may be forgotten at the end alone


class _ExistsReader(BlobReader):
    def __init__(self, inner: BlobReader, answers: Answers) -> None:
        self._inner = inner
        self._answers = answers

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        try:
            return await self._inner.read(max_bytes)
        except CorruptObject:
            self._answers.lost()
            raise

    async def seek(self, position: int) -> None:
        await self._inner.seek(position)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _ExistsWriter(BlobWriter):
    def __init__(self, inner: BlobWriter, answers: Answers) -> None:
        self._inner = inner
        self._answers = answers

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> B3Digest:
        with self._answers.present.look() as look:
            try:
                digest = await self._inner.close()
            except BaseException:
                self._answers.put_something()
                raise
            self._answers.absent.forget([digest.raw])
            look.remember([digest.raw])
        return digest

    async def aclose(self) -> None:
        await self._inner.aclose()
