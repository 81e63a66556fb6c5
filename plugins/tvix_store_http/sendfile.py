"""Sending parts of files, which the kernel takes from its cache without our seeing them."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Self

from aiohttp import web

from tvix_store.limits import MIB
from tvix_store_http.stalling import Stalling

__all__ = ["FileSender"]

_AT_ONCE = 1 * MIB
"""After so many bytes, others get their turn."""


class FileSender:
    """Sends what follows the head of a response.

    It has a descriptor of its own for the connection. With ``loop.sendfile``, what ends a connection while a file is
    being sent leaves a closed descriptor behind in the selector, and that a client is gone is not seen.

    Args:
        request: What is answered.
        stalling: Told when the client is waited for.

    Raises:
        ConnectionResetError: The client is gone.
    """

    def __init__(self, request: web.Request, stalling: Stalling) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport = transport
        self._writer = request.writer
        self._stalling = stalling
        self._loop = asyncio.get_running_loop()
        self._fd = os.dup(transport.get_extra_info("socket").fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)

    async def send_head(self, response: web.StreamResponse) -> None:
        """Send the head, all of it: what is sent from files overtakes what the transport still holds."""
        self._stalling.begin()
        await response.write(b"")
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(0)
            await self._writer.drain()
            self._transport.set_write_buffer_limits()
        self._stalling.end()

    async def send(self, fd: int, start: int, end: int) -> None:
        """Send a file from ``start`` up to ``end``.

        Raises:
            ConnectionError: The client is gone.
            OSError: The file cannot be read. What was sent of it, ``sent`` tells.
        """
        self.sent = start
        while self.sent < end:
            try:
                n_bytes = os.sendfile(self._fd, fd, self.sent, min(end - self.sent, _AT_ONCE))
            except BlockingIOError:
                await self._writable()
                continue
            if not n_bytes:
                raise OSError("a file is shorter than what was written")
            self.sent += n_bytes
            self._writer.output_size += n_bytes
            await asyncio.sleep(0)

    async def _writable(self) -> None:
        writable: asyncio.Future[None] = self._loop.create_future()
        self._stalling.begin()
        self._loop.add_writer(self._fd, _wake, writable)
        try:
            await writable
        finally:
            self._loop.remove_writer(self._fd)
            self._stalling.end()


def _wake(writable: asyncio.Future[None]) -> None:
    if not writable.done():
        writable.set_result(None)
