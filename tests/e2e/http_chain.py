"""Two stores that serve binary caches, one in front of the other, and a relay between them that can misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.narinfo import NarInfo
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import store_path
from vectors.nar import Dir, File, Tree, encode, materialise

__all__ = ["Contents", "Handler", "Relay", "Server", "answering", "far_config", "near_config", "tvix_store", "url_of"]

HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Date", "Server")
PIECE_BYTES = 1 << 16


def _command() -> str:
    """The console script of the environment that runs the tests."""
    path = shutil.which("tvix-store", path=os.path.dirname(sys.executable))
    assert path is not None, "tvix-store is not installed beside this Python: pip install -e ."
    return path


def tvix_store(*arguments: object) -> str:
    """What a command prints that ends well."""
    return subprocess.run([_command(), *map(str, arguments)], check=True, capture_output=True, text=True).stdout


class Server:
    """``tvix-store run`` of a configuration; ``url`` is where its frontend listens, ``log`` what it has written."""

    def __init__(self, config: Path) -> None:
        self.log: list[str] = []
        self._has_grown = threading.Condition()
        self._process = subprocess.Popen([_command(), "run", config], stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self.logged("listens on ").rpartition("listens on ")[2]
        self.logged("ready, serving")

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                with self._has_grown:
                    self.log.append(line.rstrip("\n"))
                    self._has_grown.notify_all()
        with self._has_grown:
            self._has_grown.notify_all()

    def logged(self, text: str, since: int = 0) -> str:
        """The first line with ``text``, from line ``since`` on; waits for it."""

        def found() -> str | None:
            return next((line for line in self.log[since:] if text in line), None)

        with self._has_grown:
            self._has_grown.wait_for(lambda: found() is not None or not self._reader.is_alive(), 60)
            line = found()
        assert line is not None, f"{text!r} is not in the log: {self.log[since:]}"
        return line

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; returns the exit status."""
        self._process.send_signal(number)
        status = self._process.wait(60)
        self._reader.join()
        return status

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self.kill()


def far_config(folder: Path, listen: str = "127.0.0.1:0") -> Path:
    """A store in ``folder``, served over HTTP."""
    path = folder / f"far-{listen.rpartition(':')[2]}.toml"
    path.write_text(_store(folder) + f"[pathinfoservices.root]\n{_database(folder)}{_frontend(listen)}")
    return path


def near_config(folder: Path, upstream_url: str, keys: Sequence[object], *, retries: int = 1) -> Path:
    """A store in ``folder`` that takes what it lacks from ``upstream_url``, if one of ``keys`` has signed it."""
    (folder / "spool").mkdir(parents=True)
    path = folder / "near.toml"
    path.write_text(
        _store(folder)
        + '[pathinfoservices.root]\ntype = "cache"\nnear = "disk"\nfar = "upstream"\n'
        + f"[pathinfoservices.disk]\n{_database(folder)}"
        + f'[pathinfoservices.upstream]\ntype = "nix"\nbase_url = "{upstream_url}"\nspool_dir = "{folder}/spool"\n'
        + f"public_keys = {json.dumps(list(map(str, keys)))}\nretries = {retries}\nnegative_ttl_s = 0.0\n"
        + _frontend("127.0.0.1:0")
    )
    return path


def _store(folder: Path) -> str:
    blobs = f'[blobservices.root]\ntype = "fs"\npath = "{folder}/blobs"\n'
    return f"{blobs}[directoryservices.root]\n{_database(folder)}"


def _database(folder: Path) -> str:
    return f'type = "sqlite"\npath = "{folder}/metadata.sqlite"\n'


def _frontend(listen: str) -> str:
    return f'[frontends.http]\ntype = "http"\nlisten = "{listen}"\nnarinfo_cache_s = 0.0\ndrain_s = 1.0\n'


