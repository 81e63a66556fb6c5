"""Nix, a store, and a store behind that one: what comes through when the far one dies, is not there, or lies."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, TraceConfig, web

from e2e.http_chain import Contents, Relay, Server, answering, far_config, near_config, tvix_store, url_of
from plugins.http.nix_client import Nix, NixFailed
from tvix_store.composition import Composition
from tvix_store.limits import MIB
from tvix_store.narinfo import NarInfo
from tvix_store.registry import Registry
from tvix_store.signing import SecretKey
from tvix_store.store_config import StoreConfig
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import store_path
from vectors.nar import Dir, File, Link

pytestmark = pytest.mark.anyio

LARGE_BYTES = 32 * MIB
HELD_BYTES = 8 * MIB


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    body: bytes
    is_whole: bool


async def get(url: str) -> Answer:
    async with ClientSession(timeout=ClientTimeout(total=60)) as client, client.get(url) as response:
        body = bytearray()
        try:
            async for piece in response.content.iter_any():
                body += piece
        except ClientError:
            return Answer(response.status, bytes(body), False)
        return Answer(response.status, bytes(body), True)


async def narinfo_of(url: str, path: StorePath) -> NarInfo:
    answer = await get(f"{url}/{path.hash_part}.narinfo")
    assert (answer.status, answer.is_whole) == (200, True)
    return NarInfo.parse(answer.body)


async def nar_of(url: str, path: StorePath) -> Answer:
    return await get(f"{url}/{(await narinfo_of(url, path)).url}")


async def stored(folder: Path) -> set[StorePath]:
    """The paths in a store, which may be served meanwhile."""
    registry = Registry.load()
    config = StoreConfig.from_urls("memory://", "memory://", f"sqlite://{folder}/metadata.sqlite", registry, "test")
    async with Composition(config, registry) as composition:
        services = await composition.services()
        return {path_info.store_path async for path_info in services.path_infos.list()}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What the far store has."""
    contents = Contents(tmp_path_factory.mktemp("far"))
    contents.add_file("large", LARGE_BYTES)
    contents.add_file("other", 1000)
    leaf = contents.add("leaf", Dir({b"hello": File(b"Hello!", executable=True), b"link": Link(b"hello")}))
    contents.add("top", File(leaf.absolute().encode()), [leaf, store_path("top")])
    contents.add_file("popular", 2 * MIB)
    for name in LIES:
        contents.add_file(name.replace(" ", "-"), 2 * MIB)
    contents.store()
    return contents


@pytest.fixture(scope="module")
def far(contents: Contents) -> Iterator[Server]:
    with Server(far_config(contents.folder)) as server:
        yield server


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Where the relays listen, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
async def relay(far: Server, listener: socket.socket) -> AsyncIterator[Relay]:
    async with Relay.serving(far.url, listener) as relay:
        yield relay


@pytest.fixture(scope="module")
def near_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("near")


@pytest.fixture(scope="module")
def near(contents: Contents, listener: socket.socket, near_folder: Path) -> Iterator[Server]:
    with Server(near_config(near_folder, url_of(listener), [contents.key.public])) as server:
        yield server


# --- the far side dies ---


@asynccontextmanager
async def relayed_far(contents: Contents) -> AsyncIterator[tuple[Relay, Server]]:
    """A far server that may be killed."""
    with Server(far_config(contents.folder)) as far, socket.create_server(("127.0.0.1", 0)) as listener:
        async with Relay.serving(far.url, listener) as relay:
            yield relay, far


async def test_far_is_killed_in_the_middle_of_a_nar(contents: Contents, tmp_path: Path) -> None:
    large, other = store_path("large"), store_path("other")
    config = tmp_path / "near"
    async with relayed_far(contents) as (relay, far):
        with Server(near_config(config, relay.url, [contents.key.public])) as near:
            nar_path = await relay.nar_path(large)
            is_held, may_go_on = relay.hold(nar_path, HELD_BYTES)
            download = asyncio.create_task(nar_of(near.url, large))
            await is_held.wait()
            far.kill()
            may_go_on.set()
            broken = await download
            assert (broken.status, broken.is_whole) == (200, False)
            assert contents.nars[large].startswith(broken.body)
            assert len(broken.body) < LARGE_BYTES
            line = await asyncio.to_thread(near.logged, "WARNING")
            assert f"Unavailable: upstream: {relay.url}/{nar_path}" in line
            assert near.log[-1] == line
            # What was asked for lately is still known, what was not is not said to be absent.
            nar_url = (await narinfo_of(near.url, large)).url
            for name in (nar_url, f"{other.hash_part}.narinfo"):
                answer = await get(f"{near.url}/{name}")
                assert (answer.status, answer.body.count(b"\n")) == (503, 1)
                assert relay.url.encode() in answer.body
            assert await stored(config) == set()
            with Server(far_config(contents.folder)) as far_again:
                relay.far_url = far_again.url
                assert (await get(f"{near.url}/{nar_url}")).body == contents.nars[large]
                assert (await nar_of(near.url, other)).body == contents.nars[other]
            assert await stored(config) == {large, other}
            assert not [line for line in near.log if "Traceback" in line]
    tvix_store("verify", "--config", config / "near.toml")


