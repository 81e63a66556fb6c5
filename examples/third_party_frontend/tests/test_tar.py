"""Archives fetched from a real server, and read by a real tar."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from pydantic import ValidationError
from tvix_store.blob import BlobReader
from tvix_store.digest import B3Digest
from tvix_store.errors import Unavailable
from tvix_store.frontend import Services
from tvix_store.ingest import ingest_path
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.listen import parse_listen
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.nodes import Directory, DirectoryNode
from tvix_store.path_info import PathInfo
from tvix_store.testing.fixtures import contents, store_path
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

from tvix_store_tar.frontend import TarFrontend
from tvix_store_tar.plugin import TarFrontendConfig

pytestmark = pytest.mark.anyio

TREE = store_path("tree")
LONG = b"long-" * 40


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Blobs(MemoryBlobService):
    """Blobs whose reading can be made to wait, or to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.is_down = False

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        self.opened.set()
        await self.may_open.wait()
        if self.is_down:
            raise Unavailable("the disk is gone")
        return await super().open_read(digest)


class Store:
    """A store in memory with one tree in it."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.directories = MemoryDirectoryService()
        self.path_infos = MemoryPathInfoService()
        self.calculation = RenderingNarCalculation(self.blobs, self.directories)

    async def add(self, folder: Path) -> None:
        """Put a folder in as ``TREE``."""
        found = await ingest_path(folder, self.blobs, self.directories)
        nar = found.nar
        await self.path_infos.put(PathInfo(store_path=TREE, node=found.node, nar_size=nar.size, nar_sha256=nar.sha256))

    @asynccontextmanager
    async def served(self, *, max_entries: int = 1000) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
        """Where it is served, and the task that serves it."""
        services = Services(self.blobs, self.directories, self.path_infos, self.calculation)
        frontend = TarFrontend("test", services, parse_listen("127.0.0.1:0"), max_entries=max_entries)
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(frontend.serve(address.set_result))
        try:
            yield await address, serving
        finally:
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is served."""
    folder = tmp_path / "tree"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "hello").write_bytes(b"Hello World!")
    (folder / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (folder / "sub" / "run").chmod(0o755)
    (folder / "sub" / "large").write_bytes(contents(SMALL_BLOB_BYTES + 3 * PIECE_BYTES + 1))
    (folder / "sub" / "link").symlink_to("../hello")
    (folder / os.fsdecode(LONG)).write_bytes(b"")
    (folder / os.fsdecode(b"not utf-8 \xff")).write_bytes(bytes(512))
    return folder


@pytest.fixture
async def store(folder: Path) -> Store:
    store = Store()
    await store.add(folder)
    return store


async def fetch(url: str, *, method: str = "GET") -> tuple[int, bytes, int | None]:
    """Status, body and announced length."""
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        return response.status, await response.read(), response.content_length


async def tar(archive: bytes, *arguments: str) -> bytes:
    command = ["tar", *arguments]
    run = await asyncio.to_thread(subprocess.run, command, input=archive, capture_output=True, check=True)
    return bytes(run.stdout)


def listing(root: Path) -> Sequence[tuple[str, object]]:
    """Everything below a folder: names, contents, targets, whether it can be executed."""
    found: list[tuple[str, object]] = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found.append((name, os.readlink(path)))
        elif path.is_dir():
            found.append((name, None))
        else:
            found.append((name, (path.read_bytes(), bool(path.stat().st_mode & 0o100))))
    return found


async def test_tar_makes_of_it_what_was_put_in(store: Store, folder: Path, tmp_path: Path) -> None:
    async with store.served() as (url, _):
        status, archive, length = await fetch(f"{url}/{TREE}.tar")
    assert (status, length) == (200, len(archive))
    (tmp_path / "out").mkdir()
    await tar(archive, "-x", "-C", str(tmp_path / "out"))
    assert listing(tmp_path / "out" / str(TREE)) == listing(folder)


async def test_tar_lists_it(store: Store) -> None:
    async with store.served() as (url, _):
        _, archive, _ = await fetch(f"{url}/{TREE.hash_part}/sub.tar")
    assert await tar(archive, "-t") == b"sub/\nsub/empty/\nsub/large\nsub/link\nsub/run\n"


async def test_head_has_the_size_and_no_body(store: Store) -> None:
    async with store.served() as (url, _):
        status, body, length = await fetch(f"{url}/{TREE}.tar", method="HEAD")
        _, archive, _ = await fetch(f"{url}/{TREE}.tar")
    assert (status, body, length) == (200, b"", len(archive))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{store_path('other')}.tar", 404),
        (f"{TREE.hash_part}-another-name.tar", 404),
        (f"{TREE}/none.tar", 404),
        (f"{TREE}/hello/below.tar", 404),
        (f"{TREE}", 400),
        ("hello.tar", 400),
        ("", 400),
    ],
)
async def test_what_is_not_there(store: Store, path: str, expected: int) -> None:
    async with store.served() as (url, _):
        assert (await fetch(f"{url}/{path}"))[0] == expected


async def test_a_missing_blob_is_found_before_the_status(store: Store) -> None:
    store.blobs.contents.clear()
    async with store.served() as (url, _):
        status, body, _ = await fetch(f"{url}/{TREE}.tar")
    assert status == 500
    assert b"does not exist" in body


async def test_a_late_failure_breaks_the_connection(store: Store) -> None:
    store.blobs.is_down = True
    async with store.served() as (url, _):
        with pytest.raises(aiohttp.ClientError):
            await fetch(f"{url}/{TREE}/sub/large.tar")


async def test_an_archive_without_an_end_is_refused(store: Store) -> None:
    """Sixty levels of two times the same directory: 2^60 entries in sixty objects."""
    directory = Directory()
    for _ in range(60):
        await store.directories.put(directory)
        child: DirectoryNode = directory.node()
        directory = Directory({b"a": DirectoryNode(child.digest, 1), b"b": DirectoryNode(child.digest, 1)})
    await store.directories.put(directory)
    await store.path_infos.put(PathInfo(store_path=TREE, node=directory.node(), nar_size=1, nar_sha256=bytes(32)))
    async with store.served(max_entries=100) as (url, _):
        status, body, _ = await fetch(f"{url}/{TREE}.tar")
    assert (status, body) == (500, b"more than 100 files, directories and symlinks\n")


async def test_a_running_download_is_finished_and_no_new_one_begun(store: Store) -> None:
    store.blobs.may_open.clear()
    async with store.served() as (url, serving):
        download = asyncio.create_task(fetch(f"{url}/{TREE}/sub/large.tar"))
        await store.blobs.opened.wait()
        serving.cancel()
        while True:  # until it has stopped listening
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            except ConnectionError:
                break
            writer.close()
        store.blobs.may_open.set()
        status, archive, length = await download
    assert (status, length) == (200, len(archive))


async def test_an_address_that_is_taken_is_named(store: Store) -> None:
    async with store.served() as (url, _):
        address = parse_listen(url.removeprefix("http://"))
        services = Services(store.blobs, store.directories, store.path_infos, store.calculation)
        with pytest.raises(Unavailable, match=r"second: cannot listen on .*: address already in use"):
            await TarFrontend("second", services, address).serve(lambda _: None)


@pytest.mark.parametrize("listen", ["/run/tar.sock", "example.org:80", "localhost"])
def test_addresses_that_do_not_do(listen: str) -> None:
    with pytest.raises(ValidationError):
        TarFrontendConfig(type="tar", listen=listen)
