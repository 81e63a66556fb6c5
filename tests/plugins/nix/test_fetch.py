"""One fetch for all: who joins it, when it ends, and what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from plugins.nix.binary_caches import CacheFiles, RealCache
from plugins.nix.upstream_server import Store, UpstreamServer
from tvix_store.blob import BlobWriter
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import CorruptObject, OutOfSpace, Unavailable
from tvix_store.spool import HELD_BACK_BYTES
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio


class Gate:
    """Sends the first half of a NAR, and the rest once it is opened; knows whether the client went away."""

    def __init__(self, server: UpstreamServer, name: str) -> None:
        self._data = server.files[name]
        self.has_begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.was_left = asyncio.Event()
        server.instead[name] = self

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(self._data)
        await response.prepare(request)
        half = len(self._data) * 3 // 4
        await response.write(self._data[:half])
        self.has_begun.set()
        try:
            await self.may_go_on.wait()
        except asyncio.CancelledError:
            self.was_left.set()
            raise
        await response.write(self._data[half:])
        return response


@pytest.fixture
async def plain(real: RealCache) -> AsyncIterator[UpstreamServer]:
    """Serves NARs without compression, so that half of one gives half of the pieces."""
    async with UpstreamServer.serving(CacheFiles.of(real.written("none"))) as server:
        yield server


@pytest.fixture
def gate(real: RealCache, plain: UpstreamServer) -> Gate:
    return Gate(plain, plain.files.nar_name(real.tree))


@pytest.fixture
async def store(plain: UpstreamServer, gate: Gate, tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(plain.url, spool_dir=tmp_path) as store:
        yield store


async def test_pieces_come_before_the_fetch_has_ended(real: RealCache, gate: Gate, store: Store) -> None:
    stream = await store.path_infos.open_nar(real.tree.digest)
    assert stream is not None
    assert stream.size == len(real.nar)
    first = await anext(stream.pieces)
    assert real.nar.startswith(first)
    gate.may_go_on.set()
    assert first + b"".join([piece async for piece in stream.pieces]) == real.nar


async def test_who_comes_later_gets_all_of_it(real: RealCache, plain: UpstreamServer, gate: Gate, store: Store) -> None:
    early = await store.path_infos.open_nar(real.tree.digest)
    assert early is not None
    await anext(early.pieces)
    late = asyncio.create_task(store.streamed(real.tree.digest))
    got = asyncio.create_task(store.path_infos.get(real.tree.digest))
    await asyncio.sleep(0)
    gate.may_go_on.set()
    assert await late == real.nar
    assert await store.nar_of(await got) == real.nar
    assert plain.nar_requests() == 1


async def test_a_stream_that_joins_a_get_waits_for_it(
    real: RealCache, plain: UpstreamServer, gate: Gate, store: Store
) -> None:
    got = asyncio.create_task(store.path_infos.get(real.tree.digest))
    await gate.has_begun.wait()
    opened = asyncio.create_task(store.path_infos.open_nar(real.tree.digest))
    gate.may_go_on.set()
    assert await opened is None
    assert await got == await store.path_infos.get(real.tree.digest)
    assert plain.nar_requests() == 1


async def test_a_fetch_goes_on_for_those_who_are_left(
    real: RealCache, plain: UpstreamServer, gate: Gate, store: Store
) -> None:
    tasks = [asyncio.create_task(store.path_infos.get(real.tree.digest)) for _ in range(3)]
    await gate.has_begun.wait()
    for task in tasks[:2]:
        task.cancel()
    gate.may_go_on.set()
    assert await store.nar_of(await tasks[2]) == real.nar
    assert plain.nar_requests() == 1


async def test_a_fetch_goes_on_when_its_first_reader_has_gone(
    real: RealCache, plain: UpstreamServer, gate: Gate, store: Store
) -> None:
    stream = await store.path_infos.open_nar(real.tree.digest)
    assert stream is not None
    got = asyncio.create_task(store.path_infos.get(real.tree.digest))
    await anext(stream.pieces)
    await stream.pieces.aclose()
    gate.may_go_on.set()
    assert await store.nar_of(await got) == real.nar
    assert plain.nar_requests() == 1


@pytest.mark.parametrize("has_read", [True, False])
async def test_a_fetch_ends_when_its_last_reader_has_gone(
    real: RealCache, gate: Gate, store: Store, has_read: bool
) -> None:
    stream = await store.path_infos.open_nar(real.tree.digest)
    assert stream is not None
    if has_read:
        await anext(stream.pieces)
    await stream.pieces.aclose()
    await gate.was_left.wait()
    assert [piece async for piece in stream.pieces] == []


async def test_a_fetch_ends_when_nobody_waits_for_it(real: RealCache, gate: Gate, store: Store) -> None:
    tasks = [asyncio.create_task(store.path_infos.get(real.tree.digest)) for _ in range(3)]
    await gate.has_begun.wait()
    for task in tasks:
        task.cancel()
    await gate.was_left.wait()
    assert all(isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*tasks, return_exceptions=True))


async def test_a_fetch_that_was_given_up_can_begin_again(
    real: RealCache, plain: UpstreamServer, gate: Gate, store: Store
) -> None:
    task = asyncio.create_task(store.path_infos.get(real.tree.digest))
    await gate.has_begun.wait()
    task.cancel()
    await gate.was_left.wait()
    gate.may_go_on.set()
    assert await store.streamed(real.tree.digest) == real.nar
    assert plain.nar_requests() == 2


async def test_closing_ends_what_is_under_way(real: RealCache, gate: Gate, store: Store) -> None:
    stream = await store.path_infos.open_nar(real.tree.digest)
    assert stream is not None
    got = asyncio.create_task(store.path_infos.get(real.tree.digest))
    await anext(stream.pieces)
    await store.path_infos.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await got
    with pytest.raises(Unavailable, match="closed while fetching"):
        [piece async for piece in stream.pieces]


async def test_only_so_many_are_fetched_at_once(real: RealCache, plain: UpstreamServer) -> None:
    gates = [Gate(plain, plain.files.nar_name(path)) for path in (real.tree, real.referring, real.referred)]
    async with Store(plain.url, max_fetches=2) as store, asyncio.TaskGroup() as group:
        for path in (real.tree, real.referring, real.referred):
            group.create_task(store.path_infos.get(path.digest))
        begun = [asyncio.create_task(gate.has_begun.wait()) for gate in gates]
        while sum(task.done() for task in begun) < 2:
            await asyncio.wait([task for task in begun if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        for number in range(20):  # by the time these are answered, the others would have begun
            await store.path_infos.get_metadata(bytes([number] * 20))
        assert sum(task.done() for task in begun) == 2
        for gate in gates:
            gate.may_go_on.set()
        await asyncio.wait(begun)


async def test_the_end_is_held_back_until_all_was_checked(real: RealCache, gate: Gate, store: Store) -> None:
    gate._data = gate._data[:-200] + bytes(200)
    n_bytes = 0
    stream = await store.path_infos.open_nar(real.tree.digest)
    assert stream is not None
    gate.may_go_on.set()
    with pytest.raises(CorruptObject, match=str(real.tree)):  # noqa: PT012 - much comes before that
        async for piece in stream.pieces:
            n_bytes += len(piece)
    assert 0 < n_bytes <= len(real.nar) - HELD_BACK_BYTES


async def test_the_spool_leaves_nothing_behind(real: RealCache, gate: Gate, store: Store, tmp_path: Path) -> None:
    gate.may_go_on.set()
    assert await store.streamed(real.tree.digest) == real.nar
    async with asyncio.timeout(30):
        # The thread that read last lets go of the file a moment after its result is known; nothing tells when.
        while files_in(tmp_path):  # noqa: ASYNC110
            await asyncio.sleep(0)


def files_in(folder: Path) -> list[str]:
    """Files of the folder, and files of this process that were there, with or without a name."""
    opened = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return [str(file) for file in (*folder.iterdir(), *opened) if file.is_relative_to(folder)]


class FullBlobs(MemoryBlobService):
    async def put_many(self, blobs: object) -> None:
        raise OutOfSpace("blobs: no room")

    async def open_write(self) -> BlobWriter:
        raise OutOfSpace("blobs: no room")


async def test_a_full_store_is_out_of_space(real: RealCache, plain: UpstreamServer) -> None:
    async with Store(plain.url, blobs=FullBlobs()) as store:
        for ask in (store.path_infos.get, store.streamed):
            with pytest.raises(OutOfSpace, match="blobs: no room"):
                await ask(real.tree.digest)


class WatchedBlobs(MemoryBlobService):
    """Knows whether it was told to make durable what it has."""

    is_synced = False

    async def put_many(self, blobs: list[HashedBlob]) -> None:  # type: ignore[override]
        self.is_synced = False
        await super().put_many(blobs)

    async def sync(self) -> None:
        self.is_synced = True


async def test_contents_are_durable_before_they_are_referred_to(real: RealCache, plain: UpstreamServer) -> None:
    blobs = WatchedBlobs()
    async with Store(plain.url, blobs=blobs) as store:
        await store.path_infos.get(real.tree.digest)
        assert blobs.is_synced


class SlowBlobs(MemoryBlobService):
    """Lets others go first, as a disk does."""

    async def has_many(self, digests: Sequence[B3Digest]) -> Sequence[bool]:
        await asyncio.sleep(0)
        return await super().has_many(digests)


async def test_many_who_find_that_contents_are_gone_cause_one_request(real: RealCache, plain: UpstreamServer) -> None:
    blobs = SlowBlobs()
    async with Store(plain.url, blobs=blobs) as store:
        await store.path_infos.get(real.tree.digest)
        blobs.contents.clear()
        assert set(await asyncio.gather(*(store.streamed(real.tree.digest) for _ in range(5)))) == {real.nar}
    assert plain.nar_requests() == 2
