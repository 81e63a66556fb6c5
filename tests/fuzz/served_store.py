"""The binary cache that request fuzzing is done on, a client without manners, and what must be as before after it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from plugins.http.pushing import file_nar, narinfo_for, opened_site, url_of
from plugins.http.reading import nar_url, put_tree, started, wire
from tvix_store.frontend import Services
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey
from tvix_store_http.frontend import HttpFrontend
from tvix_store_http.listen import parse_listen
from vectors.nar import Dir, File, Link
from vectors.nix_keys import KEYS

__all__ = ["Hung", "PUSHED", "PUSHED_NAR", "TREE", "ServedStore", "serving_store", "settling", "statuses", "stored"]

TREE = Dir(
    {
        b"big": File(bytes(range(256)) * 400),
        b"bin": Dir({b"run": File(b"#!/bin/sh\n", executable=True)}),
        b"page.html": File(b"<script>alert(1)</script>\n"),
        b"\xff\n": Link(b"bin/../page.html"),
    }
)
"""Of the path `served`, which the corpus only asks for."""

PUSHED_NAR = file_nar(b"pushed\n" * 100)
PUSHED = narinfo_for(PUSHED_NAR, "pushed")
"""What the corpus uploads."""

_HUNG_S = 30.0
"""What takes longer will never come."""

_HEAD = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3}) [^\r\n]*\r\n")
_DATE = re.compile(rb"\r\nDate: [^\r]*")


async def stored(services: Services) -> PathInfo:
    """Store the path that is asked for; signed, so that nobody can replace it."""
    return await put_tree(services, "served", TREE, key=SecretKey.parse(KEYS[0][0]))


class Hung(BaseException):
    """The server has not done what it has to; no Exception, as hypothesis would wait for each smaller request, too."""


class ServedStore:
    """A running frontend.

    Args:
        url: Where it listens.
        served: The path in it.
    """

    def __init__(self, url: str, served: PathInfo) -> None:
        self.url = url
        self._check = _requests_for(served)
        self._before = b""

    async def remember(self) -> None:
        """Note what is served."""
        self._before = await self._answers()

    async def check(self) -> None:
        """Uploads are taken, and the answers are the same as in the beginning."""
        after = await self._answers()
        assert after == self._before

    async def talk(self, pieces: Sequence[bytes], quiet_s: float = 0.1) -> bytes:
        """Send these bytes; all that is answered until the connection ends.

        Args:
            pieces: What is sent.
            quiet_s: How long to wait for more of an answer before saying that nothing more will be sent.
        """
        answer = b""
        async with wire(self.url) as connection:
            for piece in pieces:
                connection.send(piece)
                await asyncio.sleep(0)  # so that they arrive one by one
            limit_s = quiet_s
            while True:
                try:
                    async with asyncio.timeout(limit_s):
                        piece = await connection.reader.read(2**16)
                except ConnectionError:
                    return answer
                except TimeoutError:
                    if limit_s == _HUNG_S:
                        raise Hung(f"the connection has not ended {_HUNG_S:g} s after the requests did") from None
                    connection.writer.write_eof()
                    limit_s = _HUNG_S
                else:
                    if not piece:
                        return answer
                    answer += piece

    async def _answers(self) -> bytes:
        async with wire(self.url) as connection:
            connection.send(self._check)
            try:
                async with asyncio.timeout(_HUNG_S):
                    answers = await connection.reader.read()
            except TimeoutError:
                raise Hung(f"what was answered before is not within {_HUNG_S:g} s") from None
        assert statuses(answers) == [200, 200, 200, 200, 200, 201], answers[:2000]
        return _DATE.sub(b"", answers)


@asynccontextmanager
async def settling() -> AsyncIterator[None]:
    """Wait until the server has ended what it began meanwhile."""
    before = asyncio.all_tasks()
    yield
    if running := asyncio.all_tasks() - before:
        _, hung = await asyncio.wait(running, timeout=_HUNG_S)
        if hung:
            raise Hung(f"still running {_HUNG_S:g} s after the connections have ended: {hung}")


def statuses(answers: bytes) -> list[int]:
    """Of one answer after the other; no body that is served looks like one."""
    return [int(status) for status in _HEAD.findall(answers)]


def _requests_for(served: PathInfo) -> bytes:
    """For what must not change, then an upload, which needs the one slot that there is for them."""
    hash_part, base_name = served.store_path.hash_part, served.store_path.base_name
    targets = ["nix-cache-info", f"{hash_part}.narinfo", nar_url(served), f"{hash_part}.ls", f"raw/{base_name}/big"]
    asked = "".join(f"GET /{target} HTTP/1.1\r\nHost: check\r\n\r\n" for target in targets)
    nar = file_nar(b"check\n")
    put = f"PUT /{url_of(nar)} HTTP/1.1\r\nHost: check\r\nConnection: close\r\nContent-Length: {len(nar)}\r\n\r\n"
    return (asked + put).encode() + nar


@asynccontextmanager
async def serving_store(path: Path, services: Services) -> AsyncIterator[ServedStore]:
    """Serve a store with one path; takes uploads, of NARs one at a time.

    Args:
        path: Directory for the state.
        services: Empty ones.
    """
    served = await stored(services)
    async with opened_site(
        path,
        services,
        nar_copies_dir=str(path),
        max_uploads=1,
        max_nar_bytes=1_000_000,
        max_document_bytes=10_000,
    ) as site:
        options = replace(site.options, narinfo_cache_s=3600.0)  # so that the answers from memory are reached, too
        frontend = HttpFrontend("test", services, parse_listen("127.0.0.1:0"), options, state=site.state)
        task, url = await started(frontend)
        try:
            store = ServedStore(url, served)
            await store.remember()
            yield store
        finally:
            task.cancel()
            await asyncio.wait([task])
