"""Directory services whose trees or uploads are wrong in one way each, and the tests that have to find it.

Not collected by itself: `test_wrong_services.py` runs it, and expects the tests in ``breaks`` to fail and no others.
"""

# ruff: noqa: D106

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from suites.dict_services import DictDirectoryService
from suites.wrong_bases import WrongDirectories
from tvix_store.digest import B3Digest
from tvix_store.directory import ClosurePutter, DirectoryPutter, DirectoryService
from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.nodes import Directory

# Whole trees


class TestRecursiveRepeats(WrongDirectories):
    breaks: ClassVar = {"test_recursive_gives_the_root_first_and_each_once", "test_whole_closure_is_stored"}

    class Service(DictDirectoryService):
        async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            directory = self.directories.get(root)
            if directory is not None:
                yield directory
                for _, child in directory.directories():
                    if child.digest not in self.directories:
                        raise DanglingReference(f"directory {child.digest} does not exist")
                    async for below in self.get_recursive(child.digest):
                        yield below


class TestRecursiveLeavesOutTheRoot(WrongDirectories):
    breaks: ClassVar = {
        "test_closure_may_come_one_by_one",
        "test_damaged_directory_is_not_in_a_tree",
        "test_deep_tree_comes_whole",
        "test_much_at_once_does_not_mix",
        "test_nothing_is_visible_before_close",
        "test_put_many_takes_directories_in_any_order",
        "test_recursive_gives_the_root_first_and_each_once",
        "test_refused_closure_takes_nothing_away",
        "test_same_closure_may_be_sent_many_times_at_once",
        "test_uploads_at_once_do_not_mix",
        "test_what_was_deleted_can_be_put_again",
        "test_what_was_put_is_there_after_reopening",
        "test_whole_closure_is_stored",
        "test_wide_tree_comes_whole",
    }

    class Service(DictDirectoryService):
        async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            async for directory in super().get_recursive(root):
                if directory.digest != root or not len(directory):
                    yield directory


class TestRecursiveIsLeavesFirst(WrongDirectories):
    breaks: ClassVar = {
        "test_closure_may_come_one_by_one",
        "test_damaged_directory_is_not_in_a_tree",
        "test_deep_tree_comes_whole",
        "test_much_at_once_does_not_mix",
        "test_nothing_is_visible_before_close",
        "test_put_many_takes_directories_in_any_order",
        "test_recursive_gives_the_root_first_and_each_once",
        "test_refused_closure_takes_nothing_away",
        "test_same_closure_may_be_sent_many_times_at_once",
        "test_uploads_at_once_do_not_mix",
        "test_what_was_deleted_can_be_put_again",
        "test_what_was_put_is_there_after_reopening",
        "test_whole_closure_is_stored",
        "test_wide_tree_comes_whole",
    }

    class Service(DictDirectoryService):
        async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            for directory in reversed([directory async for directory in super().get_recursive(root)]):
                yield directory


class TestRecursiveSortsTheRest(WrongDirectories):
    breaks: ClassVar = {"test_deep_tree_comes_whole", "test_recursive_gives_the_root_first_and_each_once"}

    class Service(DictDirectoryService):
        async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            found = [directory async for directory in super().get_recursive(root)]
            for directory in [*found[:1], *sorted(found[1:], key=lambda directory: directory.digest)]:
                yield directory


class TestRecursiveEndsWhereSomethingIsMissing(WrongDirectories):
    breaks: ClassVar = {"test_recursive_tells_of_a_missing_directory"}

    class Service(DictDirectoryService):
        async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            try:
                async for directory in super().get_recursive(root):
                    yield directory
            except DanglingReference:
                return


