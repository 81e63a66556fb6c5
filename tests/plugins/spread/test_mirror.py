"""What a mirror does with each answer and failure of its replicas, method by method."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from plugins.spread.cells import BATCHES, KINDS, OBJECTS, OTHERS, READS, WRITES, Member, key, member, put
from tvix_store.blob import BlobWriter
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject, OutOfSpace, Unavailable, Unsupported
from tvix_store.testing.fixtures import DIRECTORY_A, DIRECTORY_B, PATH_INFO
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_spread.capabilities import mirror_capabilities
from tvix_store_spread.mirror import MirrorOptions, SpreadReads
from tvix_store_spread.mirror_blob import MirrorBlobService
from tvix_store_spread.mirror_directory import MirrorDirectoryService
from tvix_store_spread.mirror_path_info import MirrorPathInfoService

pytestmark = pytest.mark.anyio

reads = pytest.mark.parametrize(("kind", "method"), READS)
writes = pytest.mark.parametrize(("kind", "method"), WRITES)
kinds = pytest.mark.parametrize("kind", KINDS)
DOWN = Unavailable("down")


def mirror(
    kind: str,
    *members: Member,
    min_writes: int | None = None,
    spread_reads: SpreadReads = SpreadReads.FIRST,
    repair: bool = True,
) -> Any:
    services = {f"m{i}": each.service for i, each in enumerate(members)}
    options = MirrorOptions(min_writes or len(members), spread_reads, repair)
    if kind == "blob":
        return MirrorBlobService("test", services, options)
    if kind == "directory":
        return MirrorDirectoryService("test", services, options)
    return MirrorPathInfoService("test", services, options)


async def holds(kind: str, each: Member, thing: Any = None) -> bool:
    return key(kind, OBJECTS[kind] if thing is None else thing) in [
        found.store_path.digest if kind == "path_info" else found async for found in each.memory.list()
    ]


# Reads


@reads
async def test_one_replica_answers(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory)
    assert await READS[kind, method](mirror(kind, first, second))
    assert second.recorder.calls == []


@reads
async def test_what_one_lacks_is_found_in_another_and_repaired(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, second.memory)
    async with mirror(kind, first, second) as service:
        assert await READS[kind, method](service)
        await service.mirroring.repairs.settle()
        assert await holds(kind, first)
        assert ("repaired", 1) in (await service.stats()).details


@reads
async def test_nothing_is_repaired_if_it_is_not_to_be(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, second.memory)
    async with mirror(kind, first, second, repair=False) as service:
        assert await READS[kind, method](service)
        await service.mirroring.repairs.settle()
    assert not await holds(kind, first)


@reads
async def test_what_all_lack_is_absent(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    assert not await READS[kind, method](mirror(kind, first, second))
    assert first.recorder.calls
    assert second.recorder.calls


@reads
async def test_where_one_fails_the_other_answers(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, second.memory)
    first.fail(DOWN)
    async with mirror(kind, first, second) as service:
        assert await READS[kind, method](service)


@reads
async def test_what_could_not_be_found_out_is_not_absent(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    second.fail(DOWN)
    with pytest.raises(Unavailable, match="down"):
        await READS[kind, method](mirror(kind, first, second))


@pytest.mark.parametrize(("kind", "method"), [read for read in READS if read[1] not in ("has", "has_many", "chunks")])
async def test_what_is_corrupt_in_one_comes_from_another_and_is_repaired(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory)
    await put(kind, second.memory)
    stored = {"blob": "contents", "directory": "encodings", "path_info": "encodings"}[kind]
    held = getattr(first.memory, stored)
    (raw,) = held
    sound, held[raw] = held[raw], held[raw][:-1]
    async with mirror(kind, first, second) as service:
        assert await READS[kind, method](service)
        await service.mirroring.repairs.settle()
    assert held == {raw: sound}


@reads
async def test_a_wrong_question_is_refused_at_once(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    first.fail(InvalidObject("wrong"))
    with pytest.raises(InvalidObject, match="wrong"):
        await READS[kind, method](mirror(kind, first, second))
    assert second.recorder.calls == []


@pytest.mark.parametrize(("kind", "method"), BATCHES)
async def test_what_is_missing_goes_on_as_one_batch(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, second.memory, OBJECTS[kind], OTHERS[kind])
    await put(kind, first.memory)
    keys = [key(kind, thing) for thing in (OTHERS[kind], OBJECTS[kind], OTHERS[kind])]
    answers = await getattr(mirror(kind, first, second, repair=False), method)(keys)
    assert not {None, False} & {*answers}
    assert first.recorder.calls == [(method, 2)]
    assert second.recorder.calls == [(method, 1)]


@pytest.mark.parametrize(("kind", "method"), BATCHES)
@pytest.mark.parametrize("spread_reads", [SpreadReads.ROUND_ROBIN, SpreadReads.BY_DIGEST])
async def test_reads_are_spread(kind: str, method: str, spread_reads: SpreadReads) -> None:
    members = [member(kind) for _ in range(3)]
    service = mirror(kind, *members, spread_reads=spread_reads)
    await service.put_many([OBJECTS[kind], OTHERS[kind]])
    for each in members:
        each.recorder.calls.clear()
    for _ in range(3):
        await getattr(service, method)([key(kind, OBJECTS[kind])])
    asked = [each.recorder.calls for each in members]
    if spread_reads is SpreadReads.ROUND_ROBIN:
        assert asked == [[(method, 1)]] * 3
    else:
        assert sorted(map(len, asked)) == [0, 0, 3]


async def test_a_tree_is_completed_from_the_others() -> None:
    first, second = member("directory"), member("directory")
    await put("directory", first.memory, DIRECTORY_B)
    await put("directory", second.memory, DIRECTORY_A, DIRECTORY_B)
    async with mirror("directory", first, second) as service:
        tree = [directory async for directory in service.get_recursive(DIRECTORY_B.digest)]
        assert tree == [DIRECTORY_B, DIRECTORY_A]
        await service.mirroring.repairs.settle()
    assert await holds("directory", first, DIRECTORY_A)


async def test_a_tree_that_one_lacks_is_repaired_as_a_whole() -> None:
    first, second = member("directory"), member("directory")
    await put("directory", second.memory, DIRECTORY_A, DIRECTORY_B)
    async with mirror("directory", first, second) as service:
        assert len([directory async for directory in service.get_recursive(DIRECTORY_B.digest)]) == 2
        await service.mirroring.repairs.settle()
    assert await holds("directory", first, DIRECTORY_A)


async def test_chunks_are_told_only_if_all_replicas_have_any() -> None:
    assert not mirror_capabilities([Capabilities(chunks=True), Capabilities()], 1).chunks
    service = mirror("blob", member("blob"), member("blob"))
    await service.put_many([OBJECTS["blob"]])
    assert await service.chunks(OBJECTS["blob"].digest) == []


# Writes


@writes
async def test_writes_go_to_all(kind: str, method: str) -> None:
    members = [member(kind) for _ in range(3)]
    await WRITES[kind, method](mirror(kind, *members))
    assert [await holds(kind, each) for each in members] == [True] * 3


@writes
@pytest.mark.parametrize("n_failing", [0, 1, 2, 3])
async def test_so_many_have_to_succeed(kind: str, method: str, n_failing: int) -> None:
    members = [member(kind) for _ in range(3)]
    for each in members[:n_failing]:
        each.fail(DOWN)
    service = mirror(kind, *members, min_writes=2, repair=False)
    if n_failing <= 1:
        await WRITES[kind, method](service)
        assert await holds(kind, members[2])
        assert ("failed writes", n_failing) in (await service.stats()).details
    else:
        with pytest.raises(Unavailable, match=r"fewer than 2 replicas succeeded: m0: down; m1: down"):
            await WRITES[kind, method](service)


@writes
async def test_what_one_missed_is_repaired(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    first.fail(DOWN, method, "writer.close", "putter.close")
    async with mirror(kind, first, second, min_writes=1) as service:
        await WRITES[kind, method](service)
        first.recorder.failure = None
        await service.mirroring.repairs.settle()
    assert await holds(kind, first)


@pytest.mark.parametrize(
    ("failing", "kind", "method"),
    [
        ("writer.write", "blob", "open_write"),
        ("writer.close", "blob", "open_write"),
        ("putter.put_many", "directory", "put_multiple_start"),
        ("putter.close", "directory", "put_multiple_start"),
    ],
)
@pytest.mark.parametrize("min_writes", [1, 2])
async def test_a_replica_that_fails_on_the_way_drops_out(failing: str, kind: str, method: str, min_writes: int) -> None:
    first, second = member(kind), member(kind)
    first.fail(DOWN, failing)
    service = mirror(kind, first, second, min_writes=min_writes, repair=False)
    if min_writes == 1:
        await WRITES[kind, method](service)
        assert await holds(kind, second)
    else:
        with pytest.raises(Unavailable, match="m0: down"):
            await WRITES[kind, method](service)
    assert not await holds(kind, first)


class Closable(MemoryBlobService):
    """Knows how many uploads are open."""

    def __init__(self) -> None:
        super().__init__()
        self.n_open = 0

    async def open_write(self) -> BlobWriter:
        self.n_open += 1
        return ClosableWriter(self, await super().open_write())


class ClosableWriter(BlobWriter):
    def __init__(self, service: Closable, inner: BlobWriter) -> None:
        self._service = service
        self._inner = inner

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> B3Digest:
        return await self._inner.close()

    async def aclose(self) -> None:
        self._service.n_open -= 1


@pytest.mark.parametrize("failing", ["open_write", "writer.write", "writer.close"])
@pytest.mark.parametrize("min_writes", [1, 2])
async def test_every_upload_that_was_opened_is_closed(failing: str, min_writes: int) -> None:
    closable, other = Closable(), member("blob")
    other.fail(DOWN, failing)
    members = {"a": closable, "b": other.service}
    service = MirrorBlobService("test", members, MirrorOptions(min_writes, repair=False))
    with contextlib.nullcontext() if min_writes == 1 else pytest.raises(Unavailable):
        await WRITES["blob", "open_write"](service)
    assert closable.n_open == 0


@writes
async def test_replicas_are_written_at_the_same_time(kind: str, method: str) -> None:
    """Each waits until all have been asked."""
    members = [member(kind) for _ in range(3)]
    asked = asyncio.Barrier(3)
    for each in members:
        call = getattr(each.service, method)

        async def wait(*args: Any, call: Any = call) -> Any:
            await asked.wait()
            return await call(*args)

        setattr(each.service, method, wait)
    await WRITES[kind, method](mirror(kind, *members))


@writes
async def test_what_is_invalid_for_one_is_invalid(kind: str, method: str) -> None:
    first, second = member(kind), member(kind)
    first.fail(InvalidObject("wrong"))
    with pytest.raises(InvalidObject, match="wrong"):
        await WRITES[kind, method](mirror(kind, first, second, min_writes=1))


@writes
@pytest.mark.parametrize("error", [OutOfSpace("full"), Unsupported("never")])
async def test_the_reason_is_kept_if_all_have_the_same(kind: str, method: str, error: Exception) -> None:
    first, second = member(kind), member(kind)
    first.fail(error)
    second.fail(error)
    with pytest.raises(type(error), match=str(error)):
        await WRITES[kind, method](mirror(kind, first, second))


async def test_the_first_replica_that_took_it_says_what_is_stored() -> None:
    first, second = member("path_info"), member("path_info")
    first.fail(DOWN)
    assert await mirror("path_info", first, second, min_writes=1, repair=False).put(PATH_INFO) == PATH_INFO


# Upkeep


@kinds
async def test_a_delete_has_to_succeed_everywhere(kind: str) -> None:
    first, second = member(kind), member(kind)
    service = mirror(kind, first, second, min_writes=1)
    await put(kind, service)
    first.fail(DOWN, "delete")
    with pytest.raises(Unavailable, match="down"):
        await service.delete([key(kind, OBJECTS[kind])])
    assert not await holds(kind, second)
    first.recorder.failure = None
    await service.delete([key(kind, OBJECTS[kind])])
    assert not await holds(kind, first)


@kinds
async def test_what_any_has_is_listed_once(kind: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory)
    await put(kind, second.memory, OBJECTS[kind], OTHERS[kind])
    service = mirror(kind, first, second)
    assert len([each async for each in service.list()]) == 2
    second.fail(DOWN)
    with pytest.raises(Unavailable):
        assert [each async for each in service.list()]


@kinds
async def test_statistics_are_of_the_replica_that_has_most(kind: str) -> None:
    first, second, third = member(kind), member(kind), member(kind)
    await put(kind, first.memory)
    await put(kind, second.memory, OBJECTS[kind], OTHERS[kind])
    third.fail(DOWN)
    assert (await mirror(kind, first, second, third).stats()).objects == 2
    with pytest.raises(Unavailable):
        await mirror(kind, third).stats()


@kinds
async def test_what_verifying_finds_is_repaired(kind: str) -> None:
    first, second = member(kind), member(kind)
    async with mirror(kind, first, second) as service:
        await put(kind, service)
        held = getattr(second.memory, "contents" if kind == "blob" else "encodings")
        (raw,) = held
        sound, held[raw] = held[raw], held[raw][:-1]
        assert [damage.location async for damage in service.verify()] == ["m1"]
        await service.mirroring.repairs.settle()
    assert held == {raw: sound}


@kinds
async def test_replicas_get_what_they_lack_from_each_other(kind: str) -> None:
    first, second, third = member(kind), member(kind), member(kind)
    await put(kind, first.memory, OBJECTS[kind])
    await put(kind, second.memory, OTHERS[kind])
    async with mirror(kind, first, second, third) as service:
        assert await service.resync() == {"m0": 1, "m1": 1, "m2": 2}
        for each in (first, second, third):
            assert await holds(kind, each, OBJECTS[kind])
            assert await holds(kind, each, OTHERS[kind])
        assert await service.resync() == {}


@kinds
async def test_replicas_of_which_one_fails_are_not_said_to_agree(kind: str) -> None:
    first, second = member(kind), member(kind)
    await put(kind, first.memory)
    second.fail(DOWN)
    async with mirror(kind, first, second) as service:
        with pytest.raises(Unavailable):
            await service.resync()


@kinds
async def test_what_is_corrupt_is_discarded_everywhere(kind: str) -> None:
    first, second = member(kind), member(kind)
    await mirror(kind, first, second).discard_corrupt(key(kind, OBJECTS[kind]))
    assert first.recorder.methods == second.recorder.methods == ["discard_corrupt"]


@pytest.mark.parametrize("kind", ["blob", "directory"])
async def test_enough_have_to_be_synced(kind: str) -> None:
    first, second = member(kind), member(kind)
    first.fail(DOWN)
    await mirror(kind, first, second, min_writes=1).sync()
    assert second.recorder.methods == ["sync"]
    with pytest.raises(Unavailable):
        await mirror(kind, first, second).sync()


async def test_nobody_can_compact() -> None:
    with pytest.raises(Unsupported):
        await mirror("blob", member("blob")).compact()


@pytest.mark.parametrize(
    ("min_writes", "durability"), [(1, Durability.NONE), (2, Durability.BATCHED), (3, Durability.COMMIT)]
)
def test_a_put_survives_what_the_strongest_of_those_survives_that_took_it_for_certain(
    min_writes: int, durability: Durability
) -> None:
    members = [Capabilities(durability=each) for each in (Durability.COMMIT, Durability.NONE, Durability.BATCHED)]
    assert mirror_capabilities(members, min_writes).durability is durability
