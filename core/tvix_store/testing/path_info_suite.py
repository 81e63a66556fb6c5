"""What every path info service promises, as tests; see `PathInfoServiceSuite`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tvix_store.capabilities import Capabilities
from tvix_store.checked import CheckedPathInfoService
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import CorruptObject, InvalidObject, Unsupported
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import BATCH_COUNT, CONCURRENCY, U64_MAX
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.path_info import PathInfo, PathInfoService, Signature
from tvix_store.store_path import StorePath
from tvix_store.testing.cancelling import cancel_at_once
from tvix_store.testing.fixtures import (
    DIRECTORY_COMPLICATED,
    GOLDEN_PATH_INFOS,
    HELLOWORLD_BLOB,
    PATH_INFO,
    PATH_INFO_FULL,
    PATH_INFO_SIGNED,
    PATH_INFO_SYMLINK,
    contents,
    store_path,
)

__all__ = ["PathInfoDamageTests", "PathInfoPersistenceTests", "PathInfoServiceSuite"]

large = pytest.mark.tvix_store_large

ABSENT = bytes(range(20))
CONTENT_ADDRESSES = [
    ContentAddress(method, NixHash(algorithm, contents(algorithm.digest_size)))
    for method in ContentAddressMethod
    for algorithm in HashAlgorithm
    if method is not ContentAddressMethod.TEXT or algorithm is HashAlgorithm.SHA256
]


def path_info(number: int) -> PathInfo:
    """A path info with little in it, another one for each number."""
    return PathInfo(
        store_path=store_path(f"path-{number}"),
        node=SymlinkNode(b"target %d" % number),
        nar_size=number,
        nar_sha256=contents(32, number),
    )


def signature(number: int) -> Signature:
    """Something that has the form of a signature."""
    return Signature(f"key-{number}", contents(64, number))


def key(info: PathInfo) -> bytes:
    """What a path info is found by."""
    return info.store_path.digest


def as_given(stored: PathInfo, given: PathInfo) -> PathInfo:
    """``stored`` without the signatures that the service has added at the end, which it may."""
    return replace(stored, signatures=stored.signatures[: len(given.signatures)])


async def assert_kept(service: PathInfoService, given: PathInfo) -> None:
    """Put a path info, and find it as ``put`` said that it was stored."""
    stored = await service.put(given)
    assert as_given(stored, given) == given
    assert await service.get(key(given)) == stored


async def list_path_infos(service: PathInfoService) -> Sequence[PathInfo]:
    """All that is listed, in order of the paths, so that what is listed twice shows."""
    return sorted([info async for info in service.list()], key=lambda info: info.store_path)


async def delete_path_infos(service: PathInfoService, *digests: bytes) -> bool:
    """Delete; ``False``, having seen that it is refused, if the service does not state that it can."""
    if service.capabilities.delete:
        await service.delete(digests)
        return True
    with pytest.raises(Unsupported):
        await service.delete(digests)
    return False


async def assert_absent(service: PathInfoService, digest: bytes) -> None:
    """No method that looks it up finds it."""
    assert await service.get(digest) is None
    assert list(await service.get_many([digest])) == [None]
    if service.capabilities.list:
        assert digest not in [key(info) for info in await list_path_infos(service)]


class PathInfoServiceSuite:
    """The promises of a path info service.

    Subclass it and override the ``service`` fixture::

        class TestSwiftPathInfoService(PathInfoServiceSuite):
            @pytest.fixture
            async def service(self, tmp_path):
                async with SwiftPathInfoService(tmp_path) as service:
                    yield service

    The service is empty at the start of each test. It may add signatures to what is put, behind those that are there.
    Services that keep what they store across a restart subclass `PathInfoPersistenceTests` as well; those that
    store bytes which could rot, `PathInfoDamageTests`.
    """

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The store runs on asyncio alone."""
        return "asyncio"

    @pytest.fixture
    async def service(self) -> PathInfoService:
        """The service under test, empty. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `service`")

    @pytest.fixture
    async def store(self, service: PathInfoService) -> PathInfoService:
        """The service as a composition hands it out: with the checks of core around it."""
        return CheckedPathInfoService("test", service)

    # One path info

    async def test_absent_path_info_is_none_not_an_error(self, service: PathInfoService) -> None:
        await assert_absent(service, ABSENT)
        await service.put(PATH_INFO)
        await assert_absent(service, ABSENT)

    @pytest.mark.parametrize("name", GOLDEN_PATH_INFOS)
    async def test_golden_path_info_is_kept(self, service: PathInfoService, name: str) -> None:
        await assert_kept(service, GOLDEN_PATH_INFOS[name])

    @pytest.mark.parametrize(
        "node",
        [
            pytest.param(FileNode(HELLOWORLD_BLOB.digest, 12), id="file"),
            pytest.param(FileNode(HELLOWORLD_BLOB.digest, U64_MAX, executable=True), id="executable"),
            pytest.param(SymlinkNode(b"\xff\xfe\n"), id="symlink"),
            pytest.param(DIRECTORY_COMPLICATED.node(), id="directory"),
            pytest.param(DirectoryNode(HELLOWORLD_BLOB.digest, U64_MAX), id="large directory"),
        ],
    )
    async def test_every_kind_of_root_is_kept(self, service: PathInfoService, node: Node) -> None:
        await assert_kept(service, replace(path_info(1), node=node))

    @pytest.mark.parametrize("ca", [pytest.param(ca, id=str(ca)[:16]) for ca in CONTENT_ADDRESSES])
    async def test_every_kind_of_content_address_is_kept(self, service: PathInfoService, ca: ContentAddress) -> None:
        await assert_kept(service, replace(path_info(1), ca=ca))

    @pytest.mark.parametrize("nar_size", [0, 1, 2**31, 2**63 - 1, 2**63, U64_MAX])
    async def test_nar_sizes_up_to_64_bits_are_kept(self, service: PathInfoService, nar_size: int) -> None:
        await assert_kept(service, replace(path_info(1), nar_size=nar_size))

    async def test_order_of_references_is_kept(self, service: PathInfoService) -> None:
        one, two, three = (store_path(f"reference-{number}") for number in range(3))
        await assert_kept(service, replace(path_info(1), references=(two, one, three, two)))

    async def test_order_of_signatures_is_kept(self, service: PathInfoService) -> None:
        signatures = (signature(3), signature(1), signature(2), Signature("", bytes(64)), Signature("a:b", bytes(64)))
        await assert_kept(service, replace(path_info(1), signatures=signatures))

    async def test_many_references_are_kept(self, service: PathInfoService) -> None:
        references = tuple(store_path(f"reference-{number}") for number in range(2000))
        await assert_kept(service, replace(path_info(1), references=references))

    async def test_long_names_are_kept(self, service: PathInfoService) -> None:
        path = store_path("n" * 211)
        await assert_kept(service, replace(path_info(1), store_path=path, deriver=path, references=(path,)))

    async def test_another_put_replaces_the_first(self, service: PathInfoService) -> None:
        for given in (PATH_INFO_FULL, PATH_INFO_SYMLINK, PATH_INFO_SIGNED, PATH_INFO):
            await assert_kept(service, given)
        assert as_given(*await self._found_and_given(service, PATH_INFO)) == PATH_INFO

    async def _found_and_given(self, service: PathInfoService, given: PathInfo) -> tuple[PathInfo, PathInfo]:
        found = await service.get(key(given))
        assert found is not None
        return found, given

    async def test_metadata_is_what_get_says(self, service: PathInfoService) -> None:
        stored = await service.put(PATH_INFO_FULL)
        metadata = await service.get_metadata(key(stored))
        assert metadata is not None
        assert PathInfo.of(metadata, stored.node) == stored
        assert await service.get_metadata(path_info(1).store_path.digest) is None

    async def test_only_the_digest_of_the_path_is_the_key(self, service: PathInfoService) -> None:
        renamed = replace(path_info(1), store_path=StorePath(key(path_info(1)), "another-name"), nar_size=77)
        await service.put(path_info(1))
        stored = await service.put(renamed)
        assert await service.get(key(path_info(1))) == stored
        if service.capabilities.list:
            assert await list_path_infos(service) == [stored]

    # Batches

    async def test_empty_batches_are_fine(self, service: PathInfoService) -> None:
        assert list(await service.put_many([])) == []
        assert list(await service.get_many([])) == []

    async def test_put_many_is_as_good_as_put(self, service: PathInfoService) -> None:
        given = [path_info(number) for number in range(40)]
        stored = list(await service.put_many(given))
        assert [as_given(s, g) for s, g in zip(stored, given, strict=True)] == given
        assert [await service.get(key(info)) for info in given] == stored

    async def test_last_one_of_a_batch_counts(self, service: PathInfoService) -> None:
        given = [PATH_INFO_FULL, path_info(1), PATH_INFO_SYMLINK]
        stored = list(await service.put_many(given))
        assert [as_given(s, g) for s, g in zip(stored, given, strict=True)] == given
        assert await service.get(key(PATH_INFO)) == stored[-1]

    async def test_batches_answer_in_the_order_asked(self, service: PathInfoService) -> None:
        stored = list(await service.put_many([path_info(number) for number in range(40)]))
        asked = [*reversed(stored), *stored[::3], stored[5], stored[5]]
        assert list(await service.get_many([key(info) for info in asked])) == asked

    async def test_batches_answer_for_the_absent_too(self, service: PathInfoService) -> None:
        stored = await service.put(PATH_INFO)
        assert list(await service.get_many([ABSENT, key(stored), key(stored), ABSENT])) == [None, stored, stored, None]

    @large
    async def test_batches_may_be_longer_than_usual(self, service: PathInfoService) -> None:
        stored = list(await service.put_many([path_info(number) for number in range(BATCH_COUNT + 300)]))
        assert list(await service.get_many([key(info) for info in stored])) == stored

    async def test_cancelled_put_many_leaves_only_whole_path_infos(self, service: PathInfoService) -> None:
        given = [path_info(number) for number in range(3 * CONCURRENCY)]
        await cancel_at_once(service.put_many(given), steps=4)
        for info in given:
            found = await service.get(key(info))
            assert found is None or as_given(found, info) == info
        stored = list(await service.put_many(given))
        assert list(await service.get_many([key(info) for info in given])) == stored

    @large
    async def test_much_at_once_does_not_mix(self, service: PathInfoService) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(assert_kept(service, path_info(number)))

    async def test_one_path_put_many_times_at_once_is_one_of_them(self, service: PathInfoService) -> None:
        given = [replace(path_info(1), nar_size=number) for number in range(16)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(service.put(info)) for info in given]
        assert await service.get(key(given[0])) in [task.result() for task in tasks]

    # Bad input

    @pytest.mark.parametrize("length", [0, 19, 21, 32])
    async def test_digest_of_another_length_is_invalid(self, store: PathInfoService, length: int) -> None:
        with pytest.raises(InvalidObject):
            await store.get(bytes(length))
        with pytest.raises(InvalidObject):
            await store.get_many([ABSENT, bytes(length)])

    # Listing, deleting, closing

    async def test_capabilities_are_stated(self, service: PathInfoService, store: PathInfoService) -> None:
        assert isinstance(service.capabilities, Capabilities)
        assert store.capabilities == service.capabilities

    async def test_list_gives_every_path_info_once_or_is_refused(self, service: PathInfoService) -> None:
        assert service.capabilities.list is False or await list_path_infos(service) == []
        stored = list(await service.put_many([path_info(number) for number in range(100)]))
        if service.capabilities.list:
            assert await list_path_infos(service) == sorted(stored, key=lambda info: info.store_path)
        else:
            with pytest.raises(Unsupported):
                await list_path_infos(service)

    async def test_what_was_deleted_is_absent_or_delete_is_refused(self, service: PathInfoService) -> None:
        gone, kept = await service.put_many([path_info(1), path_info(2)])
        if await delete_path_infos(service, key(gone)):
            await assert_absent(service, key(gone))
        else:
            assert await service.get(key(gone)) == gone
        assert await service.get(key(kept)) == kept

    async def test_deleting_the_absent_is_fine_or_is_refused(self, service: PathInfoService) -> None:
        stored = await service.put(path_info(1))
        deleted = await delete_path_infos(service, ABSENT, key(stored), key(stored))
        assert await service.get(key(stored)) == (None if deleted else stored)

    async def test_what_was_deleted_can_be_put_again(self, service: PathInfoService) -> None:
        for given in (PATH_INFO_FULL, PATH_INFO):
            await assert_kept(service, given)
            await delete_path_infos(service, key(given))
            await assert_kept(service, given)

    async def test_stats_count_what_is_there_or_are_refused(self, service: PathInfoService) -> None:
        stored = await service.put_many([path_info(number) for number in range(20)])
        await service.put(path_info(0))
        deleted = await delete_path_infos(service, key(stored[-1]))
        with contextlib.suppress(Unsupported):
            assert (await service.stats()).objects == (19 if deleted else 20)

    async def test_verifying_what_is_sound_finds_nothing_or_is_refused(self, service: PathInfoService) -> None:
        await service.put_many([path_info(number) for number in range(20)])
        told: list[int] = []
        if service.capabilities.list:
            assert [damage async for damage in service.verify(lambda done, total: told.append(done))] == []
            assert told == sorted(told)
            assert told[-1] == 20
        else:
            with pytest.raises(Unsupported):
                [damage async for damage in service.verify()]

    async def test_discarding_keeps_what_is_sound(self, service: PathInfoService) -> None:
        stored = await service.put(path_info(1))
        await service.discard_corrupt(key(stored))
        await service.discard_corrupt(ABSENT)
        assert await service.get(key(stored)) == stored

    async def test_nar_calculation_is_one_or_none(self, service: PathInfoService) -> None:
        assert isinstance(service.nar_calculation(), NarCalculationService | None)

    async def test_closing_twice_is_fine(self, service: PathInfoService) -> None:
        await service.put(path_info(1))
        await service.aclose()
        await service.aclose()


class PathInfoPersistenceTests(PathInfoServiceSuite):
    """Further promises of services that keep what they store across a restart."""

    async def reopen(self, service: PathInfoService) -> PathInfoService:
        """Close ``service`` and open what it stored again. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override `reopen`")

    async def test_what_was_put_is_there_after_reopening(self, service: PathInfoService) -> None:
        stored = [await service.put(PATH_INFO_FULL), *await service.put_many([path_info(1), path_info(2)])]
        async with await self.reopen(service) as again:
            assert list(await again.get_many([key(info) for info in stored])) == stored

    async def test_what_was_deleted_is_absent_after_reopening(self, service: PathInfoService) -> None:
        gone, kept = await service.put_many([path_info(1), path_info(2)])
        deleted = await delete_path_infos(service, key(gone))
        async with await self.reopen(service) as again:
            assert await again.get(key(gone)) == (None if deleted else gone)
            assert await again.get(key(kept)) == kept


