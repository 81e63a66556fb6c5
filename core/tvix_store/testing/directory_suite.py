"""What every directory service promises, as tests; see `DirectoryServiceSuite`."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tvix_store.capabilities import Capabilities
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference, Unsupported
from tvix_store.limits import BATCH_COUNT, CONCURRENCY, U64_MAX
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.testing.cancelling import cancel_at_once
from tvix_store.testing.directory_uploads import (
    TREE,
    DirectoryUploadTests,
    assert_absent,
    assert_whole_and_in_order,
    delete_directories,
    leaf,
    list_directories,
    recursive,
    upload,
)
from tvix_store.testing.fixtures import (
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_COMPLICATED,
    DIRECTORY_DIGESTS,
    DIRECTORY_WITH_KEEP,
    EMPTY_BLOB,
    GOLDEN_DIRECTORIES,
)

__all__ = ["DirectoryDamageTests", "DirectoryPersistenceTests", "DirectoryServiceSuite"]

large = pytest.mark.tvix_store_large


def chain(depth: int) -> list[Directory]:
    """Directories inside of each other, leaf first."""
    directories = [leaf(0)]
    while len(directories) < depth:
        directories.append(Directory({b"down": directories[-1].node()}))
    return directories


class DirectoryServiceSuite(DirectoryUploadTests):
    """The promises of a directory service.

    Subclass it and override the ``service`` fixture::

        class TestSwiftDirectoryService(DirectoryServiceSuite):
            @pytest.fixture
            async def service(self, tmp_path):
                async with SwiftDirectoryService(tmp_path) as service:
                    yield service

    The service is empty at the start of each test. Services that keep what they store across a restart subclass
    `DirectoryPersistenceTests` as well; those that store bytes which could rot, `DirectoryDamageTests`.
    """

    # One directory

    async def test_absent_directory_is_none_not_an_error(self, service: DirectoryService) -> None:
        await assert_absent(service, DIRECTORY_WITH_KEEP)
        await service.put(DIRECTORY_B)
        await assert_absent(service, DIRECTORY_WITH_KEEP)

    @pytest.mark.parametrize("name", GOLDEN_DIRECTORIES)
    async def test_directory_is_found_by_its_golden_digest(self, service: DirectoryService, name: str) -> None:
        await service.put(GOLDEN_DIRECTORIES[name])
        found = await service.get(DIRECTORY_DIGESTS[name])
        assert found == GOLDEN_DIRECTORIES[name]
        assert found is not None
        assert found.digest == DIRECTORY_DIGESTS[name]

    async def test_every_kind_of_node_is_kept(self, service: DirectoryService) -> None:
        entries: dict[bytes, Node] = {
            b"\xff\xfe": SymlinkNode(b"\xc5\xc4\n"),
            b"n" * 255: SymlinkNode(b"t" * 4095),
            b"file": FileNode(EMPTY_BLOB.digest, U64_MAX),
            b"run": FileNode(EMPTY_BLOB.digest, 1, executable=True),
            b"directory": DirectoryNode(DIRECTORY_A.digest, U64_MAX - 5),
        }
        directory = Directory(entries)
        await service.put(directory)
        assert await service.get(directory.digest) == directory

    async def test_directory_is_taken_without_its_children(self, service: DirectoryService) -> None:
        await service.put(DIRECTORY_COMPLICATED)
        assert await service.get(DIRECTORY_COMPLICATED.digest) == DIRECTORY_COMPLICATED
        assert await service.get(DIRECTORY_WITH_KEEP.digest) is None

    async def test_putting_again_is_harmless(self, service: DirectoryService) -> None:
        await service.put(DIRECTORY_WITH_KEEP)
        await service.put(DIRECTORY_WITH_KEEP)
        assert await service.get(DIRECTORY_WITH_KEEP.digest) == DIRECTORY_WITH_KEEP

    # Batches

    async def test_empty_batches_are_fine(self, service: DirectoryService) -> None:
        await service.put_many([])
        assert list(await service.get_many([])) == []

    async def test_batches_answer_in_the_order_asked(self, service: DirectoryService) -> None:
        leaves = [leaf(number) for number in range(40)]
        await service.put_many(leaves)
        asked = [*reversed(leaves), *leaves[::3], leaves[5], leaves[5]]
        assert list(await service.get_many([directory.digest for directory in asked])) == asked

    async def test_batches_answer_for_the_absent_too(self, service: DirectoryService) -> None:
        await service.put_many([leaf(1)])
        asked = [leaf(2), leaf(1), leaf(1), leaf(2)]
        assert list(await service.get_many([directory.digest for directory in asked])) == [None, leaf(1), leaf(1), None]

    async def test_put_many_takes_what_is_there_and_what_comes_twice(self, service: DirectoryService) -> None:
        await service.put(leaf(1))
        await service.put_many([leaf(2), leaf(1), leaf(2)])
        assert [await service.get(leaf(number).digest) for number in (1, 2)] == [leaf(1), leaf(2)]

    async def test_put_many_takes_directories_in_any_order(self, service: DirectoryService) -> None:
        await service.put_many([DIRECTORY_COMPLICATED, DIRECTORY_B, leaf(1), DIRECTORY_WITH_KEEP])
        assert_whole_and_in_order(await recursive(service, DIRECTORY_COMPLICATED.digest), TREE)
        assert await service.get(DIRECTORY_B.digest) == DIRECTORY_B

    @large
    async def test_batches_may_be_longer_than_usual(self, service: DirectoryService) -> None:
        leaves = [leaf(number) for number in range(BATCH_COUNT + 300)]
        await service.put_many(leaves)
        assert list(await service.get_many([directory.digest for directory in leaves])) == leaves

    async def test_cancelled_put_many_leaves_only_whole_directories(self, service: DirectoryService) -> None:
        leaves = [leaf(number) for number in range(3 * CONCURRENCY)]
        await cancel_at_once(service.put_many(leaves), steps=4)
        for directory in leaves:
            assert await service.get(directory.digest) in (None, directory)
        await service.put_many(leaves)
        assert list(await service.get_many([directory.digest for directory in leaves])) == leaves

    @large
    async def test_much_at_once_does_not_mix(self, service: DirectoryService) -> None:
        async def work(number: int) -> None:
            root = Directory({b"child": leaf(number).node()})
            if number % 2:
                await upload(service, leaf(number), root)
            else:
                await service.put_many([root, leaf(number)])
            assert await service.get(root.digest) == root
            assert await recursive(service, root.digest) == [root, leaf(number)]

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(work(number))

    # Whole trees

    async def test_recursive_gives_nothing_for_an_absent_root(self, service: DirectoryService) -> None:
        await service.put(DIRECTORY_WITH_KEEP)
        assert await recursive(service, DIRECTORY_COMPLICATED.digest) == []

    async def test_recursive_gives_the_root_first_and_each_once(self, service: DirectoryService) -> None:
        shared = Directory({b"leaf": leaf(1).node()})
        left, right = Directory({b"s": shared.node(), b"x": leaf(2).node()}), Directory({b"s": shared.node()})
        root = Directory({b"left": left.node(), b"right": right.node(), b"same": right.node(), b"leaf": leaf(1).node()})
        tree = [leaf(1), leaf(2), shared, left, right, root]
        await service.put_many(tree)
        assert_whole_and_in_order(await recursive(service, root.digest), tree)
        assert_whole_and_in_order(await recursive(service, shared.digest), [leaf(1), shared])

    async def test_recursive_tells_of_a_missing_directory(self, service: DirectoryService) -> None:
        root = Directory({b"a": leaf(1).node(), b"b": DIRECTORY_COMPLICATED.node()})
        await service.put_many([root, leaf(1), DIRECTORY_COMPLICATED])
        with pytest.raises(DanglingReference):
            await recursive(service, root.digest)

    @large
    async def test_wide_tree_comes_whole(self, service: DirectoryService) -> None:
        leaves = [leaf(number) for number in range(3000)]
        root = Directory({b"%d" % number: directory.node() for number, directory in enumerate(leaves)})
        assert await upload(service, *leaves, root) == root.digest
        assert_whole_and_in_order(await recursive(service, root.digest), [*leaves, root])

    @large
    async def test_deep_tree_comes_whole(self, service: DirectoryService) -> None:
        directories = chain(200)
        assert await upload(service, *directories) == directories[-1].digest
        assert await recursive(service, directories[-1].digest) == directories[::-1]

    # Listing, deleting, closing

    async def test_capabilities_are_stated(self, service: DirectoryService, store: DirectoryService) -> None:
        assert isinstance(service.capabilities, Capabilities)
        assert store.capabilities == service.capabilities

    async def test_list_gives_every_directory_once_or_is_refused(self, service: DirectoryService) -> None:
        await upload(service, *TREE)
        await service.put_many([leaf(number) for number in range(100)])
        if service.capabilities.list:
            expected = sorted(directory.digest for directory in (*TREE, *map(leaf, range(100))))
            assert await list_directories(service) == expected
        else:
            with pytest.raises(Unsupported):
                await list_directories(service)

    async def test_what_was_deleted_is_absent_or_delete_is_refused(self, service: DirectoryService) -> None:
        await service.put_many([leaf(1), leaf(2)])
        if await delete_directories(service, leaf(1).digest):
            await assert_absent(service, leaf(1))
        else:
            assert await service.get(leaf(1).digest) == leaf(1)
        assert await service.get(leaf(2).digest) == leaf(2)

    async def test_deleting_the_absent_is_fine_or_is_refused(self, service: DirectoryService) -> None:
        await service.put(leaf(1))
        deleted = await delete_directories(service, leaf(3).digest, leaf(1).digest, leaf(1).digest)
        assert await service.get(leaf(1).digest) == (None if deleted else leaf(1))

    async def test_delete_takes_no_children_with_it(self, service: DirectoryService) -> None:
        await upload(service, *TREE)
        await delete_directories(service, TREE[-1].digest)
        assert await service.get(TREE[0].digest) == TREE[0]

    async def test_what_was_deleted_can_be_put_again(self, service: DirectoryService) -> None:
        await upload(service, *TREE)
        await delete_directories(service, TREE[0].digest)
        await upload(service, *TREE)
        assert_whole_and_in_order(await recursive(service, TREE[-1].digest), TREE)

    async def test_stats_count_what_is_there_or_are_refused(self, service: DirectoryService) -> None:
        await service.put_many([leaf(number) for number in range(20)])
        await service.put(leaf(0))
        deleted = await delete_directories(service, leaf(19).digest)
        with contextlib.suppress(Unsupported):
            assert (await service.stats()).objects == (19 if deleted else 20)

    async def test_verifying_what_is_sound_finds_nothing_or_is_refused(self, service: DirectoryService) -> None:
        await service.put_many([*TREE, leaf(1)])
        told: list[int] = []
        if service.capabilities.list:
            assert [damage async for damage in service.verify(lambda done, total: told.append(done))] == []
            assert told == sorted(told)
            assert told[-1] == len(TREE) + 1
        else:
            with pytest.raises(Unsupported):
                [damage async for damage in service.verify()]

    async def test_sync_returns_and_takes_nothing_away(self, service: DirectoryService) -> None:
        await service.sync()
        await service.put(leaf(1))
        await service.sync()
        assert await service.get(leaf(1).digest) == leaf(1)

    async def test_discarding_keeps_what_is_sound(self, service: DirectoryService) -> None:
        await service.put(leaf(1))
        await service.discard_corrupt(leaf(1).digest)
        await service.discard_corrupt(leaf(2).digest)
        assert await service.get(leaf(1).digest) == leaf(1)

    async def test_closing_twice_is_fine(self, service: DirectoryService) -> None:
        await service.put(leaf(1))
        await service.aclose()
        await service.aclose()


class DirectoryPersistenceTests(DirectoryServiceSuite):
    """Further promises of services that keep what they store across a restart."""

    async def reopen(self, service: DirectoryService) -> DirectoryService:
        """Close ``service`` and open what it stored again. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override `reopen`")

    async def test_what_was_put_is_there_after_reopening(self, service: DirectoryService) -> None:
        await upload(service, *TREE)
        await service.put(leaf(1))
        async with await self.reopen(service) as again:
            assert_whole_and_in_order(await recursive(again, TREE[-1].digest), TREE)
            assert await again.get(leaf(1).digest) == leaf(1)

    async def test_what_was_deleted_is_absent_after_reopening(self, service: DirectoryService) -> None:
        await service.put_many([leaf(1), leaf(2)])
        deleted = await delete_directories(service, leaf(1).digest)
        async with await self.reopen(service) as again:
            assert await again.get(leaf(1).digest) == (None if deleted else leaf(1))
            assert await again.get(leaf(2).digest) == leaf(2)


