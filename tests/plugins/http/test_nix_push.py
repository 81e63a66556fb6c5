"""A real Nix that writes to the binary cache."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession

from plugins.http import reading
from plugins.http.nix_client import Nix, NixFailed
from plugins.http.pushing import Pusher, file_nar, narinfo_for, path_of, serving_frontend
from plugins.http.reading import memory_services, put_tree
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import contents
from vectors.nar import Dir, File, Link, Tree, read_back

pytestmark = pytest.mark.anyio

KEY = SecretKey.generate("pusher-1")
OTHER_KEY = SecretKey.generate("pusher-1")

LEAF = Dir({b"data": File(contents(1_200_000)), b"run": File(b"#!/bin/sh\n", True), b"empty": Dir({})})
MIDDLE = File(b"in the middle", True)
TOP = Dir({b"link": Link(b"data"), b"text": File(b"on top")})
TREES: tuple[Tree, ...] = (LEAF, MIDDLE, TOP)
NOT_CHECKED = ("--option", "require-sigs", "false")


@pytest.fixture
async def closure(nix: Nix) -> list[str]:
    """Paths in the store of Nix, each of which refers to those before it; none is content-addressed."""
    services = memory_services()
    path_infos: list[PathInfo] = []
    for name, tree in zip(("leaf", "middle", "top"), TREES, strict=True):
        path_infos.append(await put_tree(services, name, tree, path_infos))
    paths = [path_info.store_path.absolute() for path_info in path_infos]
    async with reading.serving(services) as url:
        await nix.run("nix", "copy", "--from", url, "--to", nix.store, "--no-check-sigs", paths[-1])
    return paths


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(str(KEY))
    return path


async def push(nix: Nix, url: str, path: str, *options: str) -> None:
    url = url if "?" in url else f"{url}?compression=zstd"  # xz, the default, takes its time
    await nix.run("nix", "copy", "--from", nix.store, "--to", url, *options, path)


async def check(tmp_path: Path, url: str, closure: list[str], *options: str) -> None:
    """Substitute the closure into another store."""
    other = Nix(tmp_path / "other")
    await other.substitute(url, closure[-1], *(options or NOT_CHECKED))
    assert [read_back(other.read(path)) for path in closure] == list(TREES)


class Requests:
    """What the access log says."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "tvix_store_http.access")
        self._log = caplog

    def with_method(self, method: str) -> list[str]:
        return [message for message in self._log.messages if f" {method} /" in message]

    def clear(self) -> None:
        self._log.clear()


@pytest.fixture
def requests(caplog: pytest.LogCaptureFixture) -> Requests:
    return Requests(caplog)


@pytest.mark.parametrize("compression", ["none", "xz", "zstd", "gzip", "bzip2", "br"])
async def test_what_was_pushed_can_be_substituted(
    nix: Nix, closure: list[str], tmp_path: Path, compression: str
) -> None:
    async with serving_frontend(tmp_path) as url:
        await push(nix, f"{url}?compression={compression}", closure[-1])
        await check(tmp_path, url, closure)


async def test_a_second_push_sends_nothing(nix: Nix, closure: list[str], tmp_path: Path, requests: Requests) -> None:
    async with serving_frontend(tmp_path) as url:
        await push(nix, url, closure[-1])
        assert len(requests.with_method("PUT")) == 2 * len(closure)
        requests.clear()
        await push(nix, url, closure[-1], "--refresh")
        assert requests.with_method("GET")
        assert requests.with_method("PUT") == []


async def test_a_nar_that_is_there_is_not_sent_again(
    nix: Nix, closure: list[str], tmp_path: Path, requests: Requests
) -> None:
    services = memory_services()
    async with serving_frontend(tmp_path, services) as url:
        await push(nix, url, closure[-1])
        await services.path_infos.delete([StorePath.from_absolute(path).digest for path in closure])
        requests.clear()
        await push(nix, url, closure[-1], "--refresh")
        assert len(requests.with_method("PUT")) == len(closure)
        assert not any("/nar/" in line for line in requests.with_method("PUT"))
        await check(tmp_path, url, closure)


@pytest.mark.parametrize("compression", ["none", "xz", "gzip", "br"])
async def test_who_pushed_remembers_where_and_gets_it_from_there(
    nix: Nix, closure: list[str], tmp_path: Path, requests: Requests, compression: str
) -> None:
    """Nix keeps the narinfos that it wrote for a month; they name files that it uploaded."""
    async with serving_frontend(tmp_path) as url:
        url = f"{url}?compression={compression}"
        await push(nix, url, closure[-1])
        requests.clear()
        await nix.run("nix", "copy", "--from", url, "--to", tmp_path / "again", "--no-check-sigs", closure[-1])
    assert read_back(tmp_path / "again" / closure[0].removeprefix("/")) == LEAF
    assert not any(".narinfo" in line for line in requests.with_method("GET"))


async def test_signing_while_pushing(nix: Nix, closure: list[str], tmp_path: Path, key_file: Path) -> None:
    async with serving_frontend(tmp_path, require_signatures=True, public_keys=(KEY.public,)) as url:
        await push(nix, f"{url}?compression=zstd&secret-key={key_file}", closure[-1])
        await check(tmp_path, url, closure, "--option", "trusted-public-keys", str(KEY.public))


@pytest.mark.parametrize("is_signed", [False, True])
async def test_an_upload_without_the_right_signature_is_refused(
    nix: Nix, closure: list[str], tmp_path: Path, key_file: Path, is_signed: bool
) -> None:
    services = memory_services()
    async with serving_frontend(tmp_path, services, require_signatures=True, public_keys=(OTHER_KEY.public,)) as url:
        with pytest.raises(NixFailed, match="403"):
            await push(nix, f"{url}?compression=zstd&secret-key={key_file}" if is_signed else url, closure[-1])
    assert [path_info async for path_info in services.path_infos.list()] == []


