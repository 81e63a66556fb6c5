"""A Chromium without a window: what it makes of a page, and one that is told what to click.

Source: Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

__all__ = ["Tab", "dumped", "opened_tab"]

_PATIENCE_S = 120
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
)


async def _started(program: str, profile: Path, *arguments: str, stdout: int, stderr: int) -> Process:
    arguments = (*_FLAGS, f"--user-data-dir={profile}", *arguments)
    return await asyncio.create_subprocess_exec(program, *arguments, stdin=DEVNULL, stdout=stdout, stderr=stderr)


async def dumped(program: str, profile: Path, url: str) -> str:
    """The document at ``url`` after all its scripts have run."""
    process = await _started(program, profile, "--dump-dom", url, stdout=PIPE, stderr=DEVNULL)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return output.decode()


class Tab:
    """A page in a running Chromium."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        self._calls = 0

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method; the answer."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters}
        await self._socket.send_json(message | ({} if self._session is None else {"sessionId": self._session}))
        while (answer := await self._socket.receive_json(timeout=_PATIENCE_S)).get("id") != self._calls:
            self._events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    async def event(self, method: str, **expected: Any) -> dict[str, Any]:
        """Wait for an event with these parameters, unless it has come already."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if event.get("method") == method and expected.items() <= event["params"].items():
                    parameters: dict[str, Any] = event["params"]
                    return parameters
            self._events.append(await self._socket.receive_json(timeout=_PATIENCE_S))

    async def open(self, url: str) -> None:
        """Go to ``url`` and wait until the page has loaded."""
        if self._session is None:
            target = await self.call("Target.createTarget", url="about:blank")
            attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self._session = attached["sessionId"]
            await self.call("Page.enable")
        self._events.clear()
        await self.call("Page.navigate", url=url)
        await self.event("Page.loadEventFired")

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in JavaScript. The policy of the page does not apply to it."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


@asynccontextmanager
async def opened_tab(program: str, profile: Path) -> AsyncIterator[Tab]:
    """Start a Chromium that is told what to do."""
    process = await _started(program, profile, "--remote-debugging-port=0", stdout=DEVNULL, stderr=PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            found = None
            while found is None:
                line = await process.stderr.readline()
                assert line, "it ended"
                found = re.match(rb"DevTools listening on (ws://\S+)", line)
        async with ClientSession() as session, session.ws_connect(found[1].decode(), max_msg_size=0) as socket:
            yield Tab(socket)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
