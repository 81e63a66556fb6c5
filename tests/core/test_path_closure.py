from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.limits import BATCH_COUNT
from tvix_store.path_closure import path_closure
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import PATH_INFO, store_path
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio


class Counting(MemoryPathInfoService):
    """Counts batches, and takes none that is too long."""

    batches = 0

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        assert 0 < len(digests) <= BATCH_COUNT
        self.batches += 1
        return await super().get_many(digests)


async def service_with(references: Mapping[str, Sequence[str]]) -> tuple[Counting, dict[str, PathInfo]]:
    service = Counting()
    path_infos = {
        name: replace(PATH_INFO, store_path=store_path(name), references=tuple(map(store_path, names)))
        for name, names in references.items()
    }
    await service.put_many(list(path_infos.values()))
    return service, path_infos


async def names(service: Counting, *roots: PathInfo) -> list[str]:
    return [path_info.store_path.name for path_info in await path_closure(service, roots)]


async def test_references_come_first_and_once() -> None:
    service, infos = await service_with({"a": ["a", "b", "c"], "b": ["d"], "c": ["d", "b"], "d": [], "e": []})
    assert await names(service, infos["a"]) == ["d", "b", "c", "a"]
    assert sorted(await names(service, infos["b"], infos["e"], infos["b"])) == ["b", "d", "e"]


async def test_each_level_is_a_batch() -> None:
    service, infos = await service_with(
        {"root": list(map(str, range(BATCH_COUNT + 1))), **{str(i): [] for i in range(BATCH_COUNT + 1)}}
    )
    assert len(await names(service, infos["root"])) == BATCH_COUNT + 2
    assert service.batches == 2


async def test_what_is_missing_is_named_with_who_refers_to_it() -> None:
    service, infos = await service_with({"a": ["b"], "b": ["gone"]})
    with pytest.raises(DanglingReference, match=f"{store_path('b')} refers to {store_path('gone')}, which is not in"):
        await names(service, infos["a"])


async def test_a_circle_is_refused() -> None:
    service, infos = await service_with({"a": ["b"], "b": ["a"]})
    with pytest.raises(InvalidObject, match=r"in a circle: .*-a -> .*-b -> .*-a|in a circle: .*-b -> .*-a -> .*-b"):
        await names(service, infos["a"])
