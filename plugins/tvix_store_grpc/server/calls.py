"""From a handler, which knows requests and errors of the store, to a method that gRPC can serve."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from tvix_store.errors import PermissionDenied, StoreError, Unavailable
from tvix_store_grpc.server.metrics import CallMetrics
from tvix_store_grpc.status import ERROR_HEADER
from tvix_store_grpc.streams import closing

__all__ = [
    "ClientStream",
    "Method",
    "Refusal",
    "Server",
    "ServerStream",
    "TwoStreams",
    "Unary",
    "snix_text",
    "tvix_text",
]

logger = logging.getLogger(__name__)
access_log = logging.getLogger("tvix_store_grpc.access")

T = TypeVar("T")
R = TypeVar("R")

_MAX_TEXT = 1000  # a status travels in a header, and those are limited to 8 KiB


class Refusal(Exception):
    """A status that is no error of a service: what was asked for is absent, or the request is incomplete.

    Args:
        code: Name of the status code.
        text: The status message.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


_DIGEST = re.compile(r"blake3-([A-Za-z0-9+/]{43}=)")


def snix_text(text: str) -> str:
    """A status message as snix writes it; also ours."""
    return text


def tvix_text(text: str) -> str:
    """A status message with its digests as tvix writes them."""
    return _DIGEST.sub(r"b3:\1", text)


class Context(Protocol):
    """What is used here of ``grpc.aio.ServicerContext``."""

    async def read(self) -> Any:
        """The next request message, or ``grpc.aio.EOF``."""

    async def write(self, message: bytes, /) -> None:
        """Send a message, as soon as the client has room for it."""

    async def send_initial_metadata(self, metadata: Any, /) -> None:
        """Send the headers of the answer."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any, /) -> None:
        """End the call with a status; raises."""

    def peer(self) -> str:
        """The client's address."""

    def invocation_metadata(self) -> Any:
        """The headers of the request, as pairs."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service.

    Args:
        name: Without the service's.
        decode: What makes a request message of its encoding.
        handler: Answers it; messages may be encoded already.
        writes: Whether it stores something.
        endless: Whether clients keep it open for no end, so that a drain must not wait for it.
        contents: Whether it takes contents of blobs, of which some are held while it runs.
    """

    name: str
    decode: Callable[[bytes], Any]
    handler: Callable[[Any], Any]
    writes: bool = False
    endless: bool = False
    contents: bool = False


class Unary(Method):
    """One message to one: ``async def handler(request) -> response``."""


class ServerStream(Method):
    """One message to many: ``def handler(request) -> AsyncIterator[response]``, an async generator."""


class ClientStream(Method):
    """Many messages to one: ``async def handler(requests) -> response``."""


class TwoStreams(Method):
    """Many to many: ``def handler(requests) -> AsyncIterator[response]``, an async generator."""


def _encoded(message: bytes | Message) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _decoded(decode: Callable[[bytes], T], raw: bytes) -> T:
    try:
        return decode(raw)
    except DecodeError as exc:
        raise Refusal("INTERNAL", f"request message does not decode: {exc}") from exc