@dataclass
class Contents:
    """Store paths that are not content-addressed, signed by ``key``, and the folder of the store that has them."""

    folder: Path
    key: SecretKey = field(default_factory=lambda: SecretKey.generate("far-1"))
    nars: dict[StorePath, bytes] = field(default_factory=dict)
    _graph: list[dict[str, object]] = field(default_factory=list)

    def add(self, name: str, tree: Tree, references: Sequence[StorePath] = ()) -> StorePath:
        """A path with these contents, to be stored."""
        path = store_path(name)
        (self.folder / "paths").mkdir(exist_ok=True)
        materialise(tree, self.folder / "paths" / path.base_name)
        nar = self.nars[path] = encode(tree)
        self._graph.append(
            {
                "path": path.absolute(),
                "narSize": len(nar),
                "narHash": NixHash.of(HashAlgorithm.SHA256, nar).nix(),
                "references": [reference.absolute() for reference in references],
            }
        )
        return path

    def add_file(self, name: str, n_bytes: int, references: Sequence[StorePath] = ()) -> StorePath:
        """A path with a file that does not compress."""
        return self.add(name, Dir({b"file": File(os.urandom(n_bytes))}), references)

    def store(self) -> None:
        """Store what was added."""
        (self.folder / "graph.json").write_text(json.dumps(self._graph))
        (self.folder / "secret").touch(0o600)
        (self.folder / "secret").write_text(str(self.key))
        config = far_config(self.folder)
        tvix_store("copy", "--config", config, self.folder / "graph.json", "--store-dir", self.folder / "paths")
        tvix_store("sign", "--config", config, "--all", "--key-file", self.folder / "secret")


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Relay:
    """Passes requests on to ``far_url``, unless a handler in ``instead`` answers for a path.

    ``requests`` are the paths, ``ranges`` the parts that were asked for.

    A connection that breaks behind it breaks in front of it.
    """

    def __init__(self, far_url: str) -> None:
        self.far_url = far_url
        self.url = ""
        self.instead: dict[str, Handler] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self._session: ClientSession

    @classmethod
    @asynccontextmanager
    async def serving(cls, far_url: str, listener: socket.socket) -> AsyncIterator[Relay]:
        relay = cls(far_url)
        app = web.Application()
        app.router.add_get("/{path:.*}", relay._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        async with ClientSession(auto_decompress=False, timeout=ClientTimeout(total=None)) as relay._session:
            try:
                await web.SockSite(runner, listener.dup()).start()
                relay.url = url_of(listener)
                yield relay
            finally:
                await runner.cleanup()

    def nar_requests(self) -> int:
        return sum(path.startswith("nar/") for path in self.requests)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.requests.append(path)
        self.ranges += request.headers.getall("Range", [])
        return await self.instead.get(path, self.passed_on)(request)

    async def passed_on(
        self, request: web.Request, after_piece: Callable[[int], Awaitable[None]] | None = None
    ) -> web.StreamResponse:
        """What the far side answers; ``after_piece`` is told how much of the body has been passed on."""
        n_bytes = 0
        headers = {name: value for name, value in request.headers.items() if name not in (*HOP_BY_HOP, "Host")}
        try:
            async with self._session.get(f"{self.far_url}{request.raw_path}", headers=headers) as answer:
                kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    await response.write(piece)
                    n_bytes += len(piece)
                    if after_piece is not None:
                        await after_piece(n_bytes)
                await response.write_eof()
                return response
        except ClientError:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

    def hold(self, path: str, n_bytes: int) -> tuple[asyncio.Event, asyncio.Event]:
        """Stop in ``path`` after so many bytes, once. Returns what tells of it, and what lets it go on."""
        is_held, may_go_on = asyncio.Event(), asyncio.Event()

        async def after_piece(passed: int) -> None:
            if passed >= n_bytes:
                is_held.set()
                await may_go_on.wait()

        async def answer(request: web.Request) -> web.StreamResponse:
            del self.instead[path]
            return await self.passed_on(request, after_piece)

        self.instead[path] = answer
        return is_held, may_go_on

    async def body(self, path: str) -> bytes:
        """What the far side has there."""
        async with self._session.get(f"{self.far_url}/{path}") as answer:
            answer.raise_for_status()
            return await answer.read()

    async def narinfo(self, path: StorePath) -> NarInfo:
        return NarInfo.parse(await self.body(f"{path.hash_part}.narinfo"))

    async def nar_path(self, path: StorePath) -> str:
        """Of the URL in the narinfo, without its query."""
        return (await self.narinfo(path)).url.partition("?")[0]


def answering(body: bytes) -> Handler:
    """Answers with this, whatever is asked."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    return answer


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"http://{host}:{port}"
