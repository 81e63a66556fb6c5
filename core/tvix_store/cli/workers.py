"""More processes that serve one frontend: keeping them running, and being one of them.

The two sides share a socket, which is the stdin of the worker. It sends a byte when it listens. It stops when there is
nothing more to read: the process that started it wants it to, or has gone, by whatever signal. A worker has a session
of its own, so Ctrl-C in a terminal reaches it on this way only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self

from tvix_store.errors import ConfigError, Unavailable

__all__ = ["Starter", "Worker", "name_log_lines"]

logger = logging.getLogger("tvix_store.run")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_CALM_S = 60.0
"""After running for so long, a worker that ends is started again after the first pause."""


class Worker:
    """Another process that serves a frontend, started again when it ends.

    Args:
        frontend: Name of the frontend, for messages.
        command: Starts the process.
    """

    def __init__(self, frontend: str, command: Sequence[str]) -> None:
        self._frontend = frontend
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._has_listened = False

    async def keep_running(self, ready: Callable[[], None]) -> None:
        """Start it, and again whenever it ends; when cancelled, let it finish what is under way and wait for its end.

        Args:
            ready: Called whenever it listens.

        Raises:
            Unavailable: It ended before it has listened once, or cannot be started at all.
        """
        pause_s = _FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            what = await self._run(ready)
            if not self._has_listened:
                raise Unavailable(f"frontend {self._frontend!r}: {what} before it listened")
            if loop.time() - started > _CALM_S:
                pause_s = _FIRST_PAUSE_S
            logger.warning("%s: %s, starting another in %.1f s", self._frontend, what, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _run(self, ready: Callable[[], None]) -> str:
        """One process, from its start to its end; which one it was, and how it ended."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = self._process = await self._start(theirs)
            try:
                ours.setblocking(False)
                if await asyncio.get_running_loop().sock_recv(ours, 1):
                    self._has_listened = True
                    ready()
                status = await process.wait()
            except asyncio.CancelledError:
                ours.shutdown(socket.SHUT_WR)
                await self._ended(process)
                raise
            finally:
                self._process = None
        return f"worker {process.pid} {_ending(status)}"

    async def _start(self, stdin: socket.socket) -> asyncio.subprocess.Process:
        # Who is ready, the service manager is told by one process alone.
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, stdin=stdin.fileno(), env=environment, start_new_session=True
            )
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise Unavailable(f"frontend {self._frontend!r}: cannot start a worker: {reason}") from exc

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        """Wait for a process that was told to stop; when cancelled meanwhile, kill it."""
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            self.kill()
            status = await process.wait()
        if status:
            logger.warning("%s: worker %d %s when it had to stop", self._frontend, process.pid, _ending(status))

    def kill(self) -> None:
        """End the process at once, if there is one."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()


def _ending(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


class Starter:
    """The process that started this one, as a worker sees it. ``on_stdin`` makes one.

    Args:
        shared: Our end of the socket.
    """

    def __init__(self, shared: socket.socket) -> None:
        self._socket = shared

    @classmethod
    def on_stdin(cls) -> Self:
        """The one at the other end of stdin.

        Raises:
            ConfigError: It is not a socket.
        """
        try:
            return cls(socket.socket(fileno=os.dup(0)))
        except OSError as exc:
            raise ConfigError("--worker is for processes that `run` itself starts") from exc

    def tell_ready(self) -> None:
        """Say that this worker listens."""
        with suppress(OSError):  # it has gone, which is noticed elsewhere
            self._socket.send(b".")

    @contextmanager
    def watched(self, gone: Callable[[], None]) -> Iterator[None]:
        """Meanwhile, call ``gone`` once when this worker has to stop."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._socket)
            gone()

        loop.add_reader(self._socket, ended)
        try:
            yield
        finally:
            loop.remove_reader(self._socket)


def name_log_lines() -> None:
    """Have what is logged say which process wrote it."""

    def name(record: logging.LogRecord) -> bool:
        record.msg, record.args = f"worker {os.getpid()}: {record.getMessage()}", ()
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(name)
