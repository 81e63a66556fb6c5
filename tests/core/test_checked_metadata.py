"""What core adds around every directory service and path info service, whatever the service does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from tvix_store.checked import CheckedDirectoryService, CheckedPathInfoService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, StoreError
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import (
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_COMPLICATED,
    DIRECTORY_D,
    DIRECTORY_WITH_KEEP,
    DIRECTORY_WRONG_SIZE,
    PATH_INFO,
    store_path,
)
from tvix_store.testing.minimal import MinimalDirectoryService, MinimalPathInfoService

pytestmark = pytest.mark.anyio


class Directories(MinimalDirectoryService):
    """Remembers what it was told to discard; its trees can be made up."""

    def __init__(self) -> None:
        super().__init__()
        self.discarded: list[B3Digest] = []
        self.tree: list[Directory | Exception] | None = None

    async def put(self, directory: Directory) -> None:
        self.directories.setdefault(directory.digest, directory)

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        if self.tree is None:
            async for directory in super().get_recursive(root):
                yield directory
        for item in self.tree or []:
            if isinstance(item, Exception):
                raise item
            yield item

    async def discard_corrupt(self, digest: B3Digest) -> None:
        self.discarded.append(digest)
        if digest in self.directories and self.directories[digest].digest != digest:
            del self.directories[digest]


@pytest.fixture
def directories() -> Directories:
    return Directories()


@pytest.fixture
def checked(directories: Directories) -> CheckedDirectoryService:
    return CheckedDirectoryService("disk", directories)


async def collect(service: CheckedDirectoryService, root: Directory) -> list[Directory]:
    return [directory async for directory in service.get_recursive(root.digest)]


class TestDirectories:
    async def test_corrupt_directory_is_never_returned_and_healed(
        self, directories: Directories, checked: CheckedDirectoryService
    ) -> None:
        digest = DIRECTORY_WITH_KEEP.digest
        for read in (checked.get, lambda digest: checked.get_many([digest])):
            directories.directories[digest] = DIRECTORY_B
            with pytest.raises(CorruptObject, match=r"disk: directory .* is corrupt"):
                await read(digest)
            await checked.put(DIRECTORY_WITH_KEEP)
            assert await checked.get(digest) == DIRECTORY_WITH_KEEP
        assert directories.discarded == [digest, digest]

    @pytest.mark.parametrize(
        ("root", "tree"),
        [
            pytest.param(DIRECTORY_D, [DIRECTORY_B], id="another root"),
            pytest.param(DIRECTORY_D, [DIRECTORY_D, DIRECTORY_WITH_KEEP], id="unrelated directory"),
            pytest.param(DIRECTORY_WRONG_SIZE, [DIRECTORY_WRONG_SIZE, DIRECTORY_A], id="wrong size"),
            pytest.param(DIRECTORY_D, [DIRECTORY_D, CorruptObject("bad row")], id="found by the service"),
        ],
    )
    async def test_wrong_tree_is_corrupt_and_what_it_lacks_discarded(
        self,
        directories: Directories,
        checked: CheckedDirectoryService,
        root: Directory,
        tree: list[Directory | Exception],
    ) -> None:
        directories.tree = tree
        with pytest.raises(CorruptObject):
            await collect(checked, root)
        wanted = {root.digest} if tree[0] != root else {child.digest for _, child in root.directories()}
        assert set(directories.discarded) == wanted - {d.digest for d in tree if isinstance(d, Directory)}

    async def test_what_comes_again_in_a_tree_is_dropped(
        self, directories: Directories, checked: CheckedDirectoryService
    ) -> None:
        directories.tree = [DIRECTORY_D, DIRECTORY_B, DIRECTORY_A, DIRECTORY_A, DIRECTORY_D]
        assert await collect(checked, DIRECTORY_D) == [DIRECTORY_D, DIRECTORY_B, DIRECTORY_A]

    async def test_tree_that_ends_early_is_dangling(
        self, directories: Directories, checked: CheckedDirectoryService
    ) -> None:
        directories.tree = [DIRECTORY_COMPLICATED]
        with pytest.raises(
            DanglingReference, match=f"disk: directory {DIRECTORY_WITH_KEEP.digest}".replace("+", r"\+")
        ):
            await collect(checked, DIRECTORY_COMPLICATED)
        assert directories.discarded == []

    async def test_no_tree_at_all_is_absence(self, directories: Directories, checked: CheckedDirectoryService) -> None:
        directories.tree = []
        assert await collect(checked, DIRECTORY_D) == []

    async def test_closures_are_checked_before_the_service_sees_them(
        self, directories: Directories, checked: CheckedDirectoryService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Directory] = []

        class Putter(DirectoryPutter):
            async def put_many(self, directories: Sequence[Directory]) -> None:
                seen.extend(directories)

            async def close(self) -> B3Digest:
                return seen[0].digest

        async def start() -> DirectoryPutter:
            return Putter()

        monkeypatch.setattr(directories, "put_multiple_start", start)
        async with await checked.put_multiple_start() as putter:
            await putter.put_many([DIRECTORY_A, DIRECTORY_A, DIRECTORY_B])
            with pytest.raises(InvalidObject, match="unknown directory was referenced"):
                await putter.put_many([DIRECTORY_COMPLICATED])
            with pytest.raises(CorruptObject, match="uploaded directory"):
                await putter.close()
        assert seen == [DIRECTORY_A, DIRECTORY_B]

    async def test_wrong_number_of_answers_is_refused(
        self, directories: Directories, checked: CheckedDirectoryService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def get_many(digests: Sequence[B3Digest]) -> list[None]:
            return []

        monkeypatch.setattr(directories, "get_many", get_many)
        with pytest.raises(CorruptObject, match="disk: 0 answers to 1 questions"):
            await checked.get_many([DIRECTORY_A.digest])


class PathInfos(MinimalPathInfoService):
    """Remembers what it was told to discard; fails as told."""

    def __init__(self) -> None:
        super().__init__()
        self.discarded: list[bytes] = []
        self.fault: StoreError | None = None

    async def get(self, digest: bytes) -> PathInfo | None:
        if self.fault:
            raise self.fault
        return await super().get(digest)

    async def discard_corrupt(self, digest: bytes) -> None:
        self.discarded.append(digest)


class TestPathInfos:
    @pytest.fixture
    def path_infos(self) -> PathInfos:
        return PathInfos()

    @pytest.fixture
    def store(self, path_infos: PathInfos) -> CheckedPathInfoService:
        return CheckedPathInfoService("disk", path_infos)

    async def test_path_info_of_another_path_is_never_returned(
        self, path_infos: PathInfos, store: CheckedPathInfoService
    ) -> None:
        digest = store_path("wanted").digest
        path_infos.path_infos[digest] = PATH_INFO
        for read in (store.get(digest), store.get_many([digest])):
            with pytest.raises(
                CorruptObject, match=f"disk: path info {digest.hex()} is about another path, 0{{32}}-dummy"
            ):
                await read
        assert path_infos.discarded == [digest, digest]

    async def test_what_the_service_itself_finds_corrupt_is_discarded_too(
        self, path_infos: PathInfos, store: CheckedPathInfoService
    ) -> None:
        digest = store_path("wanted").digest
        path_infos.fault = CorruptObject("bad row")
        for read in (store.get(digest), store.get_many([digest])):
            with pytest.raises(CorruptObject, match="bad row"):
                await read
        assert path_infos.discarded == [digest, digest]

    async def test_what_was_stored_instead_is_refused(
        self, path_infos: PathInfos, store: CheckedPathInfoService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def put(path_info: PathInfo) -> PathInfo:
            return replace(path_info, store_path=store_path("another"))

        monkeypatch.setattr(path_infos, "put", put)
        for write in (store.put(PATH_INFO), store.put_many([PATH_INFO])):
            with pytest.raises(CorruptObject, match=r"disk: stored path info .*-another instead of 0{32}-dummy"):
                await write

    @pytest.mark.parametrize("length", [0, 19, 21])
    async def test_digest_of_another_length_is_invalid(self, store: CheckedPathInfoService, length: int) -> None:
        for call in (store.get(bytes(length)), store.get_many([bytes(length)]), store.delete([bytes(length)])):
            with pytest.raises(InvalidObject, match=f"invalid output digest length: {length} bytes"):
                await call
