"""What a fallback does with each answer and failure of its services, method by method."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.spread.cells import BATCHES, KINDS, OBJECTS, OTHERS, READS, WRITES, Member, key, member, put
from tvix_store.capabilities import Capabilities
from tvix_store.errors import DanglingReference, Unavailable, Unsupported
from tvix_store.testing.blob_access import read_blob
from tvix_store.testing.fixtures import DIRECTORY_A, DIRECTORY_B
from tvix_store_spread.fallback import FallbackBlobService, FallbackDirectoryService, FallbackPathInfoService

pytestmark = pytest.mark.anyio

reads = pytest.mark.parametrize(("kind", "method"), READS)
writes = pytest.mark.parametrize(("kind", "method"), WRITES)
kinds = pytest.mark.parametrize("kind", KINDS)
DOWN = Unavailable("down")


def fallback(kind: str, *members: Member, skips_errors: bool = False) -> Any:
    services = {f"m{i}": each.service for i, each in enumerate(members)}
    if kind == "blob":
        return FallbackBlobService("test", services, skips_errors=skips_errors)
    if kind == "directory":
        return FallbackDirectoryService("test", services, skips_errors=skips_errors)
    return FallbackPathInfoService("test", services, skips_errors=skips_errors)


@reads
async def test_the_first_that_has_it_answers(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory)
    assert await READS[kind, method](fallback(kind, first, second))
    assert second.recorder.calls == []


@reads
async def test_a_miss_goes_to_the_next(kind: str, method: str) -> None:
    first, second, third = member(kind), member(kind), member(kind)
    await put(kind, second.memory)
    assert await READS[kind, method](fallback(kind, first, second, third))
    assert third.recorder.calls == []
    assert not await READS[kind, method](first.memory)  # nothing is filled


@reads
async def test_what_all_lack_is_absent(kind: str, method: str) -> None:
    assert not await READS[kind, method](fallback(kind, member(kind), member(kind)))


@reads
async def test_an_error_is_no_miss(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, second.memory)
    first.fail(DOWN)
    with pytest.raises(Unavailable, match="down"):
        await READS[kind, method](fallback(kind, first, second))
    assert second.recorder.calls == []


@reads
async def test_an_error_is_skipped_if_it_is_to_be(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, second.memory)
    first.fail(DOWN)
    assert await READS[kind, method](fallback(kind, first, second, skips_errors=True))


@reads
async def test_what_could_not_be_found_out_is_not_absent(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    first.fail(DOWN)
    with pytest.raises(Unavailable, match="down"):
        await READS[kind, method](fallback(kind, first, second, skips_errors=True))
    assert second.recorder.calls


@pytest.mark.parametrize(("kind", "method"), BATCHES)
async def test_what_is_missing_goes_on_as_one_batch(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory, OBJECTS[kind])
    await put(kind, second.memory, OTHERS[kind])
    keys = [key(kind, thing) for thing in (OTHERS[kind], OBJECTS[kind], OTHERS[kind])]
    answers = await getattr(fallback(kind, first, second), method)(keys)
    assert not {None, False} & {*answers}
    assert first.recorder.calls == [(method, 2)]
    assert second.recorder.calls == [(method, 1)]


async def test_a_tree_may_lie_in_several() -> None:
    first, second = member("directory"), member("directory")
    await put("directory", first.memory, DIRECTORY_B)
    await put("directory", second.memory, DIRECTORY_A)
    tree = fallback("directory", first, second).get_recursive(DIRECTORY_B.digest)
    assert [directory async for directory in tree] == [DIRECTORY_B, DIRECTORY_A]


async def test_what_is_missing_in_a_tree_is_told() -> None:
    first, second = member("directory"), member("directory")
    await put("directory", second.memory, DIRECTORY_B)
    with pytest.raises(DanglingReference):
        async for _ in fallback("directory", first, second).get_recursive(DIRECTORY_B.digest):
            pass


@pytest.mark.parametrize("skips_errors", [False, True])
async def test_an_error_in_the_middle_of_a_blob_is_skipped_if_it_is_to_be(skips_errors: bool) -> None:
    first, second = member("blob"), member("blob")
    await put("blob", first.memory)
    await put("blob", second.memory)
    first.fail(DOWN, "reader.read")
    service = fallback("blob", first, second, skips_errors=skips_errors)
    if skips_errors:
        assert await read_blob(service, OBJECTS["blob"].digest) == OBJECTS["blob"].data
    else:
        with pytest.raises(Unavailable):
            await read_blob(service, OBJECTS["blob"].digest)


class ReadOnly(Member):
    def __init__(self, kind: str) -> None:
        inner = member(kind)
        super().__init__(inner.memory, inner.recorder, inner.service)
        self.service.__class__ = type("ReadOnly", (type(self.service),), {"capabilities": Capabilities(put=False)})


@writes
async def test_writes_go_to_the_first_that_takes_any(kind: str, method: str) -> None:
    first, second, third = ReadOnly(kind), member(kind), member(kind)
    await WRITES[kind, method](fallback(kind, first, second, third))
    assert (await second.memory.stats()).objects >= 1
    assert first.recorder.calls == third.recorder.calls == []


@writes
async def test_writes_go_nowhere_else(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    first.fail(DOWN)
    with pytest.raises(Unavailable, match="down"):
        await WRITES[kind, method](fallback(kind, first, second, skips_errors=True))
    assert second.recorder.calls == []


@writes
async def test_writes_are_refused_where_none_takes_any(kind: str, method: str) -> None:
    service = fallback(kind, ReadOnly(kind))
    assert not service.capabilities.put
    with pytest.raises(Unsupported, match="none of its services takes puts"):
        await WRITES[kind, method](service)


@kinds
async def test_what_is_deleted_is_deleted_everywhere(kind: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, second.memory)
    await fallback(kind, first, second).delete([key(kind, OBJECTS[kind])])
    assert (await second.memory.stats()).objects == 0
    first.fail(DOWN)
    with pytest.raises(Unavailable):
        await fallback(kind, first, second).delete([key(kind, OBJECTS[kind])])


@kinds
async def test_what_several_have_is_listed_once(kind: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory)
    await put(kind, second.memory, OBJECTS[kind], OTHERS[kind])
    service = fallback(kind, first, second)
    assert len([each async for each in service.list()]) == 2
    second.fail(DOWN)
    with pytest.raises(Unavailable):
        assert [each async for each in service.list()]


@kinds
async def test_statistics_are_added_up(kind: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory)
    await put(kind, second.memory, OBJECTS[kind], OTHERS[kind])
    assert (await fallback(kind, first, second).stats()).objects == 3


@kinds
async def test_a_failing_service_does_not_keep_the_others_from_being_verified(kind: str) -> None:
    first, second = member(kind), member(kind)
    first.fail(DOWN)
    with pytest.raises(Unavailable):
        assert not [damage async for damage in fallback(kind, first, second).verify()]
    assert second.recorder.methods == ["verify"]


@kinds
async def test_what_is_corrupt_is_discarded_everywhere(kind: str) -> None:
    first, second = member(kind), member(kind)
    await fallback(kind, first, second).discard_corrupt(key(kind, OBJECTS[kind]))
    assert first.recorder.methods == second.recorder.methods == ["discard_corrupt"]


@pytest.mark.parametrize("kind", ["blob", "directory"])
async def test_the_one_written_to_is_synced(kind: str) -> None:
    first, second, third = ReadOnly(kind), member(kind), member(kind)
    await fallback(kind, first, second, third).sync()
    assert [each.recorder.methods for each in (first, second, third)] == [[], ["sync"], []]


async def test_nobody_can_compact() -> None:
    with pytest.raises(Unsupported):
        await fallback("blob", member("blob")).compact()