async def test_signing_afterwards(nix: Nix, closure: list[str], tmp_path: Path, key_file: Path) -> None:
    services = memory_services()
    async with serving_frontend(tmp_path, services) as url:
        await push(nix, url, closure[-1])
        await nix.run("nix", "store", "sign", "--store", url, "-k", key_file, "--refresh", "-r", closure[-1])
        async for path_info in services.path_infos.list():
            assert path_info.signatures == (KEY.sign(path_info),)
        await check(tmp_path, url, closure, "--option", "trusted-public-keys", str(KEY.public))


async def test_listings_are_taken(nix: Nix, closure: list[str], tmp_path: Path) -> None:
    async with serving_frontend(tmp_path) as url:
        await push(nix, f"{url}?compression=zstd&write-nar-listing=1", closure[-1])
        async with ClientSession() as session:
            listing = await Pusher(url, session).get(f"{StorePath.from_absolute(closure[0]).hash_part}.ls")
        assert listing[0] == 200
        assert '"narOffset"' in listing[1]


async def test_add_path(nix: Nix, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    async with serving_frontend(tmp_path, require_signatures=True, public_keys=(KEY.public,)) as url:
        path = (await nix.run("nix", "store", "add-path", "--store", url, tmp_path / "file")).decode().strip()
        assert await nix.run("nix", "store", "cat", "--store", url, path) == b"hello"


async def test_logs(nix: Nix, tmp_path: Path) -> None:
    drv = f"{'0' * 32}-hello.drv"
    log = nix.store / "nix/var/log/nix/drvs" / drv[:2] / drv[2:]
    log.parent.mkdir(parents=True)
    log.write_bytes(b"it was built\n")
    async with serving_frontend(tmp_path) as url:
        await nix.run("nix", "store", "copy-log", "--store", nix.store, "--to", url, f"/nix/store/{drv}")
        async with ClientSession() as session:
            assert await Pusher(url, session).get(f"log/{drv}") == (200, "it was built\n")
        assert await nix.run("nix-store", "--store", url, "--read-log", f"/nix/store/{drv}") == b"it was built\n"


async def test_two_clients_push_the_same_at_once(nix: Nix, closure: list[str], tmp_path: Path) -> None:
    other = Nix(tmp_path / "second")
    shutil.copytree(nix.store, other.store, symlinks=True)
    async with serving_frontend(tmp_path) as url:
        await asyncio.gather(push(nix, url, closure[-1]), push(other, f"{url}?compression=none", closure[-1]))
        await check(tmp_path, url, closure)


async def test_a_client_without_credentials_is_told(nix: Nix, closure: list[str], tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("alice:secret\n")
    async with serving_frontend(tmp_path, credentials_file=users) as url:
        with pytest.raises(NixFailed, match="401"):
            await push(nix, url, closure[-1])
        await push(nix, url.replace("http://", "http://alice:secret@"), closure[-1])
        await check(tmp_path, url, closure)


# --- a server that is killed ----------------------------------------------------------------------------------------

CONFIG = """
[blobservices.root]
type = "fs"
path = "{path}/blobs"
[directoryservices.root]
type = "sqlite"
path = "{path}/meta.sqlite"
[pathinfoservices.root]
type = "sqlite"
path = "{path}/meta.sqlite"
[frontends.nix]
type = "http"
listen = "127.0.0.1:0"
state = "{path}/http.sqlite"
"""


@asynccontextmanager
async def running(config: Path) -> AsyncIterator[tuple[Process, Pusher]]:
    """A store in a process of its own, and a client of it."""
    command = Path(sys.executable).with_name("tvix-store")
    process = await asyncio.create_subprocess_exec(command, "run", config, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    url = ""
    try:
        while "ready, serving" not in (line := (await process.stderr.readline()).decode()):
            assert line, "it ended"
            if "listens on " in line:
                url = line.strip().rpartition("listens on ")[2]
        async with ClientSession() as session:
            yield process, Pusher(url, session)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_what_was_acknowledged_survives_the_end_of_the_server(tmp_path: Path) -> None:
    config = tmp_path / "store.toml"
    config.write_text(CONFIG.format(path=tmp_path))
    nars = [file_nar(contents(1_000_000 // (number + 1))) for number in range(20)]
    narinfos = [narinfo_for(nar, f"n{number}") for number, nar in enumerate(nars)]
    async with running(config) as (process, pusher):
        for narinfo, nar in zip(narinfos[:-1], nars[:-1], strict=True):
            assert await pusher.put(narinfo.url, nar) == (201, "")
        cut = asyncio.create_task(pusher.put(narinfos[-1].url, nars[-1]))
        await asyncio.sleep(0)
        process.kill()
        await process.wait()
        await asyncio.wait([cut])
        cut.exception()
    async with running(config) as (_, pusher):
        for narinfo in narinfos[:-1]:
            assert (await pusher.request("HEAD", narinfo.url))[0] == 200
            assert await pusher.put(path_of(narinfo), narinfo.render()) == (200, "")
        async with pusher.session.get(f"{pusher.url}/{narinfos[0].url}") as response:
            assert await response.read() == nars[0]
        missing = replace(narinfos[-1], metadata=replace(narinfos[-1].metadata, nar_sha256=bytes(32)))
        assert (await pusher.put(path_of(missing), missing.render()))[0] == 400
