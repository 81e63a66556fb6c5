"""Every method: passed on once, as it is, and counted; its failure, too. See the table in the plugin's README."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.recorder import Recorder
from plugins.grpc.loopback import memory_services
from plugins.grpc.loopback import serving as serving_grpc
from plugins.http.reading import reading
from plugins.observe.scraping import scraped
from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unavailable, Unsupported
from tvix_store.nodes import Directory
from tvix_store.telemetry import METRICS, Metrics
from tvix_store.telemetry_observer import (
    ObservedBlobService,
    ObservedDirectoryService,
    ObservedPathInfoService,
    Observer,
)
from tvix_store.telemetry_process import watching_process
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(b"x")
DIGEST = BLOB.digest
DIRECTORY = Directory()
KEY = bytes(20)


async def drained(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


BLOB_CALLS: dict[str, tuple[int, Callable[[ObservedBlobService], Awaitable[Any]]]] = {
    "has": (1, lambda service: service.has(DIGEST)),
    "open_read": (1, lambda service: service.open_read(DIGEST)),
    "open_write": (1, lambda service: service.open_write()),
    "chunks": (1, lambda service: service.chunks(DIGEST)),
    "has_many": (2, lambda service: service.has_many([DIGEST] * 2)),
    "get_many": (3, lambda service: service.get_many([DIGEST] * 3)),
    "put_many": (2, lambda service: service.put_many([BLOB] * 2)),
    "list": (0, lambda service: drained(service.list())),
    "delete": (1, lambda service: service.delete([DIGEST])),
    "discard_corrupt": (1, lambda service: service.discard_corrupt(DIGEST)),
    "stats": (0, lambda service: service.stats()),
    "verify": (0, lambda service: drained(service.verify())),
    "compact": (0, lambda service: service.compact()),
    "sync": (0, lambda service: service.sync()),
}
DIRECTORY_CALLS: dict[str, tuple[int, Callable[[ObservedDirectoryService], Awaitable[Any]]]] = {
    "get": (1, lambda service: service.get(DIGEST)),
    "put": (1, lambda service: service.put(DIRECTORY)),
    "get_many": (2, lambda service: service.get_many([DIGEST] * 2)),
    "put_many": (2, lambda service: service.put_many([DIRECTORY] * 2)),
    "get_recursive": (1, lambda service: drained(service.get_recursive(DIGEST))),
    "put_multiple_start": (1, lambda service: service.put_multiple_start()),
    "list": (0, lambda service: drained(service.list())),
    "delete": (1, lambda service: service.delete([DIGEST])),
    "discard_corrupt": (1, lambda service: service.discard_corrupt(DIGEST)),
    "stats": (0, lambda service: service.stats()),
    "verify": (0, lambda service: drained(service.verify())),
    "sync": (0, lambda service: service.sync()),
}
PATH_INFO_CALLS: dict[str, tuple[int, Callable[[ObservedPathInfoService], Awaitable[Any]]]] = {
    "get": (1, lambda service: service.get(KEY)),
    "put": (1, lambda service: service.put(PATH_INFO)),
    "get_metadata": (1, lambda service: service.get_metadata(KEY)),
    "open_nar": (1, lambda service: service.open_nar(KEY)),
    "get_many": (2, lambda service: service.get_many([KEY] * 2)),
    "put_many": (1, lambda service: service.put_many([PATH_INFO])),
    "list": (0, lambda service: drained(service.list())),
    "delete": (1, lambda service: service.delete([KEY])),
    "discard_corrupt": (1, lambda service: service.discard_corrupt(KEY)),
    "stats": (0, lambda service: service.stats()),
    "verify": (0, lambda service: drained(service.verify())),
}


@dataclass(frozen=True)
class Cell:
    kind: Kind
    method: str
    n_objects: int
    call: Callable[[Any], Awaitable[Any]]

    def __str__(self) -> str:
        return f"{self.kind.value}-{self.method}"


CELLS = [
    Cell(kind, method, n_objects, call)
    for kind, calls in (
        (Kind.BLOB, BLOB_CALLS),
        (Kind.DIRECTORY, DIRECTORY_CALLS),
        (Kind.PATH_INFO, PATH_INFO_CALLS),
    )
    for method, (n_objects, call) in calls.items()
]


def observed(kind: Kind, recorder: Recorder, metrics: Metrics) -> Any:
    observer = Observer("it", kind, metrics)
    match kind:
        case Kind.BLOB:
            return ObservedBlobService(AroundBlobService(MemoryBlobService(), recorder), observer)
        case Kind.DIRECTORY:
            return ObservedDirectoryService(AroundDirectoryService(MemoryDirectoryService(), recorder), observer)
        case _:
            return ObservedPathInfoService(AroundPathInfoService(MemoryPathInfoService(), recorder), observer)


def ended(metrics: Metrics, cell: Cell, outcome: str) -> float | None:
    return scraped(metrics).get("tvix_store_calls_total", entry="it", method=cell.method, outcome=outcome)


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_a_call_is_passed_on_once_and_counted(cell: Cell) -> None:
    recorder, metrics = Recorder(), Metrics()
    outcome = "ok"
    try:
        await cell.call(observed(cell.kind, recorder, metrics))
    except Unsupported:  # as memory has it
        outcome = "unsupported"
    assert recorder.calls == [(cell.method, cell.n_objects)]
    assert ended(metrics, cell, outcome) == 1


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_a_failure_is_passed_on_as_it_is_and_counted(cell: Cell) -> None:
    recorder, metrics = Recorder(), Metrics()
    recorder.failure = Unavailable("away")
    with pytest.raises(Unavailable) as caught:
        await cell.call(observed(cell.kind, recorder, metrics))
    assert caught.value is recorder.failure
    assert len(recorder.calls) == 1
    assert ended(metrics, cell, "unavailable") == 1
    assert not ended(metrics, cell, "ok")


def test_every_method_has_a_cell() -> None:
    for kind, service in (
        (Kind.BLOB, AroundBlobService),
        (Kind.DIRECTORY, AroundDirectoryService),
        (Kind.PATH_INFO, AroundPathInfoService),
    ):
        methods = {name for name, value in vars(service).items() if callable(value) and not name.startswith("_")}
        assert methods == {cell.method for cell in CELLS if cell.kind is kind}


@pytest.mark.parametrize("kind", [Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO])
async def test_what_it_can_do_is_what_the_other_can_and_it_stays_open(kind: Kind) -> None:
    service = observed(kind, Recorder(), Metrics())
    assert service.relays
    assert service.capabilities == service.inner.capabilities
    await service.aclose()
    assert service.inner.capabilities.list == service.capabilities.list


async def test_nar_calculation_is_that_of_the_other() -> None:
    service = observed(Kind.PATH_INFO, Recorder(), Metrics())
    assert service.nar_calculation() is service.inner.nar_calculation()


async def test_a_putter_is_counted_when_it_is_closed() -> None:
    metrics = Metrics()
    service = observed(Kind.DIRECTORY, Recorder(), metrics)
    async with await service.put_multiple_start() as putter:
        await putter.put_many([DIRECTORY])
        digest: B3Digest = await putter.close()
    assert digest == DIRECTORY.digest
    for method in ("put_multiple_start", "putter.put_many", "putter.close"):
        assert scraped(metrics).get("tvix_store_calls_total", method=method, outcome="ok") == 1


async def test_the_documentation_has_all_metrics_and_no_others() -> None:
    page = (Path(__file__).parents[3] / "docs" / "observability.md").read_text()
    documented = set(re.findall(r"^\| `(tvix_store_[a-z_]+)`", page, re.MULTILINE))
    named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\btvix_store_[a-z_]+(?=[{\[])", page)}
    Observer("it", Kind.BLOB)
    async with watching_process(), reading(memory_services()), serving_grpc(memory_services()):
        families = {f"{one.name}_total" if one.kind.__name__ == "Counter" else one.name for one in METRICS.families()}
    assert documented == families
    assert named <= documented
