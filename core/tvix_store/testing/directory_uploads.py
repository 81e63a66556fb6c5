"""What every directory service promises of the upload of closures; part of the directory suite."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tvix_store.checked import CheckedDirectoryService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import InvalidObject, Unsupported
from tvix_store.nodes import Directory, SymlinkNode
from tvix_store.testing.cancelling import cancel_when
from tvix_store.testing.fixtures import (
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_C,
    DIRECTORY_COMPLICATED,
    DIRECTORY_D,
    DIRECTORY_D_DOCUMENTED,
    DIRECTORY_DIGESTS,
    DIRECTORY_WITH_KEEP,
    DIRECTORY_WRONG_SIZE,
)

__all__ = [
    "TREE",
    "DirectoryUploadTests",
    "assert_absent",
    "assert_whole_and_in_order",
    "delete_directories",
    "leaf",
    "list_directories",
    "recursive",
    "upload",
]

TREE = (DIRECTORY_WITH_KEEP, DIRECTORY_COMPLICATED)
"""A closure, leaves first."""


def leaf(number: int) -> Directory:
    """A directory without directories in it, another one for each number."""
    return Directory({b"leaf %d" % number: SymlinkNode(b"target")})


async def upload(service: DirectoryService, *directories: Directory) -> B3Digest:
    """Put a closure, leaves first, as one batch."""
    async with await service.put_multiple_start() as putter:
        await putter.put_many(directories)
        return await putter.close()


async def recursive(service: DirectoryService, root: B3Digest) -> list[Directory]:
    """All that ``get_recursive`` gives."""
    return [directory async for directory in service.get_recursive(root)]


async def list_directories(service: DirectoryService) -> list[B3Digest]:
    """All that is listed, in order, so that what is listed twice shows."""
    return sorted([digest async for digest in service.list()])


async def delete_directories(service: DirectoryService, *digests: B3Digest) -> bool:
    """Delete; ``False``, having seen that it is refused, if the service does not state that it can."""
    if service.capabilities.delete:
        await service.delete(digests)
        return True
    with pytest.raises(Unsupported):
        await service.delete(digests)
    return False


async def assert_absent(service: DirectoryService, *directories: Directory) -> None:
    """No method that looks them up finds any of them."""
    digests = [directory.digest for directory in directories]
    for digest in digests:
        assert await service.get(digest) is None
        assert await recursive(service, digest) == []
    assert list(await service.get_many(digests)) == [None] * len(digests)
    if service.capabilities.list:
        assert not set(digests) & set(await list_directories(service))


def assert_whole_and_in_order(found: Sequence[Directory], expected: Sequence[Directory]) -> None:
    """``found`` has all that is ``expected``, once each, the last of it first, referenced before it comes."""
    assert [directory.digest for directory in found[:1]] == [expected[-1].digest]
    expected_next = {expected[-1].digest}
    for directory in found:
        assert directory.digest in expected_next, f"{directory} came before anything that refers to it"
        expected_next.update(node.digest for _, node in directory.directories())
    assert sorted(directory.digest for directory in found) == sorted({directory.digest for directory in expected})


class DirectorySuiteBase:
    """What a test of a directory service is given."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The store runs on asyncio alone."""
        return "asyncio"

    @pytest.fixture
    async def service(self) -> DirectoryService:
        """The service under test, empty. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `service`")

    @pytest.fixture
    async def store(self, service: DirectoryService) -> DirectoryService:
        """The service as a composition hands it out: with the checks of core around it."""
        return CheckedDirectoryService("test", service)


class DirectoryUploadTests(DirectorySuiteBase):
    """The upload of closures, and what a refused or abandoned one leaves."""

    @pytest.mark.parametrize(
        "closure",
        [
            pytest.param([DIRECTORY_A], id="A"),
            pytest.param([DIRECTORY_A, DIRECTORY_B], id="A,B"),
            pytest.param([DIRECTORY_A, DIRECTORY_A, DIRECTORY_C], id="A,A,C"),
            pytest.param([DIRECTORY_A, DIRECTORY_C], id="A,C"),
            pytest.param([DIRECTORY_A, DIRECTORY_B, DIRECTORY_D], id="A,B,D"),
        ],
    )
    async def test_whole_closure_is_stored(self, service: DirectoryService, closure: list[Directory]) -> None:
        assert await upload(service, *closure) == closure[-1].digest
        for directory in closure:
            assert await service.get(directory.digest) == directory
        assert_whole_and_in_order(await recursive(service, closure[-1].digest), closure)

    async def test_closure_may_come_one_by_one(self, service: DirectoryService) -> None:
        async with await service.put_multiple_start() as putter:
            for directory in TREE:
                await putter.put_many([directory])
            await putter.put_many([])
            assert await putter.close() == TREE[-1].digest
        assert_whole_and_in_order(await recursive(service, TREE[-1].digest), TREE)

    async def test_closure_may_state_documented_sizes(self, service: DirectoryService) -> None:
        digest = await upload(service, DIRECTORY_A, DIRECTORY_B, DIRECTORY_D_DOCUMENTED)
        assert digest == DIRECTORY_DIGESTS["D_DOCUMENTED"]
        assert await service.get(digest) == DIRECTORY_D_DOCUMENTED

    @pytest.mark.parametrize(
        "closure",
        [
            pytest.param([], id="nothing"),
            pytest.param([DIRECTORY_WITH_KEEP, leaf(1)], id="two roots"),
            pytest.param([DIRECTORY_A, DIRECTORY_C, DIRECTORY_B], id="A,C,B"),
            pytest.param([DIRECTORY_COMPLICATED], id="child never sent"),
            pytest.param([DIRECTORY_COMPLICATED, DIRECTORY_WITH_KEEP], id="child sent after"),
            pytest.param([DIRECTORY_A, DIRECTORY_WRONG_SIZE], id="wrong size"),
        ],
    )
    async def test_refused_closure_leaves_nothing(self, store: DirectoryService, closure: list[Directory]) -> None:
        with pytest.raises(InvalidObject):
            await upload(store, *closure)
        await assert_absent(store, *closure)

    async def test_what_is_stored_already_does_not_complete_a_closure(self, store: DirectoryService) -> None:
        await upload(store, DIRECTORY_A)
        with pytest.raises(InvalidObject):
            await upload(store, DIRECTORY_B)
        await assert_absent(store, DIRECTORY_B)

    async def test_refused_closure_takes_nothing_away(self, store: DirectoryService) -> None:
        await upload(store, *TREE)
        with pytest.raises(InvalidObject):
            await upload(store, *TREE, leaf(1))
        assert_whole_and_in_order(await recursive(store, TREE[-1].digest), TREE)
        await assert_absent(store, leaf(1))

    async def test_nothing_is_visible_before_close(self, service: DirectoryService) -> None:
        async with await service.put_multiple_start() as putter:
            await putter.put_many(TREE)
            await assert_absent(service, *TREE)
            await putter.close()
        assert_whole_and_in_order(await recursive(service, TREE[-1].digest), TREE)

    async def test_upload_that_was_not_closed_leaves_nothing(self, service: DirectoryService) -> None:
        async with await service.put_multiple_start() as putter:
            await putter.put_many(TREE)
        await putter.aclose()
        await assert_absent(service, *TREE)

    async def test_cancelled_upload_leaves_nothing(self, service: DirectoryService) -> None:
        sent = asyncio.Event()

        async def send() -> None:
            async with await service.put_multiple_start() as putter:
                await putter.put_many(TREE)
                sent.set()
                await asyncio.Event().wait()

        await cancel_when(sent, send())
        await assert_absent(service, *TREE)

    async def test_uploads_at_once_do_not_mix(self, service: DirectoryService) -> None:
        async with await service.put_multiple_start() as first, await service.put_multiple_start() as second:
            await first.put_many(TREE[:1])
            await second.put_many([DIRECTORY_A])
            await first.put_many(TREE[1:])
            await second.put_many([DIRECTORY_B])
            assert [await second.close(), await first.close()] == [DIRECTORY_B.digest, TREE[-1].digest]
        assert_whole_and_in_order(await recursive(service, DIRECTORY_B.digest), [DIRECTORY_A, DIRECTORY_B])

    async def test_same_closure_may_be_sent_many_times_at_once(self, service: DirectoryService) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(upload(service, *TREE))
        assert_whole_and_in_order(await recursive(service, TREE[-1].digest), TREE)