class PathInfoDamageTests(PathInfoServiceSuite):
    """Further promises of services that store bytes which could rot."""

    async def damage(self, service: PathInfoService, digest: bytes) -> None:
        """Store something else than a path info of this path, behind the back of ``service``. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has to override `damage`")

    async def test_damaged_path_info_is_never_returned(self, service: PathInfoService, store: PathInfoService) -> None:
        stored = await store.put(path_info(1))
        await self.damage(service, key(stored))
        with pytest.raises(CorruptObject):
            await store.get(key(stored))

    async def test_damaged_path_info_is_not_in_a_batch(self, service: PathInfoService, store: PathInfoService) -> None:
        stored = await store.put_many([path_info(1), path_info(2)])
        await self.damage(service, key(stored[1]))
        with pytest.raises(CorruptObject):
            await store.get_many([key(info) for info in stored])

    async def test_damaged_path_info_is_healed_by_the_next_put(
        self, service: PathInfoService, store: PathInfoService
    ) -> None:
        stored = await store.put(path_info(1))
        await self.damage(service, key(stored))
        with pytest.raises(CorruptObject):
            await store.get(key(stored))
        assert await store.put(path_info(1)) == stored
        assert await store.get(key(stored)) == stored

    async def test_damaged_path_info_is_found_by_verifying(
        self, service: PathInfoService, store: PathInfoService
    ) -> None:
        stored = await store.put_many([path_info(number) for number in range(9)])
        await self.damage(service, key(stored[4]))
        if not service.capabilities.list:
            return
        assert [damage.kind async for damage in store.verify()] == ["path info"]
        assert await store.put(path_info(4)) == stored[4]
        assert [damage async for damage in store.verify()] == []
        assert list(await store.get_many([key(info) for info in stored])) == list(stored)
