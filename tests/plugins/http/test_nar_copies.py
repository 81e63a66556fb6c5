"""NARs that are rendered once for all who want them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import select
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fakes.full_disk import limited_files
from plugins.http.reading import Wire, memory_services, nar_url, put_tree, started, wire
from plugins.http.reading import reading as reading_with
from plugins.http.reading import serving as serving_with
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.frontend import Services
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import contents
from tvix_store_http import sending
from tvix_store_http.frontend import HttpFrontend, ServerOptions
from tvix_store_http.listen import parse_listen
from tvix_store_http.nar_copies import CopyPart, NarCopies
from tvix_store_http.site import SiteOptions
from tvix_store_memory.blob import MemoryBlobService
from vectors.nar import Dir, File, encode

pytestmark = pytest.mark.anyio

reading = partial(reading_with, nar_copies_after=0)
serving = partial(serving_with, nar_copies_after=0)

TREE = Dir({b"%d" % i: File(contents(1_000_000, i)) for i in range(8)})
NAR = encode(TREE)
FIRST, LAST = B3Digest.of(contents(1_000_000, 0)), B3Digest.of(contents(1_000_000, 7))


class GatedBlobs(MemoryBlobService):
    """Counts what is fetched, and holds back the last file of the tree or fails with it."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: Counter[B3Digest] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_held_up = asyncio.Event()
        self.is_given_up = asyncio.Event()
        self.failure: Exception | None = None

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        self.fetched.update(digests)
        if LAST in digests:
            self.is_held_up.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.is_given_up.set()
                raise
            if self.failure is not None:
                raise self.failure
        return await super().get_many(digests, max_blob_bytes=max_blob_bytes)


@pytest.fixture
def blobs() -> GatedBlobs:
    return GatedBlobs()


@pytest.fixture
def services(blobs: GatedBlobs) -> Services:
    return memory_services(blobs=blobs)


@pytest.fixture
async def path_info(services: Services) -> PathInfo:
    return await put_tree(services, "x", TREE)


def ask(connection: Wire, path_info: PathInfo, field: str = "") -> None:
    connection.send(f"GET /{nar_url(path_info)} HTTP/1.1\r\nHost: c\r\n{field}\r\n".encode())


async def head_of(connection: Wire) -> None:
    """Wait for the head and some of the body."""
    await connection.reader.readuntil(b"\r\n\r\n")
    await connection.reader.readexactly(10)


# --- over HTTP ---


async def test_many_clients_cost_one_rendering(
    services: Services, blobs: GatedBlobs, path_info: PathInfo, tmp_path: Path
) -> None:
    async with reading(services, nar_copies_dir=str(tmp_path)) as client:
        answers = await asyncio.gather(*(client.get(nar_url(path_info)) for _ in range(20)))
        answers.append(await client.get(nar_url(path_info)))
        part = await client.get(nar_url(path_info), Range="bytes=-1000")
    assert all(answer.body == NAR for answer in answers)
    assert part.body == NAR[-1000:]
    assert set(blobs.fetched.values()) == {1}
    assert not os.listdir(tmp_path)


async def test_the_first_request_makes_no_copy(services: Services, blobs: GatedBlobs, path_info: PathInfo) -> None:
    async with reading_with(services) as client:
        for times in (1, 2, 2):
            assert (await client.get(nar_url(path_info))).body == NAR
            assert set(blobs.fetched.values()) == {times}


async def test_without_room_for_copies_each_client_costs_one(
    services: Services, blobs: GatedBlobs, path_info: PathInfo
) -> None:
    async with reading(services, nar_copies_bytes=4 * len(NAR) - 1) as client:
        for _ in range(3):
            assert (await client.get(nar_url(path_info))).body == NAR
    assert set(blobs.fetched.values()) == {3}


async def test_head_renders_nothing(services: Services, blobs: GatedBlobs, path_info: PathInfo) -> None:
    async with reading(services) as client:
        assert (await client.head(nar_url(path_info))).headers["Content-Length"] == str(len(NAR))
    assert not blobs.fetched


async def test_the_first_client_may_go_away(services: Services, blobs: GatedBlobs, path_info: PathInfo) -> None:
    blobs.gate.clear()
    async with serving(services) as url, wire(url) as second:
        async with wire(url) as first:
            ask(first, path_info)
            await head_of(first)
            ask(second, path_info)
            await blobs.is_held_up.wait()
        blobs.gate.set()
        assert await second.response() == (200, NAR)
    assert set(blobs.fetched.values()) == {1}


async def test_a_client_that_does_not_read_holds_up_nobody_else(services: Services) -> None:
    path_info = await put_tree(services, "y", Dir({b"%d" % i: File(contents(1_000_000, 0)) for i in range(30)}))
    async with serving(services) as url, wire(url) as stalled, wire(url) as other:
        ask(stalled, path_info)
        ask(other, path_info)
        assert len((await other.response())[1]) == path_info.nar_size


