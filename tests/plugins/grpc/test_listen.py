from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pydantic import ValidationError

from plugins.grpc.loopback import memory_services, serve_in_task, serving
from plugins.grpc.rawcalls import BLOBS, PATH_INFOS, Raw, channel_to, refused
from tvix_store.blob import BlobWriter
from tvix_store.errors import ConfigError, Unavailable
from tvix_store.testing.fixtures import HELLOWORLD_BLOB
from tvix_store_grpc.blob import GrpcBlobService
from tvix_store_grpc.channel import Peer
from tvix_store_grpc.endpoint import parse_endpoint
from tvix_store_grpc.plugin import GrpcFrontendConfig
from tvix_store_grpc.server.frontend import GrpcFrontend, ServerOptions
from tvix_store_grpc.server.listen import UnixSocketOptions, parse_listen
from tvix_store_memory.blob import MemoryBlobService

anyio = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("localhost:0", True),
        ("127.1.2.3:80", True),
        ("/run/store.socket", True),
        ("./store.socket", True),
        ("@store", True),
        ("[::]:8000", False),
        ("0.0.0.0:8000", False),
        ("192.0.2.1:8000", False),
    ],
)
def test_addresses(text: str, local: bool) -> None:
    assert parse_listen(text).is_local is local
    assert GrpcFrontendConfig(type="grpc", listen=text).listen == text


@pytest.mark.parametrize(
    "text",
    ["", "8000", "localhost", "store.example:8000", "::1:8000", "[::1]", "[127.0.0.1]:1", "127.0.0.1:65536", "@",
     "127.0.0.1:+1", "run/store.socket"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="listen address"):
        parse_listen(text)
    with pytest.raises(ValidationError):
        GrpcFrontendConfig(type="grpc", listen=text)


@pytest.mark.parametrize(
    "text", ["inetd", "STDIO", "-", "sd-listen", "sd_listen_unix", "sd-listen:store", "sd-listen:*"]
)
def test_inherited_sockets_are_refused_with_the_reason(text: str) -> None:
    with pytest.raises(ConfigError, match="grpcio has no way to adopt a file descriptor"):
        parse_listen(text)


async def reached(url: str) -> bool:
    async with Peer(parse_endpoint(url)) as peer:
        return not await GrpcBlobService("remote", peer).has(HELLOWORLD_BLOB.digest)


@anyio
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "@tvix-store-test-{pid}", "{tmp}/a b%20?#é.socket"])
async def test_the_url_that_is_announced_works(listen: str, tmp_path: Path) -> None:
    listen = listen.format(pid=os.getpid(), tmp=tmp_path)
    async with serving(memory_services(), listen) as url:
        if "?" in url:  # no URL can have that in its path; the socket is there nevertheless
            assert stat.S_ISSOCK(os.stat(listen).st_mode)
        else:
            assert not url.endswith(":0")
            assert await reached(url)


@anyio
async def test_localhost_is_both_loopback_addresses_where_the_machine_has_them() -> None:
    async with serving(memory_services(), "localhost:0") as url:
        port = url.rpartition(":")[2]
        assert await reached(f"grpc+http://127.0.0.1:{port}")
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::1", 0))
            except OSError:
                return
        assert await reached(f"grpc+http://[::1]:{port}")


@anyio
async def test_a_port_in_use_is_one_plain_line() -> None:
    async with serving(memory_services()) as url:
        port = url.rpartition(":")[2]
        for listen in (f"127.0.0.1:{port}", f"localhost:{port}"):
            with pytest.raises(Unavailable, match=f"^cannot listen on {listen}: address already in use$"):
                async with serving(memory_services(), listen):
                    pass


@anyio
async def test_a_port_may_be_shared_if_both_say_so() -> None:
    async with (
        serving(memory_services(), tcp_reuse_port=True) as url,
        serving(memory_services(), f"127.0.0.1:{url.rpartition(':')[2]}", tcp_reuse_port=True) as other,
    ):
        assert other == url


@anyio
async def test_an_address_of_another_machine() -> None:
    with pytest.raises(Unavailable, match=r"cannot listen on 192\.0\.2\.1:0: cannot assign requested address"):
        async with serving(memory_services(), "192.0.2.1:0"):
            pass


