"""Blob services whose upkeep is wrong in one way each, and the tests of the suite that have to find it.

Not collected by itself: `test_wrong_services.py` runs it, and expects the tests in ``breaks`` to fail and no others.
"""

# ruff: noqa: D106

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from suites.dict_services import DictBlobService
from suites.wrong_bases import WrongBlobs
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unsupported
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress


class TestStatsCountPuts(WrongBlobs):
    breaks: ClassVar = {"test_stats_count_what_is_there_or_are_refused"}

    class Service(DictBlobService):
        n_puts = 0

        async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
            self.n_puts += len(blobs)
            await super().put_many(blobs)

        async def stats(self) -> ServiceStats:
            return ServiceStats(self.n_puts or len(self.storage.blobs))


class TestStatsCountWhatIsSharedTwice(WrongBlobs):
    breaks: ClassVar = {"test_stats_tell_what_blobs_have_in_common_or_are_refused"}

    class Service(DictBlobService):
        async def stats(self) -> ServiceStats:
            found = await super().stats()
            return ServiceStats(found.objects, found.unique_bytes, found.unique_bytes)


class TestVerifyFindsNothing(WrongBlobs):
    breaks: ClassVar = {"test_damaged_blob_is_found_by_verifying"}

    class Service(DictBlobService):
        async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
            progress(1, None)
            nothing: list[Damage] = []
            for damage in nothing:
                yield damage


class TestVerifyForgetsNothing(WrongBlobs):
    breaks: ClassVar = {"test_damaged_blob_is_found_by_verifying"}

    class Service(DictBlobService):
        is_verifying = False

        async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
            self.is_verifying = True
            async for damage in super().verify(progress):
                yield damage
            self.is_verifying = False

        async def discard_corrupt(self, digest: B3Digest) -> None:
            if not self.is_verifying:
                await super().discard_corrupt(digest)


class TestVerifyFindsWhatIsSound(WrongBlobs):
    breaks: ClassVar = {
        "test_damaged_blob_is_found_by_verifying",
        "test_verifying_what_is_sound_finds_nothing_or_is_refused",
    }

    class Service(DictBlobService):
        async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
            async for digest in self.list():
                yield Damage("blob", str(digest), None, "looks odd")


class TestVerifyIsLeftOut(WrongBlobs):
    breaks: ClassVar = {
        "test_damaged_blob_is_found_by_verifying",
        "test_verifying_what_is_sound_finds_nothing_or_is_refused",
    }

    class Service(DictBlobService):
        def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
            raise Unsupported("not today")


class TestCompactTakesTooMuch(WrongBlobs):
    breaks: ClassVar = {"test_compacting_keeps_what_is_there_or_is_refused"}

    class Service(DictBlobService):
        async def compact(self) -> int:
            await self.delete(list(self.storage.blobs)[-1:])
            return 1


class TestSyncDropsWhatIsNotDurable(WrongBlobs):
    breaks: ClassVar = {"test_sync_returns_and_takes_nothing_away"}

    class Service(DictBlobService):
        async def sync(self) -> None:
            self.storage.blobs.clear()
            self.storage.sweep()