async def test_a_stalled_client_of_a_copy_is_given_up(
    monkeypatch: pytest.MonkeyPatch, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "_STALLED_S", 0.05)
    path_info = await put_tree(services, "y", Dir({b"%d" % i: File(contents(1_000_000, 0)) for i in range(30)}))
    async with serving(services) as url, wire(url) as stalled:
        ask(stalled, path_info)
        poller = select.poll()
        poller.register(stalled.writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
        assert await asyncio.to_thread(poller.poll, 20_000), "it was not given up"
        assert len(await stalled.rest()) < path_info.nar_size
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_last_client_that_goes_away_ends_the_rendering(
    services: Services, blobs: GatedBlobs, path_info: PathInfo
) -> None:
    blobs.gate.clear()
    async with serving(services) as url:
        async with wire(url) as first, wire(url) as second:
            for connection in (first, second):
                ask(connection, path_info)
                await head_of(connection)
        await blobs.is_given_up.wait()
        blobs.gate.set()
        async with wire(url) as third:
            ask(third, path_info)
            assert await third.response() == (200, NAR)
    assert blobs.fetched[FIRST] == 2


async def test_a_rendering_that_fails_breaks_off_for_all(
    services: Services, blobs: GatedBlobs, path_info: PathInfo
) -> None:
    blobs.gate.clear()
    async with serving(services) as url, wire(url) as first, wire(url) as second, wire(url) as third:
        for connection in (first, second):
            ask(connection, path_info)
            await head_of(connection)
        blobs.failure = Unavailable("the disk is asleep")
        blobs.gate.set()
        for connection in (first, second):
            with pytest.raises(ConnectionResetError):
                await connection.reader.read()
        blobs.failure = None
        ask(third, path_info)
        assert await third.response() == (200, NAR)
    assert blobs.fetched[FIRST] == 2


async def test_a_failure_before_the_first_byte_is_an_answer(services: Services, blobs: GatedBlobs) -> None:
    path_info = await put_tree(services, "y", File(contents(1_000_000, 7)))
    blobs.failure = Unavailable("the disk is asleep")
    async with reading(services) as client:
        answer = await client.get(nar_url(path_info))
        blobs.failure = None
        assert (await client.get(nar_url(path_info))).status == 200
    assert (answer.status, answer.body) == (503, b"the disk is asleep\n")


async def test_what_has_another_hash_is_not_sent_to_its_end(
    services: Services, blobs: GatedBlobs, path_info: PathInfo
) -> None:
    wrong = replace(path_info, nar_sha256=hashlib.sha256(b"").digest())
    await services.path_infos.put(wrong)
    async with serving(services) as url:
        for _ in range(2):
            async with wire(url) as connection:
                ask(connection, wrong)
                await head_of(connection)
                assert len(await connection.rest()) < len(NAR) - 100_000
    assert blobs.fetched[FIRST] == 2, "it was kept"


async def test_what_has_another_hash_and_is_short_is_not_sent_at_all(services: Services) -> None:
    path_info = await put_tree(services, "y", File(contents(500_000)))
    wrong = replace(path_info, nar_sha256=hashlib.sha256(b"").digest())
    await services.path_infos.put(wrong)
    async with reading(services) as client:
        answer = await client.get(nar_url(wrong))
    assert answer.status == 500
    assert b"its path info says sha256:" in answer.body


async def test_ranges_of_a_copy_that_is_being_made(services: Services, blobs: GatedBlobs, path_info: PathInfo) -> None:
    blobs.gate.clear()
    async with reading(services) as client, wire(client.url) as whole, wire(client.url) as end:
        ask(whole, path_info)
        await head_of(whole)
        for start, stop in ((0, 1), (1000, 2000), (2_000_000, 3_500_000)):
            answer = await client.get(nar_url(path_info), Range=f"bytes={start}-{stop - 1}")
            assert (answer.status, answer.body) == (206, NAR[start:stop])
        ask(end, path_info, "Range: bytes=7500000-\r\n")
        blobs.gate.set()
        assert await end.response() == (206, NAR[7_500_000:])
    assert set(blobs.fetched.values()) == {1}


async def test_a_full_disk_costs_only_the_copies(
    services: Services, blobs: GatedBlobs, path_info: PathInfo, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(services) as client:
        with limited_files(3_000_000):
            answers = await asyncio.gather(*(client.get(nar_url(path_info)) for _ in range(3)))
        answers.append(await client.get(nar_url(path_info)))
    assert all(answer.body == NAR for answer in answers)
    assert [record.message for record in caplog.records if "no copies of NARs" in record.message] == [
        "no copies of NARs for 60 s: spool in /var/tmp: File too large"
    ]


async def test_a_folder_that_is_gone_costs_only_the_copies(
    services: Services, path_info: PathInfo, tmp_path: Path
) -> None:
    async with reading(services, nar_copies_dir=f"{tmp_path}/gone") as client:
        assert (await client.get(nar_url(path_info))).body == NAR


async def test_a_shutdown_ends_a_rendering(services: Services, blobs: GatedBlobs, path_info: PathInfo) -> None:
    blobs.gate.clear()
    server = ServerOptions(drain_s=0.0)
    frontend = HttpFrontend("test", services, parse_listen("127.0.0.1:0"), SiteOptions(nar_copies_after=0), server)
    task, url = await started(frontend)
    async with wire(url) as connection:
        ask(connection, path_info)
        await head_of(connection)
        await blobs.is_held_up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert blobs.is_given_up.is_set()
        assert len(await connection.rest()) < len(NAR)


async def test_copies_are_sent_to_unix_sockets_too(services: Services, path_info: PathInfo, tmp_path: Path) -> None:
    async with serving(services, str(tmp_path / "socket")):
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(f"GET /{nar_url(path_info)} HTTP/1.0\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.read() == NAR
            writer.close()
            await writer.wait_closed()


async def test_several_requests_on_one_connection(services: Services, path_info: PathInfo) -> None:
    async with serving(services) as url, wire(url) as connection:
        for _ in range(2):
            ask(connection, path_info)
            ask(connection, path_info, "Range: bytes=5-9\r\n")
            connection.send(b"GET /health HTTP/1.1\r\nHost: c\r\n\r\n")
            assert await connection.response() == (200, NAR)
            assert await connection.response() == (206, NAR[5:10])
            assert await connection.response() == (200, b"ok\n")


# --- which are kept ---

SIZE = 300_000


def some_nar(number: int) -> bytes:
    return contents(SIZE, number)


async def opened(copies: NarCopies, number: int) -> CopyPart | None:
    """All of the NAR with this number."""
    nar = some_nar(number)

    async def render(start: int, end: int) -> AsyncGenerator[bytes]:
        return _pieces(nar[start:end])

    return copies.begin(hashlib.sha256(nar).digest(), SIZE, render)


async def _pieces(data: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def take(copies: NarCopies, number: int) -> None:
    part = await opened(copies, number)
    assert part is not None
    assert b"".join([piece async for piece in part.pieces()]) == some_nar(number)


def is_kept(copies: NarCopies, number: int) -> bool:
    async def render(start: int, end: int) -> None:
        return None

    part = copies.find(hashlib.sha256(some_nar(number)).digest(), SIZE, 0, SIZE, render)
    if part is not None:
        part.close()
    return part is not None


@pytest.fixture
async def copies(tmp_path: Path) -> AsyncIterator[NarCopies]:
    """Room for four."""
    async with NarCopies(str(tmp_path), 4 * SIZE) as copies:
        yield copies


async def test_those_used_last_are_kept(copies: NarCopies) -> None:
    for number in (0, 1, 2, 3, 0, 4):
        await take(copies, number)
    assert [is_kept(copies, number) for number in range(5)] == [True, False, True, True, True]
    assert copies.n_bytes == 4 * SIZE


async def test_what_is_read_stays(copies: NarCopies) -> None:
    part = await opened(copies, 0)
    assert part is not None
    for number in range(1, 7):
        await take(copies, number)
    assert b"".join([piece async for piece in part.pieces()]) == some_nar(0)
    assert copies.n_bytes == 4 * SIZE


async def test_while_all_are_read_there_is_no_room(copies: NarCopies) -> None:
    parts = [await opened(copies, number) for number in range(4)]
    assert await opened(copies, 4) is None
    for part in parts:
        assert part is not None
        await part.file(0)
        part.close()
    await take(copies, 4)
    assert copies.n_bytes == 4 * SIZE


async def test_what_nobody_waited_for_takes_no_room(copies: NarCopies) -> None:
    for number in range(9):
        part = await opened(copies, number)
        assert part is not None
        part.close()
    assert copies.n_bytes == 0


async def test_a_copy_that_cannot_be_read_is_rendered_from_there(copies: NarCopies) -> None:
    await take(copies, 0)
    part = await opened(copies, 0)
    assert part is not None
    part.lose(OSError("the disk is on fire"))
    assert b"".join([piece async for piece in part.pieces()]) == some_nar(0)
    assert not is_kept(copies, 0)
    assert copies.n_bytes == 0


async def test_what_is_too_long_is_no_copy(copies: NarCopies) -> None:
    async def render(start: int, end: int) -> AsyncGenerator[bytes]:
        return _pieces(bytes(SIZE + 1))

    part = copies.begin(hashlib.sha256(bytes(SIZE)).digest(), SIZE, render)
    assert part is not None
    with pytest.raises(CorruptObject, match="goes on after"):
        await part.file(0)
    part.close()
    assert copies.n_bytes == 0
