"""The HTTP frontend over a real connection: whatever comes is answered or ends, and what is stored stays served."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz.mutations import cuts, damaged, fuzzing, named_samples, pieces_of
from fuzz.served_store import ServedStore, serving_store, settling, statuses
from plugins.http.reading import memory_services
from tvix_store.limits import KIB

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


def test_no_memory_is_kept(tmp_path: Path) -> None:
    """In a process of its own: what other tests have left in this one may grow as well."""
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-m", "fuzz.requests_memory", str(tmp_path)]
    done = subprocess.run(command, cwd=tests, env={**os.environ, "PYTHONPATH": tests}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    n_bytes, n_objects, n_files = map(int, done.stdout.split())
    # aiohttp and yarl keep names of headers and parts of URLs, some hundreds of each.
    assert n_bytes < 128 * KIB
    assert n_objects < 480  # one for every other connection
    assert n_files < 16