# Unix sockets


@anyio
async def test_a_socket_file_is_removed_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serving(memory_services(), path) as url:
        assert url == f"grpc+unix:{path}"
        assert path.is_socket()
    assert not path.exists()


@anyio
async def test_a_socket_in_use_is_never_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serving(memory_services(), path) as url:
        for unlink in (False, True):
            with pytest.raises(Unavailable, match="somebody listens"):
                async with serving(memory_services(), path, unix=UnixSocketOptions(unlink=unlink)):
                    pass
        assert await reached(url)


@anyio
async def test_a_stale_socket_is_removed_only_if_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(Unavailable, match="unix_listen_unlink"):
        async with serving(memory_services(), path):
            pass
    assert path.is_socket()
    async with serving(memory_services(), path, unix=UnixSocketOptions(unlink=True)) as url:
        assert await reached(url)


@anyio
async def test_other_files_are_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    with pytest.raises(Unavailable, match="no socket"):
        async with serving(memory_services(), path, unix=UnixSocketOptions(unlink=True)):
            pass
    assert path.read_text() == "precious"


@anyio
async def test_a_socket_of_somebody_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serving(memory_services(), path):
        path.rename(tmp_path / "moved")
        path.write_text("another")
    assert path.read_text() == "another"


@anyio
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_permissions_of_a_socket_file(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    umask = os.umask(0o022)
    try:
        async with serving(memory_services(), path, unix=UnixSocketOptions(mode=mode)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(umask)


@anyio
async def test_a_missing_folder_and_a_long_path(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none" / "socket", "no such file"), (tmp_path / ("x" * 120), "too long")):
        with pytest.raises(Unavailable, match=reason):
            async with serving(memory_services(), path):
                pass


# The end


class WaitingBlobService(MemoryBlobService):
    """Tells when an upload has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    async def open_write(self) -> BlobWriter:
        self.begun.set()
        return await super().open_write()


async def stopping_during_a_put(
    folder: Path, drain_s: float
) -> tuple[WaitingBlobService, grpc.aio.Channel, Any, asyncio.Task[None]]:
    """A frontend that was cancelled while a client puts a blob: its store, the client, its call, the frontend."""
    blobs = WaitingBlobService()
    options = ServerOptions(drain_s=drain_s)
    frontend = GrpcFrontend("test", memory_services(blobs), parse_listen(f"{folder}/socket"), options)
    task, url = await serve_in_task(frontend)
    channel = channel_to(url)
    call = Raw(channel).open(BLOBS, "Put")
    await call.write(b"\x0a\x04some")
    await blobs.begun.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    return blobs, channel, call, task


@anyio
async def test_running_calls_may_end_after_the_frontend_was_cancelled(tmp_path: Path) -> None:
    blobs, channel, call, task = await stopping_during_a_put(tmp_path, drain_s=30)
    async with channel:
        assert not task.done()
        await call.done_writing()
        assert len(await call) == 34
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(blobs.contents.values()) == [b"some"]


@anyio
async def test_new_calls_are_refused_meanwhile(tmp_path: Path) -> None:
    _, channel, call, task = await stopping_during_a_put(tmp_path, drain_s=30)
    async with channel, channel_to(f"grpc+unix:{tmp_path}/socket") as second:
        for client in (Raw(channel), Raw(second)):
            with refused("UNAVAILABLE"):
                await client.many(PATH_INFOS, "List", b"")
        await call.done_writing()
        await call
    with pytest.raises(asyncio.CancelledError):
        await task


@anyio
async def test_calls_that_do_not_end_are_cut(tmp_path: Path) -> None:
    blobs, channel, call, task = await stopping_during_a_put(tmp_path, drain_s=0.1)
    async with channel:
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert blobs.contents == {}


@anyio
async def test_a_second_cancellation_cuts_at_once(tmp_path: Path) -> None:
    blobs, channel, call, task = await stopping_during_a_put(tmp_path, drain_s=1000)
    async with channel:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert blobs.contents == {}
    assert not (tmp_path / "socket").exists()
