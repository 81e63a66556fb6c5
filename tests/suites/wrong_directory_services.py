"""Directory services that are wrong in one way each, and the tests of the suite that have to find it.

Not collected by itself: `test_wrong_services.py` runs it, and expects the tests in ``breaks`` to fail and no others.
"""

# ruff: noqa: D106

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import ClassVar

from suites.dict_services import DictDirectoryService
from suites.wrong_bases import WrongDirectories
from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject, Unavailable
from tvix_store.limits import BATCH_COUNT
from tvix_store.nodes import Directory, Node
from tvix_store.verification import Damage, VerifyProgress, no_progress

# One directory


class TestAbsenceIsAnError(WrongDirectories):
    breaks: ClassVar = {
        "test_absent_directory_is_none_not_an_error",
        "test_batches_answer_for_the_absent_too",
        "test_cancelled_upload_leaves_nothing",
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_directory_is_taken_without_its_children",
        "test_nothing_is_visible_before_close",
        "test_recursive_gives_nothing_for_an_absent_root",
        "test_recursive_tells_of_a_missing_directory",
        "test_refused_closure_leaves_nothing",
        "test_refused_closure_takes_nothing_away",
        "test_upload_that_was_not_closed_leaves_nothing",
        "test_what_is_stored_already_does_not_complete_a_closure",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictDirectoryService):
        async def get(self, digest: B3Digest) -> Directory | None:
            if digest not in self.directories:
                raise Unavailable(f"directory {digest} not found")
            return self.directories[digest]


class TestFindsAnotherDirectory(WrongDirectories):
    breaks: ClassVar = {
        "test_batches_may_be_longer_than_usual",
        "test_deep_tree_comes_whole",
        "test_much_at_once_does_not_mix",
        "test_wide_tree_comes_whole",
    }

    class Service(DictDirectoryService):
        async def get(self, digest: B3Digest) -> Directory | None:
            return next((found for key, found in self.directories.items() if key.raw[0] == digest.raw[0]), None)


class TestNamesAreText(WrongDirectories):
    breaks: ClassVar = {"test_every_kind_of_node_is_kept"}

    class Service(DictDirectoryService):
        async def put(self, directory: Directory) -> None:
            entries: dict[bytes, Node] = {
                name.decode(errors="replace").encode(): node for name, node in directory.items()
            }
            self.directories.setdefault(directory.digest, Directory(entries))


class TestRefusesWithoutChildren(WrongDirectories):
    breaks: ClassVar = {
        "test_absent_directory_is_none_not_an_error",
        "test_directory_is_found_by_its_golden_digest",
        "test_directory_is_taken_without_its_children",
        "test_every_kind_of_node_is_kept",
        "test_much_at_once_does_not_mix",
        "test_put_many_takes_directories_in_any_order",
        "test_recursive_tells_of_a_missing_directory",
    }

    class Service(DictDirectoryService):
        async def put(self, directory: Directory) -> None:
            for _, child in directory.directories():
                if child.digest not in self.directories:
                    raise InvalidObject(f"directory {child.digest} does not exist")
            await super().put(directory)


class TestRefusesWhatIsThere(WrongDirectories):
    breaks: ClassVar = {
        "test_damaged_directory_is_not_in_a_tree",
        "test_put_many_takes_what_is_there_and_what_comes_twice",
        "test_putting_again_is_harmless",
        "test_same_closure_may_be_sent_many_times_at_once",
        "test_stats_count_what_is_there_or_are_refused",
        "test_what_was_deleted_can_be_put_again",
    }

    class Service(DictDirectoryService):
        async def put(self, directory: Directory) -> None:
            if directory.digest in self.directories:
                raise Unavailable("UNIQUE constraint failed")
            await super().put(directory)


# Batches


class TestGetManyIsInOrderOfDigests(WrongDirectories):
    breaks: ClassVar = {
        "test_batches_answer_for_the_absent_too",
        "test_batches_answer_in_the_order_asked",
        "test_batches_may_be_longer_than_usual",
        "test_damaged_directory_is_found_by_verifying",
        "test_verifying_what_is_sound_finds_nothing_or_is_refused",
    }

    class Service(DictDirectoryService):
        async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
            return await super().get_many(sorted(digests))


class TestGetManyLeavesOutTheAbsent(WrongDirectories):
    breaks: ClassVar = {
        "test_batches_answer_for_the_absent_too",
        "test_cancelled_upload_leaves_nothing",
        "test_nothing_is_visible_before_close",
        "test_refused_closure_leaves_nothing",
        "test_upload_that_was_not_closed_leaves_nothing",
    }

    class Service(DictDirectoryService):
        async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
            found = await super().get_many(digests)
            return [directory for directory in found if directory is not None] if len(digests) > 1 else found


