"""Reading a blob that several services have: when one fails, the next goes on at the same place."""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from tvix_store.blob import BlobReader, BlobService
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, InvalidObject, StoreError
from tvix_store.limits import PIECE_BYTES
from tvix_store.resource import AsyncResource
from tvix_store_spread.asking import Noticed

__all__ = ["FailoverReader"]


class FailoverReader(BlobReader):
    """Reads from one service until it fails, then from the others.

    What was read so far is read again from the next one, so that it is still checked as a whole; and compared with
    what was given out, since a service that failed may have been wrong before. After a seek neither is possible, and
    only what the services check themselves holds.

    Args:
        digest: Of the blob.
        members: The services.
        opened: The reader to begin with, and whose it is.
        others: The members to go on with.
        noticed: Told which of the others lack the blob, or have a corrupt one, once there is one that has it.
    """

    def __init__(
        self,
        digest: B3Digest,
        members: Sequence[BlobService],
        opened: tuple[int, BlobReader],
        others: Sequence[int],
        noticed: Noticed[B3Digest],
    ) -> None:
        self._digest = digest
        self._members = members
        self._member, self._reader = opened[0], _Held(opened[1])
        self._others = list(others)
        self._noticed = noticed
        self._failure: StoreError | None = None  # the first one
        self._lacking: list[int] = []
        self._position = 0
        self._was_sought = False
        may_have_been_wrong = not all(member.capabilities.verifies for member in members)
        self._hasher = blake3() if may_have_been_wrong else None

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        while True:
            try:
                piece = await self._reader.get().read(max_bytes)
            except InvalidObject:
                raise
            except StoreError as exc:
                await self._go_on(exc)
                continue
            self._position += len(piece)
            if self._hasher is not None:
                self._hasher.update(piece)
            return piece

    async def seek(self, position: int) -> None:
        self._position = position
        self._was_sought = True
        self._hasher = None
        try:
            await self._reader.get().seek(position)
        except InvalidObject:
            raise
        except StoreError as exc:
            await self._go_on(exc)

    async def _go_on(self, error: StoreError) -> None:
        """Change to the next member that has the blob, at the same place.

        Raises:
            StoreError: There is none; the first failure.
        """
        self._failure = self._failure or error
        await self._reader.aclose()
        if isinstance(error, CorruptObject):
            self._lacking.append(self._member)
        while self._others:
            self._member = self._others.pop(0)
            try:
                reader = await self._members[self._member].open_read(self._digest)
                if reader is None:
                    self._lacking.append(self._member)
                    continue
                self._reader = _Held(reader)
                await self._advance(reader)
            except InvalidObject:
                raise
            except StoreError as exc:
                await self._reader.aclose()
                if isinstance(exc, CorruptObject):
                    self._lacking.append(self._member)
                continue
            self._noticed(self._digest, self._lacking)
            return
        self._reader.fail(self._failure)
        raise self._failure

    async def _advance(self, reader: BlobReader) -> None:
        if self._was_sought:
            await reader.seek(self._position)
            return
        hasher = blake3()
        left = self._position
        while left and (piece := await reader.read(min(left, PIECE_BYTES))):
            hasher.update(piece)
            left -= len(piece)
        if self._hasher is not None and hasher.digest() != self._hasher.digest():
            raise CorruptObject(f"blob {self._digest}: services give different bytes", expected=str(self._digest))

    async def aclose(self) -> None:
        await self._reader.aclose()


class _Held(AsyncResource):
    """A reader until it is closed, or known to be of no use."""

    def __init__(self, reader: BlobReader) -> None:
        self._reader = reader
        self._error: StoreError | None = None

    def get(self) -> BlobReader:
        if self._error is not None:
            raise self._error
        return self._reader

    def fail(self, error: StoreError) -> None:
        self._error = error

    async def aclose(self) -> None:
        await self._reader.aclose()
