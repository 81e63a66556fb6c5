"""The loop over ``/dev/fuse``: requests are read, answered, and replies written, until the mount is gone."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import Counter
from collections.abc import Coroutine
from inspect import iscoroutine
from typing import Any

from tvix_store.errors import Unavailable
from tvix_store.resource import AsyncResource, cancel_all
from tvix_store_fuse.messages import HEADER_IN, HEADER_OUT, UNIQUE_IN, Header, Opcode, Reply, error_reply, store_notice
from tvix_store_fuse.protocol import MAX_REQUEST_BYTES, Protocol

__all__ = ["Session"]

logger = logging.getLogger(__name__)

_AT_ONCE = 32
"""Requests that are answered before others in this event loop have their turn."""


class Session(AsyncResource):
    """One mount's connection to the kernel.

    Attributes:
        initialised: Set when the kernel and we have agreed on how to talk: then the mount can be used.
        ended: Set when the connection is gone: the filesystem was unmounted and nobody has a file open any more.
        n_requests: How many there were, by the code of what was asked for.

    Args:
        fd: The connection; stays the caller's.
        protocol: Answers the requests.
    """

    def __init__(self, fd: int, protocol: Protocol) -> None:
        self._fd = fd
        self._protocol = protocol
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._failure: OSError | None = None
        self.initialised = asyncio.Event()
        self.ended = asyncio.Event()
        self.n_requests: Counter[int] = Counter()

    def start(self) -> None:
        """Answer requests from now on, in the running event loop."""
        os.set_blocking(self._fd, False)
        asyncio.get_running_loop().add_reader(self._fd, self._read_some)

    async def wait_initialised(self) -> bool:
        """Wait until the mount can be used; whether it can, as it may be unmounted before.

        Raises:
            Unavailable: The connection broke, or the kernel is too old.
        """
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.initialised, self.ended)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        if not self.initialised.is_set():
            await self.wait_ended()
        return self.initialised.is_set()

    async def wait_ended(self) -> None:
        """Wait until the connection is gone.

        Raises:
            Unavailable: It broke.
        """
        await self.ended.wait()
        if self._failure is not None:
            raise Unavailable(f"the connection to the kernel broke: {self._failure.strerror}") from self._failure

    def push(self, inode: int, data: bytes) -> bool:
        """Put the whole contents of a file into the page cache. Blocks for as long as the kernel reads the same file
        from us, so it must not be called in the event loop's thread.

        Returns:
            Whether it is there now; not if the kernel does not know the inode, or has no memory to spare.
        """
        try:
            os.writev(self._fd, store_notice(inode, data))
        except OSError:
            return False
        return True

    def counted(self) -> str:
        """How many requests there were, the most frequent ones first."""
        names = {opcode.value: opcode.name for opcode in Opcode}
        return ", ".join(f"{names.get(opcode, str(opcode))} {count}" for opcode, count in self.n_requests.most_common())

    def _read_some(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                request = os.read(self._fd, MAX_REQUEST_BYTES)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in (errno.ENOENT, errno.EINTR):  # whoever asked has gone
                    continue
                self._end(None if exc.errno == errno.ENODEV else exc)
                return
            if len(request) < HEADER_IN.size:
                if not request:  # a socket that was closed, where it is no device
                    self._end(None)
                    return
                self._end(OSError(errno.EIO, "a request was cut off"))
                return
            self._serve(request)
            if self.ended.is_set():
                return

    def _serve(self, request: bytes) -> None:
        header = Header.unpack(request)
        self.n_requests[header.opcode] += 1
        if header.opcode == Opcode.INTERRUPT:
            self._interrupt(request[HEADER_IN.size :])
            return
        answer = self._protocol.answer(header, request)
        if iscoroutine(answer):
            task = self._under_way[header.unique] = asyncio.create_task(self._finish(header.unique, answer))
            task.add_done_callback(lambda _: self._under_way.pop(header.unique, None))
        elif answer is not None:
            self._write(answer)  # type: ignore[arg-type]
        if header.opcode == Opcode.INIT:
            if self._protocol.is_initialised:
                self.initialised.set()
            else:
                self._end(OSError(errno.EPROTO, "the kernel speaks another protocol"))

    def _interrupt(self, body: bytes) -> None:
        if len(body) < UNIQUE_IN.size:
            return
        interrupted = self._under_way.get(UNIQUE_IN.unpack_from(body)[0])
        if interrupted is not None:
            # Not at once: it may have come with the request, and a task that has not begun cannot answer.
            asyncio.get_running_loop().call_soon(interrupted.cancel)

    async def _finish(self, unique: int, answer: Coroutine[Any, Any, Reply]) -> None:
        try:
            made = await answer
        except asyncio.CancelledError:
            self._write(error_reply(unique, errno.EINTR))
            raise
        self._write(made)

    def _write(self, made: Reply) -> None:
        if self.ended.is_set():
            return
        try:
            os.writev(self._fd, made)
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                self._end(None)
            elif exc.errno != errno.ENOENT:  # whoever asked has gone
                logger.error("the kernel did not take a reply of %d bytes: %s", sum(map(len, made)), exc.strerror)
                if len(made) > 1:
                    # Nobody may be left waiting. If it has been told by now, that it is told again does no harm.
                    self._write(error_reply(HEADER_OUT.unpack_from(made[0])[2], errno.EIO))

    def _end(self, failure: OSError | None) -> None:
        if self.ended.is_set():
            return
        asyncio.get_running_loop().remove_reader(self._fd)
        self._failure = failure
        self.ended.set()

    async def aclose(self) -> None:
        """Answer nothing any more; what is under way is given up."""
        asyncio.get_running_loop().remove_reader(self._fd)
        self.ended.set()
        await asyncio.sleep(0)  # what has not begun would leave coroutines that were never awaited
        await cancel_all(self._under_way.values())