class TestRecursiveOfTheAbsentIsAnError(WrongDirectories):
    breaks: ClassVar = {
        "test_absent_directory_is_none_not_an_error",
        "test_cancelled_upload_leaves_nothing",
        "test_nothing_is_visible_before_close",
        "test_recursive_gives_nothing_for_an_absent_root",
        "test_refused_closure_leaves_nothing",
        "test_refused_closure_takes_nothing_away",
        "test_upload_that_was_not_closed_leaves_nothing",
        "test_what_is_stored_already_does_not_complete_a_closure",
        "test_what_was_deleted_is_absent_or_delete_is_refused",
    }

    class Service(DictDirectoryService):
        async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            if root not in self.directories:
                raise DanglingReference(f"directory {root} does not exist")
            async for directory in super().get_recursive(root):
                yield directory


class TestRecursiveHasADepth(WrongDirectories):
    breaks: ClassVar = {
        "test_deep_tree_comes_whole",
        "test_recursive_gives_the_root_first_and_each_once",
        "test_recursive_tells_of_a_missing_directory",
        "test_whole_closure_is_stored",
    }

    class Service(DictDirectoryService):
        async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
            level = [root]
            for _ in range(100):
                found = [self.directories.get(digest) for digest in level]
                level = []
                for directory in found:
                    if directory is not None:
                        yield directory
                        level += [child.digest for _, child in directory.directories()]


# Uploads


class Putter(DirectoryPutter):
    """Puts at once, without a look."""

    def __init__(self, service: DirectoryService) -> None:
        self.service = service
        self.last: Directory | None = None

    async def put_many(self, directories: Sequence[Directory]) -> None:
        for directory in directories:
            await self.service.put(directory)
            self.last = directory

    async def close(self) -> B3Digest:
        if self.last is None:
            raise InvalidObject("got no directories")
        return self.last.digest


class TestUploadStoresAsItGoes(WrongDirectories):
    breaks: ClassVar = {
        "test_cancelled_upload_leaves_nothing",
        "test_nothing_is_visible_before_close",
        "test_refused_closure_leaves_nothing",
        "test_refused_closure_takes_nothing_away",
        "test_upload_that_was_not_closed_leaves_nothing",
    }

    class Service(DictDirectoryService):
        async def put_multiple_start(self) -> DirectoryPutter:
            return Putter(self)


class TestAbandonedUploadIsKept(WrongDirectories):
    breaks: ClassVar = {"test_cancelled_upload_leaves_nothing", "test_upload_that_was_not_closed_leaves_nothing"}

    class Putter(ClosurePutter):
        async def aclose(self) -> None:
            await self.close()

    class Service(DictDirectoryService):
        async def put_multiple_start(self) -> DirectoryPutter:
            return TestAbandonedUploadIsKept.Putter(self)


class TestUploadNamesTheFirst(WrongDirectories):
    breaks: ClassVar = {
        "test_closure_may_come_one_by_one",
        "test_deep_tree_comes_whole",
        "test_refused_closure_takes_nothing_away",
        "test_uploads_at_once_do_not_mix",
        "test_wide_tree_comes_whole",
    }

    class Putter(ClosurePutter):
        first: Directory | None = None

        async def put_many(self, directories: Sequence[Directory]) -> None:
            self.first = self.first or next(iter(directories), None)
            await super().put_many(directories)

        async def close(self) -> B3Digest:
            root = await super().close()
            return self.first.digest if self.first else root

    class Service(DictDirectoryService):
        async def put_multiple_start(self) -> DirectoryPutter:
            return TestUploadNamesTheFirst.Putter(self)


class TestUploadWantsItsOwnSizes(WrongDirectories):
    breaks: ClassVar = {"test_closure_may_state_documented_sizes"}

    class Putter(ClosurePutter):
        def __init__(self, service: DirectoryService) -> None:
            super().__init__(service)
            self.sizes: dict[B3Digest, int] = {}

        async def put_many(self, directories: Sequence[Directory]) -> None:
            for directory in directories:
                for _, child in directory.directories():
                    if self.sizes.get(child.digest, child.size) != child.size:
                        raise InvalidObject(f"directory {directory.digest}: wrong size")
                self.sizes[directory.digest] = directory.size
            await super().put_many(directories)

    class Service(DictDirectoryService):
        async def put_multiple_start(self) -> DirectoryPutter:
            return TestUploadWantsItsOwnSizes.Putter(self)
