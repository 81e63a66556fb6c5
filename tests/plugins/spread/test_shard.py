"""What a shard does with each answer and failure of its services, method by method."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from plugins.spread.cells import KINDS, OBJECTS, OTHERS, READS, WRITES, Member, key, many, member, put
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unavailable, Unsupported
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.testing.blob_access import read_blob, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_spread.shard_blob import ShardBlobService
from tvix_store_spread.shard_directory import ShardDirectoryService
from tvix_store_spread.shard_path_info import ShardPathInfoService

pytestmark = pytest.mark.anyio

reads = pytest.mark.parametrize(("kind", "method"), READS)
writes = pytest.mark.parametrize(("kind", "method"), WRITES)
kinds = pytest.mark.parametrize("kind", KINDS)
DOWN = Unavailable("down")


def shard(kind: str, members: dict[str, Member], spool_dir: str = "/var/tmp") -> Any:
    services: dict[str, Any] = {name: each.service for name, each in members.items()}
    if kind == "blob":
        return ShardBlobService("test", services, {}, spool_dir)
    if kind == "directory":
        return ShardDirectoryService("test", services, {})
    return ShardPathInfoService("test", services, {})


def four(kind: str) -> dict[str, Member]:
    return {name: member(kind) for name in "abcd"}


def raw(kind: str, thing: Any) -> bytes:
    found = key(kind, thing)
    return found.raw if isinstance(found, B3Digest) else found


def owner(kind: str, service: Any, members: dict[str, Member], thing: Any) -> Member:
    found = service.sharding.owner(raw(kind, thing))
    return next(each for each in members.values() if each.service is found)


@reads
async def test_only_the_owner_is_asked(kind: str, method: str) -> None:
    members = four(kind)
    service = shard(kind, members)
    assert not await READS[kind, method](service)
    await put(kind, owner(kind, service, members, OBJECTS[kind]).memory)
    assert await READS[kind, method](service)
    for each in members.values():
        assert bool(each.recorder.calls) is (each is owner(kind, service, members, OBJECTS[kind]))


@reads
async def test_an_error_is_no_miss(kind: str, method: str) -> None:
    members = four(kind)
    service = shard(kind, members)
    owner(kind, service, members, OBJECTS[kind]).fail(DOWN)
    with pytest.raises(Unavailable, match="down"):
        await READS[kind, method](service)


@writes
async def test_puts_go_to_the_owner(kind: str, method: str) -> None:
    members = four(kind)
    service = shard(kind, members)
    await WRITES[kind, method](service)
    assert await READS[next(read for read in READS if read[0] == kind)](
        owner(kind, service, members, OBJECTS[kind]).memory
    )


@writes
async def test_a_put_fails_with_its_owner(kind: str, method: str) -> None:
    members = four(kind)
    service = shard(kind, members)
    owner(kind, service, members, OBJECTS[kind]).fail(DOWN)
    with pytest.raises(Unavailable, match="down"):
        await WRITES[kind, method](service)


@kinds
async def test_batches_are_one_batch_for_each_shard(kind: str) -> None:
    members, things = four(kind), many(kind)
    service = shard(kind, members)
    await service.put_many(things)
    found = await service.get_many([key(kind, thing) for thing in reversed(things)])
    assert list(found) == [thing.data if kind == "blob" else thing for thing in reversed(things)]
    await service.delete([key(kind, thing) for thing in things])
    for each in members.values():
        assert each.recorder.methods == ["put_many", "get_many", "delete"]
        assert len({n_objects for _, n_objects in each.recorder.calls}) == 1
        assert (await each.memory.stats()).objects == 0


@kinds
async def test_shards_are_asked_at_the_same_time(kind: str) -> None:
    """Each waits until all have been asked."""
    members, things = four(kind), many(kind)
    service = shard(kind, members)
    asked = asyncio.Barrier(len(members))
    for each in members.values():
        get_many = each.service.get_many

        async def wait(*args: Any, get_many: Any = get_many, **options: Any) -> Any:
            await asked.wait()
            return await get_many(*args, **options)

        each.service.get_many = wait
    assert len(await service.get_many([key(kind, thing) for thing in things])) == len(things)


@kinds
async def test_an_error_of_one_shard_is_one_of_its_batches_alone(kind: str) -> None:
    members = four(kind)
    service = shard(kind, members)
    failing = owner(kind, service, members, OBJECTS[kind])
    others = [thing for thing in many(kind) if owner(kind, service, members, thing) is not failing]
    failing.fail(DOWN)
    await service.put_many(others)
    assert None not in await service.get_many([key(kind, thing) for thing in others])
    with pytest.raises(Unavailable):
        await service.put_many([*others, OBJECTS[kind]])


@kinds
async def test_lists_statistics_and_damages_are_those_of_all(kind: str) -> None:
    members, things = four(kind), many(kind)
    service = shard(kind, members)
    await service.put_many(things)
    assert len([each async for each in service.list()]) == len(things)
    assert (await service.stats()).objects == len(things)
    held = getattr(members["c"].memory, "contents" if kind == "blob" else "encodings")
    held.update({digest: data + b"?" for digest, data in [*held.items()][:1]})
    assert [damage.location async for damage in service.verify()] == ["c"]


@kinds
async def test_what_is_in_the_wrong_shard_is_neither_found_nor_listed(kind: str) -> None:
    members = four(kind)
    service = shard(kind, members)
    wrong = next(each for each in members.values() if each is not owner(kind, service, members, OTHERS[kind]))
    await put(kind, wrong.memory, OTHERS[kind])
    assert list(await service.get_many([key(kind, OTHERS[kind])])) == [None]
    assert [each async for each in service.list()] == []


@kinds
async def test_what_is_corrupt_is_discarded_by_the_owner(kind: str) -> None:
    members = four(kind)
    service = shard(kind, members)
    await service.discard_corrupt(key(kind, OBJECTS[kind]))
    assert owner(kind, service, members, OBJECTS[kind]).recorder.methods == ["discard_corrupt"]
    assert sum(len(each.recorder.calls) for each in members.values()) == 1


@pytest.mark.parametrize("kind", ["blob", "directory"])
async def test_all_are_synced(kind: str) -> None:
    members = four(kind)
    await shard(kind, members).sync()
    assert [each.recorder.methods for each in members.values()] == [["sync"]] * 4


async def test_nobody_can_compact() -> None:
    with pytest.raises(Unsupported):
        await shard("blob", four("blob")).compact()


@pytest.mark.parametrize("size", [SMALL_BLOB_BYTES, SMALL_BLOB_BYTES + 1, 3 * SMALL_BLOB_BYTES + 7])
async def test_streams_go_to_the_owner_of_what_they_turn_out_to_be(size: int, tmp_path: Path) -> None:
    members = four("blob")
    service = shard("blob", members, str(tmp_path))
    data = contents(size)
    digest = await write_blob(service, *(data[start : start + 100_000] for start in range(0, size, 100_000)))
    assert await read_blob(service, digest) == data
    owned = owner("blob", service, members, HashedBlob(data))
    assert {each.recorder.calls != [] for each in members.values() if each is not owned} == {False}
    assert os.listdir(tmp_path) == []


async def test_a_stream_that_cannot_wait_anywhere_is_unavailable(tmp_path: Path) -> None:
    service = shard("blob", four("blob"), str(tmp_path / "gone"))
    with pytest.raises(Unavailable, match="gone: No such file"):
        await write_blob(service, contents(SMALL_BLOB_BYTES + 1))