async def test_far_is_restarted_before_near_loses_patience(contents: Contents, tmp_path: Path) -> None:
    large = store_path("large")
    async with relayed_far(contents) as (relay, far):
        with Server(near_config(tmp_path / "near", relay.url, [contents.key.public])) as near:
            is_held, may_go_on = relay.hold(await relay.nar_path(large), HELD_BYTES)
            download = asyncio.create_task(nar_of(near.url, large))
            await is_held.wait()
            far.kill()
            with Server(far_config(contents.folder)) as far_again:
                relay.far_url = far_again.url
                may_go_on.set()
                assert (await download).body == contents.nars[large]
            assert [int(text.removeprefix("bytes=").rstrip("-")) > 0 for text in relay.ranges] == [True]


async def test_far_is_not_there_when_near_starts(contents: Contents, tmp_path: Path) -> None:
    leaf, other, folder = store_path("leaf"), store_path("other"), tmp_path / "near"
    with socket.create_server(("127.0.0.1", 0)) as unused:
        listen = "{}:{}".format(*unused.getsockname())
    config = near_config(folder, f"http://{listen}", [contents.key.public], retries=0)
    with Server(far_config(contents.folder, listen)), Server(config) as near:
        narinfo = await narinfo_of(near.url, leaf)
        assert (await nar_of(near.url, leaf)).is_whole
        assert near.stop() == 0
    with Server(config) as near:
        assert await narinfo_of(near.url, leaf) == narinfo
        assert (await nar_of(near.url, leaf)).body == contents.nars[leaf]
        for path in (other, store_path("nowhere")):
            answer = await get(f"{near.url}/{path.hash_part}.narinfo")
            assert answer.status == 503
            assert listen.encode() in answer.body
        with Server(far_config(contents.folder, listen)):
            assert (await nar_of(near.url, other)).body == contents.nars[other]
            assert (await get(f"{near.url}/{store_path('nowhere').hash_part}.narinfo")).status == 404


# --- the far side lies ---


@dataclass(frozen=True)
class Liar:
    """Between the two sides, in place of the far one; it has the key.

    Args:
        relay: Where the answers come from.
        path: What to lie about.
        key: The key.
    """

    relay: Relay
    path: StorePath
    key: SecretKey

    async def say(self, key: SecretKey | None = None, **changes: Any) -> None:
        """Another narinfo, signed well."""
        narinfo = await self.relay.narinfo(self.path)
        metadata = replace(narinfo.metadata, signatures=(), **changes)
        metadata = metadata.with_signatures((key or self.key).sign(metadata))
        self.say_bytes(replace(narinfo, metadata=metadata, file_hash=None, file_size=None).render())

    def say_bytes(self, data: bytes) -> None:
        self.relay.instead[f"{self.path.hash_part}.narinfo"] = answering(data)

    async def give(self, change: Callable[[bytes], bytes]) -> None:
        """Another NAR."""
        nar_path = await self.relay.nar_path(self.path)
        self.relay.instead[nar_path] = answering(change(await self.relay.body(nar_path)))

    async def never_end(self) -> None:
        nar_path = await self.relay.nar_path(self.path)
        start = await self.relay.body(nar_path)

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(start)
            while True:
                await response.write(bytes(1 << 16))

        self.relay.instead[nar_path] = answer


async def wrong_size(liar: Liar) -> None:
    nar_size = (await liar.relay.narinfo(liar.path)).metadata.nar_size
    await liar.say(nar_size=nar_size + 8)


async def garbage_narinfo(liar: Liar) -> None:
    liar.say_bytes(b"<html>Please log in</html>\n")


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