async def _requests(method: Method, context: Context) -> AsyncIterator[Any]:
    """The messages of a client stream, up to the end that the client announced.

    A client that goes away, and a message over the limit, look like that end to ``read``. Sending the headers of
    the answer tells: it fails, or cancels us, if the call is over. So an upload that was cut is never taken for a
    whole one, and may be stored once this has ended.
    """
    while (raw := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # not in the stubs
        yield _decoded(method.decode, raw)
    if method.writes:
        await context.send_initial_metadata(())


class Server:
    """Collects the methods of all services and makes one handler of them.

    Args:
        name: Of the frontend's entry.
        read_only: Why methods that store something are refused; ``None`` if they are not.
        max_uploads: How many methods that take contents run at once; further ones wait.
        upload_wait_s: How long they wait.
    """

    def __init__(self, name: str, read_only: str | None = None, *, max_uploads: int, upload_wait_s: float) -> None:
        self._metrics = CallMetrics(name)
        self._read_only = read_only
        self._max_uploads = max_uploads
        self._upload_wait_s = upload_wait_s
        self._uploads = asyncio.Semaphore(max_uploads)
        self._handlers: list[grpc.GenericRpcHandler[Any, Any]] = []
        self.service_names: list[str] = []
        self.stopping = asyncio.Event()

    @property
    def handlers(self) -> Sequence[grpc.GenericRpcHandler[Any, Any]]:
        """For ``grpc.aio.server``."""
        return self._handlers

    def add(self, service: str, methods: Sequence[Method], text: Callable[[str], str] = snix_text) -> None:
        """Serve ``methods`` as those of ``service`` (its full name), with status messages passed through ``text``."""
        self.service_names.append(service)
        handlers = {method.name: self._method_handler(service, method, text) for method in methods}
        self._handlers.append(grpc.method_handlers_generic_handler(service, handlers))

    def _method_handler(
        self, service: str, method: Method, text: Callable[[str], str]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        def requests_of(raw: bytes, context: Context) -> Any:
            if isinstance(method, ClientStream | TwoStreams):
                return _requests(method, context)
            return _decoded(method.decode, raw)

        async def run(raw: bytes, context: Context) -> bytes:
            if method.writes and self._read_only is not None:
                raise PermissionDenied(self._read_only)
            if method.contents:
                async with self._upload():
                    return _encoded(await method.handler(requests_of(raw, context)))
            if isinstance(method, Unary | ClientStream):
                return _encoded(await method.handler(requests_of(raw, context)))
            async with closing(method.handler(requests_of(raw, context))) as responses:
                async for response in responses:
                    await context.write(_encoded(response))
            return b""

        metrics = self._metrics.method(service, method.name)

        async def serve(raw: Any, context: Context) -> bytes:
            call = metrics.begin(context.invocation_metadata)
            status = "CANCELLED"
            failure: BaseException | None = None
            try:
                with call.active():
                    running = run(raw, context)
                    response = await (self._until_stopping(running) if method.endless else running)
                status = "OK"
            except grpc.aio.BaseError as exc:  # what we wrote did not go out: there is nobody left to tell
                raise asyncio.CancelledError from exc
            except Exception as exc:
                failure = exc
                status, message = _status(exc, f"/{service}/{method.name}")
                await _end(context, grpc.StatusCode[status], text(message)[:_MAX_TEXT], _metadata(exc))
            else:
                return response
            finally:
                took_ms = call.end(status, failure) * 1000
                failure = None  # it refers to this frame, which would refer to it
                if access_log.isEnabledFor(logging.DEBUG):
                    access_log.debug("%s /%s/%s %s %.1f ms", context.peer(), service, method.name, status, took_ms)

        async def serve_stream(raw: Any, context: Context) -> None:
            await serve(raw, context)

        makers: dict[type[Method], Any] = {
            Unary: grpc.unary_unary_rpc_method_handler,
            ServerStream: grpc.unary_stream_rpc_method_handler,
            ClientStream: grpc.stream_unary_rpc_method_handler,
            TwoStreams: grpc.stream_stream_rpc_method_handler,
        }
        streams = isinstance(method, ServerStream | TwoStreams)
        handler: grpc.RpcMethodHandler[Any, Any] = makers[type(method)](serve_stream if streams else serve)
        return handler

    @asynccontextmanager
    async def _upload(self) -> AsyncIterator[None]:
        """A place among the uploads. Whoever has them all and does not go on must not keep others waiting for ever.

        Raises:
            Unavailable: None became free in time.
        """
        try:
            async with asyncio.timeout(self._upload_wait_s):
                await self._uploads.acquire()
        except TimeoutError as exc:
            raise Unavailable(f"all of {self._max_uploads} uploads at once (max_uploads) are taken, try later") from exc
        try:
            yield
        finally:
            self._uploads.release()

    async def _until_stopping(self, running: Awaitable[R]) -> R:
        call, stopping = asyncio.ensure_future(running), asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({call, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return call.result()
            raise Refusal("UNAVAILABLE", "the server is stopping")
        finally:
            call.cancel()
            stopping.cancel()
            await asyncio.gather(call, stopping, return_exceptions=True)


async def _end(
    context: Context, code: grpc.StatusCode, message: str, metadata: tuple[tuple[str, str], ...]
) -> NoReturn:
    """End the call with a status, if there is somebody left to tell."""
    try:
        await context.abort(code, message, metadata)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError as exc:
        raise asyncio.CancelledError from exc
    raise AssertionError  # abort always raises


def _status(exc: Exception, method: str) -> tuple[str, str]:
    """Code and message that tell a client what went wrong; what nobody foresaw is logged and not told."""
    if isinstance(exc, StoreError | Refusal):
        return exc.code, " ".join(str(exc).split())
    logger.error("%s failed", method, exc_info=exc)
    return "INTERNAL", "internal error"


def _metadata(exc: Exception) -> tuple[tuple[str, str], ...]:
    return ((ERROR_HEADER, type(exc).__name__),) if isinstance(exc, StoreError) else ()
