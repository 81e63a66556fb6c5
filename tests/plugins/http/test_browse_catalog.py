from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvix_store.errors import Unavailable
from tvix_store.nodes import SymlinkNode
from tvix_store.path_info import PathInfo, Signature
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import contents, store_path
from tvix_store_http.catalog import Catalog, Index
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio


def path_info(name: str, *references: StorePath, signed: bool = False) -> PathInfo:
    path = store_path(name)
    return PathInfo(
        store_path=path,
        node=SymlinkNode(b"target"),
        nar_size=len(name),
        nar_sha256=contents(32, seed=int.from_bytes(path.digest[:4])),
        references=references,
        signatures=(Signature("key", bytes(64)),) if signed else (),
    )


class Watched(MemoryPathInfoService):
    """Counts lists, and holds them back until ``may_end`` is set."""

    def __init__(self, *path_infos: PathInfo) -> None:
        super().__init__()
        self.begun = 0
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.failure: Exception | None = None
        self.stored = list(path_infos)

    async def list(self) -> AsyncIterator[PathInfo]:
        self.begun += 1
        self.has_begun.set()
        await self.may_end.wait()
        if self.failure is not None:
            raise self.failure
        for one in tuple(self.stored):
            yield one


def found(index: Index, text: str) -> list[str]:
    return [index.store_path(number).name for number in index.search(text)]


async def indexed(*path_infos: PathInfo) -> Index:
    return await Catalog(Watched(*path_infos)).index()


async def test_paths_are_listed_by_name() -> None:
    index = await indexed(path_info("zsh", signed=True), path_info("bash", store_path("zsh"), store_path("absent")))
    assert [index.row(number).store_path.name for number in range(len(index))] == ["bash", "zsh"]
    assert [index.row(number).n_references for number in range(len(index))] == [2, 0]
    assert [index.row(number).is_signed for number in range(len(index))] == [False, True]
    assert [index.row(number).nar_size for number in range(len(index))] == [4, 3]


async def test_a_search_finds_parts_of_names_in_any_case() -> None:
    index = await indexed(*map(path_info, ["perl5.36-URI", "perl", "hyper", "uri"]))
    assert found(index, "per") == ["hyper", "perl", "perl5.36-URI"]
    assert found(index, "URI perl") == ["perl5.36-URI"]
    assert found(index, " ") == ["hyper", "perl", "perl5.36-URI", "uri"]
    assert found(index, "ü \n\udcff") == []


async def test_a_search_does_not_go_across_names() -> None:
    index = await indexed(*map(path_info, ["ab", "cd"]))
    assert found(index, "bc") == []
    assert found(index, "ab cd") == []


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 30), st.lists(st.integers(0, 40), max_size=6), max_size=20))
def test_lookups_agree_with_the_list(graph: dict[int, list[int]]) -> None:
    infos = [path_info(f"p{number}", *(store_path(f"p{n}") for n in to)) for number, to in graph.items()]
    index = asyncio.run(Catalog(Watched(*infos)).index())
    for number in range(42):
        path = store_path(f"p{number}")
        expected = {info.store_path for info in infos if path in info.references} if number in graph else set()
        by_name = sorted(expected, key=lambda path: (path.name, path.digest))
        assert [index.store_path(n) for n in index.referrers(path.digest)] == by_name
        at = index.number(path.digest)
        assert (None if at is None else index.store_path(at)) == (path if number in graph else None)
    for info in infos:
        assert (at := index.number_by_nar(info.nar_sha256)) is not None
        assert index.store_path(at) == info.store_path


async def test_a_path_that_is_listed_twice_counts_once() -> None:
    index = await indexed(path_info("a", store_path("b")), path_info("b"), path_info("a", store_path("b")))
    assert len(index) == 2
    assert len(index.referrers(store_path("b").digest)) == 1


async def test_an_index_is_used_until_it_is_old() -> None:
    service = Watched(path_info("a"))
    catalog = Catalog(service, max_age_s=3600)
    assert await catalog.index() is await catalog.index()
    assert service.begun == 1


async def test_an_old_index_is_made_anew() -> None:
    service = Watched(path_info("a"))
    catalog = Catalog(service, max_age_s=0)
    assert len(await catalog.index()) == 1
    service.stored.append(path_info("b"))
    assert len(await catalog.index()) == 2


async def test_those_who_ask_at_once_share_a_list() -> None:
    service = Watched(path_info("a"))
    service.may_end.clear()
    catalog = Catalog(service)
    asking = [asyncio.create_task(catalog.index()) for _ in range(5)]
    await service.has_begun.wait()
    service.may_end.set()
    assert len({id(index) for index in await asyncio.gather(*asking)}) == 1
    assert service.begun == 1


async def test_the_old_index_serves_while_a_new_one_takes_long() -> None:
    service = Watched(path_info("a"))
    catalog = Catalog(service, max_age_s=0, patience_s=0.01)
    old = await catalog.index()
    service.may_end.clear()
    assert await catalog.index() is old
    await catalog.aclose()


async def test_who_is_in_a_hurry_does_without_the_first_index() -> None:
    service = Watched(path_info("a"))
    service.may_end.clear()
    catalog = Catalog(service, patience_s=0.01)
    assert await catalog.index_soon() is None
    service.may_end.set()
    assert len(await catalog.index()) == 1
    assert catalog.n_listed == 1


async def test_a_list_goes_on_without_the_one_who_asked_first() -> None:
    service = Watched(path_info("a"))
    service.may_end.clear()
    catalog = Catalog(service)
    first, second = asyncio.create_task(catalog.index()), asyncio.create_task(catalog.index())
    await service.has_begun.wait()
    first.cancel()
    service.may_end.set()
    assert len(await second) == 1
    assert service.begun == 1


async def test_a_failed_list_is_told_and_tried_again() -> None:
    service = Watched(path_info("a"))
    service.failure = Unavailable("the disk is asleep")
    catalog = Catalog(service)
    with pytest.raises(Unavailable, match="asleep"):
        await catalog.index()
    service.failure = None
    assert len(await catalog.index()) == 1


async def test_a_path_is_found_by_its_nar() -> None:
    info = path_info("a")
    service = Watched(info)
    catalog = Catalog(service, max_age_s=3600)
    assert await catalog.digest_by_nar(info.nar_sha256) == info.store_path.digest
    assert await catalog.digest_by_nar(bytes(32)) is None
    assert service.begun == 1
