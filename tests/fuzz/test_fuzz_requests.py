"""The HTTP frontend over a real connection: whatever comes is answered or ends, and what is stored stays served."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz.held_memory import n_objects, n_open_files, traced_bytes, tracing
from fuzz.mutations import cuts, damaged, fuzzing, mutants, named_samples, pieces_of
from fuzz.served_store import ServedStore, serving_store, settling, statuses
from plugins.http.reading import memory_services
from tvix_store.capabilities import Durability
from tvix_store.limits import KIB
from tvix_store_sqlite.blob import SqliteBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

pytestmark = pytest.mark.anyio

FIELDS = [
    *("Range: bytes=1-", "If-Range: *", "If-None-Match: *", "Accept: text/html", "Host: x", "Connection: close"),
    *("Content-Length: 5", "Transfer-Encoding: chunked", "Content-Encoding: gzip", "Expect: 100-continue"),
    *("Upgrade: h2c\r\nConnection: upgrade", "0\r\n", "ffffffffffffffff"),
]
WORDS = [
    *b"/ // .. % %2e%2e/ %00 %0d%0a %ff ? & # http://[ HTTP/1.0 hash= page=-1& q= .nar .xz .narinfo".split(),
    *(b" ", b"\n", b"\r\n", b"\r\n\r\n", b"GET ", b"HEAD ", b"PUT "),
    *(f"\r\n{field}\r\n".encode() for field in FIELDS),
    *(f"{field}\r\n".encode() for field in FIELDS),
]
"""What means something in requests."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ServedStore]:
    """One server for all examples."""
    async with serving_store(tmp_path, memory_services()) as store:
        yield store


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as an error since the last time."""
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()
    return errors


def with_right_length(data: bytes) -> bytes:
    """The request with all that follows its head for its body, so that more than the start of that is looked at."""
    head, end, body = data.partition(b"\r\n\r\n")
    return re.sub(rb"(?i)(content-length:) *[0-9]*", rb"\1 %d" % len(body), head, count=1) + end + body


async def test_samples_are_answered_as_their_names_say(store: ServedStore, caplog: pytest.LogCaptureFixture) -> None:
    for name, data in named_samples("requests").items():
        answered = "-".join(map(str, statuses(await store.talk([data]))))
        assert (name, answered, errors_in(caplog)) == (name, name.rpartition(".")[2], [])
    await store.check()


@settings(fuzzing, suppress_health_check=list(HealthCheck))
@given(data=damaged("requests", WORDS) | damaged("requests", WORDS).map(with_right_length), places=cuts)
async def test_damaged_requests(
    store: ServedStore, caplog: pytest.LogCaptureFixture, data: bytes, places: list[float]
) -> None:
    async with settling():
        answers = await store.talk(pieces_of(data, places))
    assert answers.startswith(b"HTTP/") or not answers
    assert not [status for status in statuses(answers) if status >= 500]
    await store.check()
    assert errors_in(caplog) == []


async def test_no_memory_is_kept(tmp_path: Path) -> None:
    requests = mutants("requests")
    async with await Database.open(None, durability=Durability.NONE) as database:
        services = memory_services(  # not in memory, since uploads may leave something there
            SqliteBlobService("test", database),
            SqliteDirectoryService("test", database),
            SqlitePathInfoService("test", database),
        )
        async with serving_store(tmp_path, services) as store:
            with tracing():
                await talk_often(store, requests, 15)
                held = traced_bytes(), n_objects(), n_open_files()
                await talk_often(store, requests, 30)
                # aiohttp and yarl keep names of headers and parts of URLs, some hundreds of each.
                assert traced_bytes() - held[0] < 128 * KIB
                assert n_objects() - held[1] < 480  # one for every other connection
                assert n_open_files() - held[2] < 16


async def talk_often(store: ServedStore, requests: Iterator[bytes], times: int) -> None:
    """Talk so many times to the server, over a few connections at once."""
    for _ in range(times):
        async with settling(), asyncio.TaskGroup() as group:
            for data in islice(requests, 32):
                group.create_task(store.talk([data], quiet_s=0.05))
        await store.check()