LIES: dict[str, tuple[Callable[[Liar], Awaitable[None]], str]] = {
    "wrong hash": (lambda liar: liar.say(nar_sha256=bytes(32)), "NarHash is sha256:000"),
    "wrong size": (wrong_size, "NarSize is"),
    "wrong signature": (lambda liar: liar.say(SecretKey.generate("far-1")), "signature by 'far-1' is wrong"),
    "other references": (lambda liar: liar.say(SecretKey.generate("far-2"), references=(liar.path,)), "'far-2' only"),
    "truncated": (lambda liar: liar.give(lambda nar: nar[:-100]), "archive is truncated"),
    "flipped bit": (lambda liar: liar.give(flipped), "NarHash is"),
    "garbage": (lambda liar: liar.give(lambda nar: os.urandom(len(nar))), "the NAR at nar/"),
    "empty": (lambda liar: liar.give(lambda nar: b""), "the NAR at nar/"),
    "never ending": (Liar.never_end, "goes on behind"),
    "garbage narinfo": (garbage_narinfo, "narinfo"),
}


@pytest.mark.parametrize("name", LIES)
async def test_far_lies(contents: Contents, relay: Relay, near: Server, near_folder: Path, name: str) -> None:
    lie, reason = LIES[name]
    path, n_lines = store_path(name.replace(" ", "-")), len(near.log)
    await lie(Liar(relay, path, contents.key))
    answer = await get(f"{near.url}/{path.hash_part}.narinfo")
    if answer.status == 200:
        announced = NarInfo.parse(answer.body)
        answer = await get(f"{near.url}/{announced.url}")
        assert len(answer.body) < announced.metadata.nar_size
    assert answer.status == 500 or not answer.is_whole
    line = await asyncio.to_thread(near.logged, "WARNING", n_lines)
    assert re.search(re.escape(reason), line)
    assert path.hash_part in line
    assert path not in await stored(near_folder)
    relay.instead.clear()
    assert (await nar_of(near.url, path)).body == contents.nars[path]
    assert path in await stored(near_folder)
    assert len(near.log) == n_lines + 1, near.log[n_lines:]


# --- all is well ---


async def test_many_clients_of_one_nar_that_is_not_near(contents: Contents, relay: Relay, near: Server) -> None:
    path = store_path("popular")
    url = f"{near.url}/{(await relay.narinfo(path)).url}"
    is_held, may_go_on = relay.hold(await relay.nar_path(path), 1)
    have_asked = asyncio.Semaphore(0)

    async def has_asked(*_: object) -> None:
        have_asked.release()

    trace = TraceConfig()
    trace.on_request_headers_sent.append(has_asked)
    async with ClientSession(connector=TCPConnector(limit=0), trace_configs=[trace]) as client:

        async def sha256() -> bytes:
            async with client.get(url) as response:
                hasher = hashlib.sha256()
                async for piece in response.content.iter_any():
                    hasher.update(piece)
                return hasher.digest()

        downloads = [asyncio.create_task(sha256()) for _ in range(200)]
        for _ in downloads:
            await have_asked.acquire()
        await is_held.wait()
        may_go_on.set()
        assert set(await asyncio.gather(*downloads)) == {hashlib.sha256(contents.nars[path]).digest()}
    assert relay.nar_requests() == 1
    assert relay.requests.count(f"{path.hash_part}.narinfo") == 1


async def test_nix_substitutes_through_both(contents: Contents, relay: Relay, near: Server, tmp_path: Path) -> None:
    nix, top, leaf = Nix(tmp_path / "client"), store_path("top"), store_path("leaf")
    with pytest.raises(NixFailed):
        await nix.substitute(near.url, top.absolute())
    await nix.substitute(near.url, top.absolute(), "--option", "trusted-public-keys", str(contents.key.public))
    for path in (top, leaf):
        assert await nix.run("nix-store", "--dump", nix.read(path.absolute())) == contents.nars[path]
    references = await nix.run("nix-store", "--store", nix.store, "--query", "--references", top.absolute())
    assert set(references.decode().split()) == {top.absolute(), leaf.absolute()}


async def test_a_closure_is_imported_through_both(
    contents: Contents, relay: Relay, near: Server, tmp_path: Path
) -> None:
    top, leaf = store_path("top"), store_path("leaf")
    options = ("--store", f"sqlite://{tmp_path}/store.sqlite", "--trusted-public-key", contents.key.public)
    lines = await asyncio.to_thread(tvix_store, "import", "--from", near.url, *options, top.hash_part)
    assert lines.split() == [leaf.absolute(), top.absolute()]