class DirectoryDamageTests(DirectoryServiceSuite):
    """Further promises of services that store bytes which could rot."""

    async def damage(self, service: DirectoryService, digest: B3Digest) -> None:
        """Change a bit of what is stored for the directory, behind the back of ``service``. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override `damage`")

    async def test_damaged_directory_is_never_returned(
        self, service: DirectoryService, store: DirectoryService
    ) -> None:
        await store.put_many(TREE)
        await self.damage(service, TREE[0].digest)
        with pytest.raises(CorruptObject):
            await store.get(TREE[0].digest)

    async def test_damaged_directory_is_not_in_a_batch(
        self, service: DirectoryService, store: DirectoryService
    ) -> None:
        await store.put_many(TREE)
        await self.damage(service, TREE[0].digest)
        with pytest.raises(CorruptObject):
            await store.get_many([directory.digest for directory in TREE])

    async def test_damaged_directory_is_not_in_a_tree(self, service: DirectoryService, store: DirectoryService) -> None:
        await store.put_many(TREE)
        await self.damage(service, TREE[0].digest)
        with pytest.raises(CorruptObject):
            await recursive(store, TREE[-1].digest)
        await store.put_many(TREE)
        assert_whole_and_in_order(await recursive(store, TREE[-1].digest), TREE)

    @pytest.mark.parametrize("batch", [False, True])
    async def test_damaged_directory_is_healed_by_the_next_put(
        self, service: DirectoryService, store: DirectoryService, batch: bool
    ) -> None:
        await store.put(leaf(1))
        await self.damage(service, leaf(1).digest)
        with pytest.raises(CorruptObject):
            await store.get(leaf(1).digest)
        await (store.put_many([leaf(1)]) if batch else store.put(leaf(1)))
        assert await store.get(leaf(1).digest) == leaf(1)

    async def test_damaged_directory_is_found_by_verifying(
        self, service: DirectoryService, store: DirectoryService
    ) -> None:
        await store.put_many([leaf(number) for number in range(9)])
        await self.damage(service, leaf(4).digest)
        if not service.capabilities.list:
            return
        found = [(damage.kind, damage.digest) async for damage in store.verify()]
        assert found == [("directory", str(leaf(4).digest))]
        await store.put(leaf(4))
        assert [damage async for damage in store.verify()] == []
        assert list(await store.get_many([leaf(number).digest for number in range(9)])) == [*map(leaf, range(9))]