class TestPutManyStopsAtAThousand(WrongDirectories):
    breaks: ClassVar = {"test_batches_may_be_longer_than_usual", "test_wide_tree_comes_whole"}

    class Service(DictDirectoryService):
        async def put_many(self, directories: Sequence[Directory]) -> None:
            await super().put_many(directories[: BATCH_COUNT // 2])


class TestEmptyBatchesAreRefused(WrongDirectories):
    breaks: ClassVar = {"test_empty_batches_are_fine"}

    class Service(DictDirectoryService):
        async def put_many(self, directories: Sequence[Directory]) -> None:
            if not directories:
                raise InvalidObject("nothing was given")
            await super().put_many(directories)


# Listing, deleting, corruption, closing


class TestListIsShort(WrongDirectories):
    breaks: ClassVar = {"test_list_gives_every_directory_once_or_is_refused"}

    class Service(DictDirectoryService):
        async def list(self) -> AsyncIterator[B3Digest]:
            for digest in list(self.directories)[:100]:
                yield digest


class TestDeleteDoesNothing(WrongDirectories):
    breaks: ClassVar = {
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_stats_count_what_is_there_or_are_refused",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictDirectoryService):
        async def delete(self, digests: Sequence[B3Digest]) -> None:
            pass


class TestDeleteTakesChildrenAlong(WrongDirectories):
    breaks: ClassVar = {"test_delete_takes_no_children_with_it"}

    class Service(DictDirectoryService):
        async def delete(self, digests: Sequence[B3Digest]) -> None:
            for digest in digests:
                directory = self.directories.pop(digest, Directory())
                await self.delete([child.digest for _, child in directory.directories()])


class TestDoesWhatItDoesNotState(WrongDirectories):
    breaks: ClassVar = {
        "test_delete_takes_no_children_with_it",
        "test_deleting_the_absent_is_fine_or_is_refused",
        "test_list_gives_every_directory_once_or_is_refused",
        "test_stats_count_what_is_there_or_are_refused",
        "test_verifying_what_is_sound_finds_nothing_or_is_refused",
        "test_what_was_deleted_can_be_put_again",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictDirectoryService):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities()


class TestDiscardsWhatIsSound(WrongDirectories):
    breaks: ClassVar = {"test_discarding_keeps_what_is_sound"}

    class Service(DictDirectoryService):
        async def discard_corrupt(self, digest: B3Digest) -> None:
            self.directories.pop(digest, None)


class TestNeverHeals(WrongDirectories):
    breaks: ClassVar = {
        "test_damaged_directory_is_found_by_verifying",
        "test_damaged_directory_is_healed_by_the_next_put",
        "test_damaged_directory_is_not_in_a_tree",
    }

    class Service(DictDirectoryService):
        async def discard_corrupt(self, digest: B3Digest) -> None:
            pass


class TestForgetsAllWhenClosed(WrongDirectories):
    breaks: ClassVar = {"test_what_was_deleted_is_absent_after_reopening", "test_what_was_put_is_there_after_reopening"}

    class Service(DictDirectoryService):
        async def aclose(self) -> None:
            self.directories.clear()


class TestClosesOnce(WrongDirectories):
    breaks: ClassVar = {
        "test_closing_twice_is_fine",
        "test_what_was_deleted_is_absent_after_reopening",
        "test_what_was_put_is_there_after_reopening",
    }

    class Service(DictDirectoryService):
        closed = False

        async def aclose(self) -> None:
            if self.closed:
                raise Unavailable("Cannot operate on a closed database.")
            self.closed = True


class TestCapabilitiesAreNotAValue(WrongDirectories):
    breaks: ClassVar = {"test_capabilities_are_stated"}

    class Service(DictDirectoryService):
        @property
        def capabilities(self) -> Capabilities:
            return SimpleNamespace(list=True, delete=True)  # type: ignore[return-value]


# Upkeep


class TestVerifyFindsNothing(WrongDirectories):
    breaks: ClassVar = {"test_damaged_directory_is_found_by_verifying"}

    class Service(DictDirectoryService):
        async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
            progress(len(self.directories), None)
            nothing: list[Damage] = []
            for damage in nothing:
                yield damage


class TestVerifyStopsAtTheFirst(WrongDirectories):
    breaks: ClassVar = {"test_verifying_what_is_sound_finds_nothing_or_is_refused"}

    class Service(DictDirectoryService):
        async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
            async for damage in super().verify():
                yield damage
            progress(1, None)


class TestSyncDropsWhatIsNotDurable(WrongDirectories):
    breaks: ClassVar = {"test_sync_returns_and_takes_nothing_away"}

    class Service(DictDirectoryService):
        async def sync(self) -> None:
            self.directories.clear()
