"""What the routes do with each answer and failure of their services, method by method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plugins.spread.cells import KINDS, OBJECTS, READS, WRITES, Member, key, member, put
from tvix_store.digest import HashedBlob
from tvix_store.errors import Unavailable, Unsupported
from tvix_store.limits import KIB
from tvix_store.testing.blob_access import list_blobs, read_blob, write_blob
from tvix_store.testing.fixtures import PATH_INFO, contents, store_path
from tvix_store_spread.route import ReadWriteBlobService, ReadWriteDirectoryService, ReadWritePathInfoService
from tvix_store_spread.route_blob import SizeRouteBlobService
from tvix_store_spread.route_path_info import PatternRoutePathInfoService

pytestmark = pytest.mark.anyio

reads = pytest.mark.parametrize(("kind", "method"), READS)
writes = pytest.mark.parametrize(("kind", "method"), WRITES)
kinds = pytest.mark.parametrize("kind", KINDS)
DOWN = Unavailable("down")
BOUND = 10 * KIB


def read_write(kind: str, read: Member, write: Member) -> Any:
    if kind == "blob":
        return ReadWriteBlobService(read.service, write.service)
    if kind == "directory":
        return ReadWriteDirectoryService(read.service, write.service)
    return ReadWritePathInfoService(read.service, write.service)


# Reads of one, writes to the other


@reads
async def test_reads_ask_the_one_alone(kind: str, method: str) -> None:
    read, write = member(kind), member(kind)
    await put(kind, write.memory)
    assert not await READS[kind, method](read_write(kind, read, write))
    await put(kind, read.memory)
    assert await READS[kind, method](read_write(kind, read, write))
    assert write.recorder.calls == []
    read.fail(DOWN)
    with pytest.raises(Unavailable):
        await READS[kind, method](read_write(kind, read, write))


@writes
async def test_writes_go_to_the_other_alone(kind: str, method: str) -> None:
    read, write = member(kind), member(kind)
    await WRITES[kind, method](read_write(kind, read, write))
    assert (await write.memory.stats()).objects >= 1
    assert read.recorder.calls == []
    write.fail(DOWN)
    with pytest.raises(Unavailable):
        await WRITES[kind, method](read_write(kind, read, write))


@kinds
async def test_upkeep_goes_where_it_belongs(kind: str) -> None:
    read, write = member(kind), member(kind)
    service = read_write(kind, read, write)
    await service.delete([key(kind, OBJECTS[kind])])
    await service.discard_corrupt(key(kind, OBJECTS[kind]))
    await service.stats()
    assert [each async for each in service.list()] == []
    assert [damage async for damage in service.verify()] == []
    assert read.recorder.methods == ["discard_corrupt", "stats", "list", "verify"]
    assert write.recorder.methods == ["delete", "discard_corrupt"]


@pytest.mark.parametrize("kind", ["blob", "directory"])
async def test_what_is_written_to_is_synced(kind: str) -> None:
    read, write = member(kind), member(kind)
    await read_write(kind, read, write).sync()
    assert (read.recorder.methods, write.recorder.methods) == ([], ["sync"])


async def test_what_is_written_to_is_compacted() -> None:
    read, write = member("blob"), member("blob")
    with pytest.raises(Unsupported):
        await read_write("blob", read, write).compact()
    assert (read.recorder.methods, write.recorder.methods) == ([], ["compact"])


# By size


def by_size() -> tuple[SizeRouteBlobService, Member, Member]:
    small, large = member("blob"), member("blob")
    return SizeRouteBlobService("test", small.service, large.service, BOUND), small, large


@pytest.mark.parametrize("n_bytes", [0, 1, BOUND, BOUND + 1, 5 * BOUND])
@pytest.mark.parametrize("piece_bytes", [1000, BOUND, 10 * BOUND])
async def test_streams_go_where_their_size_says(n_bytes: int, piece_bytes: int) -> None:
    service, small, large = by_size()
    data = contents(n_bytes)
    digest = await write_blob(service, *(data[at : at + piece_bytes] for at in range(0, n_bytes, piece_bytes)))
    there = (small if n_bytes <= BOUND else large) if n_bytes else None  # core has no need to store the empty one
    for each in (small, large):
        assert list(each.memory.contents) == ([digest.raw] if each is there else [])
    assert await read_blob(service, digest) == data


async def test_batches_are_cut_by_size() -> None:
    service, small, large = by_size()
    blobs = [HashedBlob(contents(size, size)) for size in (1, 2 * BOUND, BOUND, 3 * BOUND, 5)]
    await service.put_many(blobs)
    assert small.recorder.calls == [("put_many", 3)]
    assert large.recorder.calls == [("put_many", 2)]
    small.recorder.calls.clear()
    large.recorder.calls.clear()
    assert list(await service.get_many([blob.digest for blob in blobs])) == [blob.data for blob in blobs]
    assert small.recorder.calls == [("get_many", 5)]
    assert large.recorder.calls == [("get_many", 2)]


async def test_nobody_is_asked_to_take_nothing() -> None:
    service, small, large = by_size()
    await service.put_many([])
    await service.put_many([HashedBlob(b"small")])
    assert (small.recorder.calls, large.recorder.calls) == ([("put_many", 1)], [])


@pytest.mark.parametrize("method", [method for kind, method in READS if kind == "blob"])
async def test_an_error_of_either_is_an_error(method: str) -> None:
    service, small, large = by_size()
    await put("blob", large.memory)
    small.fail(DOWN)
    with pytest.raises(Unavailable):
        await READS["blob", method](service)
    small.recorder.failure = None
    large.fail(DOWN)
    with pytest.raises(Unavailable):
        await READS["blob", method](service)


async def test_another_bound_hides_and_repeats_nothing() -> None:
    service, small, large = by_size()
    await put("blob", small.memory)
    await put("blob", large.memory)
    assert await list_blobs(service) == [OBJECTS["blob"].digest]
    await service.delete([OBJECTS["blob"].digest])
    assert small.memory.contents == large.memory.contents == {}


async def test_both_sizes_are_synced() -> None:
    service, small, large = by_size()
    await service.sync()
    assert small.recorder.methods == large.recorder.methods == ["sync"]


async def test_an_abandoned_stream_shows_nothing() -> None:
    service, small, large = by_size()
    async with await service.open_write() as writer:
        await writer.write(contents(5))
    async with await service.open_write() as writer:
        await writer.write(contents(2 * BOUND))
    assert small.memory.contents == large.memory.contents == {}


# By name

SOURCE = replace(PATH_INFO, store_path=store_path("hello-source"))
DERIVATION = replace(PATH_INFO, store_path=store_path("hello.drv"))
BOTH = replace(PATH_INFO, store_path=store_path("hello-source.drv"))
PLAIN = replace(PATH_INFO, store_path=store_path("Hello-Source"))


def by_name() -> tuple[PatternRoutePathInfoService, list[Member]]:
    members = [member("path_info") for _ in range(3)]
    patterns = {"*.drv": members[0].service, "*-source*": members[1].service, "*.lock": members[0].service}
    return PatternRoutePathInfoService("test", patterns, members[2].service), members


@pytest.mark.parametrize(("info", "place"), [(SOURCE, 1), (DERIVATION, 0), (BOTH, 0), (PLAIN, 2)])
async def test_the_first_pattern_that_matches_counts(info: Any, place: int) -> None:
    service, members = by_name()
    assert await service.put(info) == info
    assert [(await each.memory.stats()).objects for each in members] == [int(at == place) for at in range(3)]


async def test_batches_are_cut_by_name_and_found_in_turn() -> None:
    service, members = by_name()
    infos = [PLAIN, SOURCE, DERIVATION, BOTH]
    assert list(await service.put_many(infos)) == infos
    digests = [info.store_path.digest for info in infos]
    assert list(await service.get_many(digests)) == infos
    assert [each.recorder.calls for each in members] == [
        [("put_many", 2), ("get_many", 4)],
        [("put_many", 1), ("get_many", 2)],
        [("put_many", 1), ("get_many", 1)],
    ]


async def test_an_error_of_one_service_is_an_error() -> None:
    service, members = by_name()
    await service.put(PLAIN)
    members[1].fail(DOWN)
    with pytest.raises(Unavailable):
        await service.get(PLAIN.store_path.digest)
    assert await service.put(DERIVATION) == DERIVATION
    with pytest.raises(Unavailable):
        await service.put_many([PLAIN, SOURCE])


async def test_a_service_of_several_patterns_is_counted_once() -> None:
    service, _ = by_name()
    await service.put_many([PLAIN, SOURCE, DERIVATION, BOTH])
    assert (await service.stats()).objects == 4
    assert len([info async for info in service.list()]) == 4
