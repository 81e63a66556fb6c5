"""Path info services that are wrong in one way each, and the tests of the suite that have to find it.

Not collected by itself: `test_wrong_services.py` runs it, and expects the tests in ``breaks`` to fail and no others.
"""

# ruff: noqa: D106

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

from suites.dict_services import DictPathInfoService
from suites.wrong_bases import WrongPathInfos
from tvix_store.capabilities import Capabilities
from tvix_store.errors import InvalidObject, Unavailable
from tvix_store.limits import BATCH_COUNT
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.nodes import FileNode
from tvix_store.path_info import PathInfo
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress

# One path info


class TestAbsenceIsAnError(WrongPathInfos):
    breaks: ClassVar = {
        "test_absent_path_info_is_none_not_an_error",
        "test_batches_answer_for_the_absent_too",
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_metadata_is_what_get_says",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictPathInfoService):
        async def get(self, digest: bytes) -> PathInfo | None:
            if digest not in self.path_infos:
                raise Unavailable(f"path info {digest.hex()} not found")
            return self.path_infos[digest]


class TestKeepsTheFirst(WrongPathInfos):
    breaks: ClassVar = {
        "test_another_put_replaces_the_first",
        "test_last_one_of_a_batch_counts",
        "test_only_the_digest_of_the_path_is_the_key",
        "test_what_was_deleted_can_be_put_again",
    }

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            self.path_infos.setdefault(path_info.store_path.digest, path_info)
            return path_info


class TestNameIsPartOfTheKey(WrongPathInfos):
    breaks: ClassVar = {"test_only_the_digest_of_the_path_is_the_key"}

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            known = self.path_infos.get(path_info.store_path.digest)
            if known is not None and known.store_path != path_info.store_path:
                self.path_infos[path_info.store_path.digest + path_info.store_path.name.encode()] = path_info
                return path_info
            return await super().put(path_info)


class TestForgetsSignatures(WrongPathInfos):
    breaks: ClassVar = {
        "test_another_put_replaces_the_first",
        "test_golden_path_info_is_kept",
        "test_last_one_of_a_batch_counts",
        "test_order_of_signatures_is_kept",
        "test_what_was_deleted_can_be_put_again",
    }

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(replace(path_info, signatures=()))


class TestSortsSignatures(WrongPathInfos):
    breaks: ClassVar = {"test_order_of_signatures_is_kept"}

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(replace(path_info, signatures=tuple(sorted(path_info.signatures, key=str))))


class TestSortsReferences(WrongPathInfos):
    breaks: ClassVar = {"test_many_references_are_kept", "test_order_of_references_is_kept"}

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(replace(path_info, references=tuple(sorted(set(path_info.references)))))


class TestTakesAThousandReferences(WrongPathInfos):
    breaks: ClassVar = {"test_many_references_are_kept"}

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(replace(path_info, references=path_info.references[:1000]))


class TestSizesAreSigned(WrongPathInfos):
    breaks: ClassVar = {"test_nar_sizes_up_to_64_bits_are_kept"}

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            if path_info.nar_size >= 2**63:
                raise OverflowError("Python int too large to convert to SQLite INTEGER")
            return await super().put(path_info)


class TestForgetsTheExecutableBit(WrongPathInfos):
    breaks: ClassVar = {"test_every_kind_of_root_is_kept"}

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            if isinstance(path_info.node, FileNode):
                path_info = replace(path_info, node=replace(path_info.node, executable=False))
            return await super().put(path_info)


class TestForgetsTheDeriver(WrongPathInfos):
    breaks: ClassVar = {
        "test_another_put_replaces_the_first",
        "test_golden_path_info_is_kept",
        "test_last_one_of_a_batch_counts",
        "test_long_names_are_kept",
        "test_what_was_deleted_can_be_put_again",
    }

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(replace(path_info, deriver=None))


class TestForgetsTheContentAddress(WrongPathInfos):
    breaks: ClassVar = {
        "test_another_put_replaces_the_first",
        "test_every_kind_of_content_address_is_kept",
        "test_golden_path_info_is_kept",
        "test_last_one_of_a_batch_counts",
        "test_what_was_deleted_can_be_put_again",
    }

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            return await super().put(replace(path_info, ca=None))


class TestSaysItStoredWhatItDidNot(WrongPathInfos):
    breaks: ClassVar = {"test_order_of_signatures_is_kept"}

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            await super().put(replace(path_info, signatures=path_info.signatures[:1]))
            return path_info


# Batches


class TestGetManyIsInOrderOfDigests(WrongPathInfos):
    breaks: ClassVar = {
        "test_batches_answer_for_the_absent_too",
        "test_batches_answer_in_the_order_asked",
        "test_batches_may_be_longer_than_usual",
        "test_damaged_path_info_is_found_by_verifying",
        "test_verifying_what_is_sound_finds_nothing_or_is_refused",
        "test_what_was_put_is_there_after_reopening",
    }

    class Service(DictPathInfoService):
        async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
            return await super().get_many(sorted(digests))


class TestGetManyLeavesOutTheAbsent(WrongPathInfos):
    breaks: ClassVar = {"test_batches_answer_for_the_absent_too"}

    class Service(DictPathInfoService):
        async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
            found = await super().get_many(digests)
            return [info for info in found if info is not None] if len(digests) > 1 else found


class TestPutManyKeepsTheFirst(WrongPathInfos):
    breaks: ClassVar = {"test_last_one_of_a_batch_counts"}

    class Service(DictPathInfoService):
        async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
            await super().put_many(path_infos[::-1])
            return path_infos


class TestPutManyAnswersInAnotherOrder(WrongPathInfos):
    breaks: ClassVar = {
        "test_damaged_path_info_is_found_by_verifying",
        "test_damaged_path_info_is_not_in_a_batch",
        "test_last_one_of_a_batch_counts",
        "test_put_many_is_as_good_as_put",
    }

    class Service(DictPathInfoService):
        async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
            return (await super().put_many(path_infos))[::-1]


class TestPutManyStopsAtAThousand(WrongPathInfos):
    breaks: ClassVar = {"test_batches_may_be_longer_than_usual"}

    class Service(DictPathInfoService):
        async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
            await super().put_many(path_infos[:BATCH_COUNT])
            return path_infos


# Listing, deleting, corruption, closing


class TestListIsShort(WrongPathInfos):
    breaks: ClassVar = {
        "test_damaged_path_info_is_found_by_verifying",
        "test_list_gives_every_path_info_once_or_is_refused",
    }

    class Service(DictPathInfoService):
        async def list(self) -> AsyncIterator[PathInfo]:
            for path_info in list(self.path_infos.values())[:99]:
                yield path_info


class TestDeleteDoesNothing(WrongPathInfos):
    breaks: ClassVar = {
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_stats_count_what_is_there_or_are_refused",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictPathInfoService):
        async def delete(self, digests: Sequence[bytes]) -> None:
            pass


class TestDeletingTheAbsentIsAnError(WrongPathInfos):
    breaks: ClassVar = {"test_deleting_the_absent_is_fine_or_is_refused"}

    class Service(DictPathInfoService):
        async def delete(self, digests: Sequence[bytes]) -> None:
            for digest in digests:
                if self.path_infos.pop(digest, None) is None:
                    raise Unavailable(f"path info {digest.hex()} not found")


class TestDoesWhatItDoesNotState(WrongPathInfos):
    breaks: ClassVar = {
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_list_gives_every_path_info_once_or_is_refused",
        "test_stats_count_what_is_there_or_are_refused",
        "test_verifying_what_is_sound_finds_nothing_or_is_refused",
        "test_what_was_deleted_can_be_put_again",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictPathInfoService):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities()


class TestDiscardsWhatIsSound(WrongPathInfos):
    breaks: ClassVar = {"test_discarding_keeps_what_is_sound"}

    class Service(DictPathInfoService):
        async def discard_corrupt(self, digest: bytes) -> None:
            self.path_infos.pop(digest, None)


class TestPutsNothingOverWhatIsDamaged(WrongPathInfos):
    breaks: ClassVar = {
        "test_damaged_path_info_is_found_by_verifying",
        "test_damaged_path_info_is_healed_by_the_next_put",
    }

    class Service(DictPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            stored = self.path_infos.get(path_info.store_path.digest)
            if stored is not None and stored.store_path.digest != path_info.store_path.digest:
                return path_info
            return await super().put(path_info)

        async def discard_corrupt(self, digest: bytes) -> None:
            pass


# Upkeep


class TestVerifyFindsNothing(WrongPathInfos):
    breaks: ClassVar = {"test_damaged_path_info_is_found_by_verifying"}

    class Service(DictPathInfoService):
        async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
            progress(len(self.path_infos), None)
            nothing: list[Damage] = []
            for damage in nothing:
                yield damage


class TestStatsCountPuts(WrongPathInfos):
    breaks: ClassVar = {"test_stats_count_what_is_there_or_are_refused"}

    class Service(DictPathInfoService):
        n_puts = 0

        async def put(self, path_info: PathInfo) -> PathInfo:
            self.n_puts += 1
            return await super().put(path_info)

        async def stats(self) -> ServiceStats:
            return ServiceStats(self.n_puts)


class TestForgetsAllWhenClosed(WrongPathInfos):
    breaks: ClassVar = {"test_what_was_deleted_is_absent_after_reopening", "test_what_was_put_is_there_after_reopening"}

    class Service(DictPathInfoService):
        async def aclose(self) -> None:
            self.path_infos.clear()


class TestClosesOnce(WrongPathInfos):
    breaks: ClassVar = {
        "test_closing_twice_is_fine",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_put_is_there_after_reopening",
    }

    class Service(DictPathInfoService):
        closed = False

        async def aclose(self) -> None:
            if self.closed:
                raise Unavailable("Cannot operate on a closed database.")
            self.closed = True


class TestPutsAtOnceMix(WrongPathInfos):
    breaks: ClassVar = {"test_much_at_once_does_not_mix"}

    class Service(DictPathInfoService):
        def __init__(self, path_infos: dict[bytes, PathInfo] | None = None) -> None:
            super().__init__(path_infos)
            self.next: PathInfo | None = None

        async def put(self, path_info: PathInfo) -> PathInfo:
            self.next = path_info
            await asyncio.sleep(0)
            await super().put(self.next)
            return path_info


class TestPutsAtOnceMakeAMixture(WrongPathInfos):
    breaks: ClassVar = {"test_one_path_put_many_times_at_once_is_one_of_them"}

    class Service(DictPathInfoService):
        def __init__(self, path_infos: dict[bytes, PathInfo] | None = None) -> None:
            super().__init__(path_infos)
            self.n_puts = 0

        async def put(self, path_info: PathInfo) -> PathInfo:
            self.n_puts += 1
            await asyncio.sleep(0)
            mixes = self.n_puts > 1 and path_info.store_path.digest in self.path_infos
            await super().put(replace(path_info, nar_size=999) if mixes else path_info)
            await asyncio.sleep(0)
            self.n_puts -= 1
            return path_info


class TestEmptyBatchesAreRefused(WrongPathInfos):
    breaks: ClassVar = {"test_empty_batches_are_fine"}

    class Service(DictPathInfoService):
        async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
            if not digests:
                raise InvalidObject("nothing was asked for")
            return await super().get_many(digests)


class TestNarCalculationIsSomethingElse(WrongPathInfos):
    breaks: ClassVar = {"test_nar_calculation_is_one_or_none"}

    class Service(DictPathInfoService):
        def nar_calculation(self) -> NarCalculationService | None:
            return self  # type: ignore[return-value]


class TestCapabilitiesAreNotAValue(WrongPathInfos):
    breaks: ClassVar = {"test_capabilities_are_stated"}

    class Service(DictPathInfoService):
        @property
        def capabilities(self) -> Capabilities:
            return SimpleNamespace(list=True, delete=True)  # type: ignore[return-value]
