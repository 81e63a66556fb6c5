"""Sending many messages in one call, and finding out why the peer would not have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

import grpc
import grpc.aio

from tvix_store.errors import StoreError, Unavailable
from tvix_store.resource import AsyncResource
from tvix_store_grpc.channel import Peer

__all__ = ["Upload"]

T = TypeVar("T")

_MASK = "Internal error from Core"
_POLLS = 1000


class Upload(AsyncResource):
    """A call that takes many messages. Closing it without ``finish`` cancels it: nothing is stored.

    Args:
        peer: Whom to call.
        path: The full name of the method.
        what: The object it is about, for messages.
        responses: Whether the method answers many messages, too.
    """

    def __init__(self, peer: Peer, path: str, what: str, *, responses: bool = False) -> None:
        self._peer = peer
        self._what = what
        self._call = peer.exchange(path) if responses else peer.upload(path)
        self._ending = _Ending(self._call)

    async def send(self, message: bytes) -> None:
        """Send a message, as soon as the peer has room for it.

        Raises:
            StoreError: The peer has ended the call, for this reason.
        """
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError) as exc:
            raise await self._failure() from exc

    async def send_all(self, messages: Iterable[bytes]) -> None:
        """Send messages, one after the other; the same errors as ``send``."""
        for message in messages:
            await self.send(message)

    async def finish(self) -> bytes:
        """End the upload and wait for the answer.

        Raises:
            StoreError: The upload failed.
        """
        try:
            await self._call.done_writing()
            response: bytes = await self._call
        except (grpc.aio.AioRpcError, grpc.aio.InternalError) as exc:
            raise await self._failure() from exc
        return response

    async def finish_many(self) -> AsyncIterator[bytes]:
        """End the upload and wait for the answers; the same errors as ``finish``."""
        try:
            await self._call.done_writing()
            while (raw := await self._call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                yield raw
        except (grpc.aio.AioRpcError, grpc.aio.InternalError) as exc:
            raise await self._failure() from exc

    async def aclose(self) -> None:
        self._call.cancel()

    async def _failure(self) -> StoreError:
        error = await self._ending.error()
        if error is None:
            return Unavailable(f"{self._peer.name}: {self._what}: the call ended before all was sent")
        return self._peer.error(error, self._what)


class _Ending:
    """The status that the peer ended a call with.

    grpc.aio has a status of its own for a call that ended while a message was being sent, and puts it in place of
    the peer's, which would say why. The peer's can come before, then it is gone, or after, then it replaces the
    other again. So it is noted when it comes, and waited for if it has not.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._done)

    def _done(self, call: Any) -> None:
        self._first = _at_once(_error(call))

    async def error(self) -> grpc.aio.AioRpcError | None:
        """The status; ``None`` if it is a success."""
        error = self._first or await _error(self._call)
        for _ in range(_POLLS):
            if error.details() != _MASK:
                break
            await asyncio.sleep(0.001)
            error = await _error(self._call)
        return None if error.code() is grpc.StatusCode.OK else error


async def _error(call: Any) -> grpc.aio.AioRpcError:
    code, details, trailing = await call.code(), await call.details(), await call.trailing_metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details, None)


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """The result of a coroutine that has nothing to wait for, from where one cannot wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    return None
