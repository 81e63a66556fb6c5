"""The connection to another store: which protocol it speaks, calls to it, and its statuses as our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from tvix_store.capabilities import Capabilities, Durability
from tvix_store.config import Context
from tvix_store.digest import EMPTY_DIGEST, B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, StoreError, Unsupported
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MIB
from tvix_store.path_info import OUTPUT_HASH_BYTES
from tvix_store.proto.tvix.castore.protos.rpc_blobstore_pb2 import StatBlobRequest
from tvix_store.proto.tvix.castore.protos.rpc_directory_pb2 import GetDirectoryRequest
from tvix_store.proto.tvix.store.protos.rpc_pathinfo_pb2 import GetPathInfoRequest
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2 as batch
from tvix_store.resource import AsyncResource
from tvix_store.telemetry import outgoing_headers
from tvix_store_grpc.endpoint import Endpoint, parse_endpoint
from tvix_store_grpc.status import ERROR_HEADER, error_class

__all__ = ["BLOBS", "DIRECTORIES", "PATH_INFOS", "Absent", "Extension", "Peer", "Speech", "shared_peer"]

M = TypeVar("M", bound=Message)

BLOBS = "castore.v1.BlobService"
DIRECTORIES = "castore.v1.DirectoryService"
PATH_INFOS = "store.v1.PathInfoService"
_BATCH = "/tvix_store.batch.v1.BatchService/"
_VERSION = 1

_DIALECTS = ("snix", "tvix")
_PROBES = (
    (BLOBS, "Stat", StatBlobRequest(digest=EMPTY_DIGEST.raw)),
    (DIRECTORIES, "Get", GetDirectoryRequest(digest=EMPTY_DIGEST.raw)),
    (PATH_INFOS, "Get", GetPathInfoRequest(by_output_hash=bytes(OUTPUT_HASH_BYTES))),
)
"""Calls that every server of a service answers with something other than UNIMPLEMENTED."""

_MAX_MESSAGE_BYTES = 64 * MIB
"""Longest message that is received: a directory of a million entries, the chunk list of a blob of 400 GiB."""

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # what is in the environment is no part of the configuration
    # A daemon that was restarted is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
]


class Absent(DanglingReference):
    """The peer says that what was asked for is not there. Lookups make ``None`` of it."""


@dataclass(frozen=True, slots=True)
class Extension:
    """What a peer with the batch extension says about itself.

    Args:
        max_bytes: Of the objects in one call.
        max_count: Of the objects in one call.
        max_blob_bytes: Longest blob in a batch.
        blobs: Of its blob service.
        directories: Of its directory service.
        path_infos: Of its path info service.
    """

    max_bytes: int
    max_count: int
    max_blob_bytes: int
    blobs: Capabilities
    directories: Capabilities
    path_infos: Capabilities


@dataclass(frozen=True, slots=True)
class Speech:
    """How to speak to a peer.

    Args:
        dialect: Which of the two protocols: ``tvix`` or ``snix``.
        extension: ``None`` if it has no batches.
    """

    dialect: str
    extension: Extension | None

    def path(self, service: str, method: str) -> str:
        """The full name of a standard method."""
        return f"/{self.dialect}.{service}/{method}"

    @staticmethod
    def batch_path(method: str) -> str:
        """The full name of a method of the extension."""
        return _BATCH + method


class Peer(AsyncResource):
    """One connection, which the services of a composition share.

    Args:
        endpoint: Where to.
        timeout_s: After which unary calls are given up; ``None`` waits for as long as the connection holds.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float | None = None) -> None:
        self.name = endpoint.text
        self.described: Extension | None = None
        """What the peer said last, also while it cannot be reached."""
        self._timeout_s = timeout_s
        if endpoint.tls:
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.aio.secure_channel(endpoint.target, credentials, options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(endpoint.target, options=_OPTIONS)
        self._speech: Speech | None = None
        self._asking = asyncio.Lock()
        self._methods: dict[tuple[str, str], Any] = {}

    async def aclose(self) -> None:
        await self._channel.close(None)

    async def speech(self) -> Speech:
        """How to speak to the peer; asked once, and again after the connection was lost.

        Raises:
            Unavailable: It does not answer. That is not remembered.
            Unsupported: It speaks none of our protocols.
        """
        if self._speech is None:
            async with self._asking:
                if self._speech is None:
                    self._speech = await self._ask()
        return self._speech

    async def _ask(self) -> Speech:
        request = batch.DescribeRequest().SerializeToString()
        try:
            raw = await self._unary(_BATCH + "Describe", request)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise self.error(exc, "Describe") from exc
        else:
            self.described = _extension(self.decode(batch.DescribeResponse, raw, "Describe"))
            if self.described is not None:
                return Speech(_DIALECTS[0], self.described)
        return Speech(await self._find_dialect(), None)

    async def _find_dialect(self) -> str:
        for dialect in _DIALECTS:
            for service, method, request in _PROBES:
                path = f"/{dialect}.{service}/{method}"
                try:
                    await self._unary(path, request.SerializeToString())
                except grpc.aio.AioRpcError as exc:
                    if exc.code() is grpc.StatusCode.UNAVAILABLE:
                        raise self.error(exc, path) from exc
                    if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
                        continue
                return dialect
        raise Unsupported(f"{self.name} serves neither the tvix nor the snix protocol")

    # Calls

    def _method(self, kind: str, path: str) -> Any:
        method = self._methods.get((kind, path))
        if method is None:
            method = self._methods[kind, path] = getattr(self._channel, kind)(path, None, None)
        return method

    async def _unary(self, path: str, request: bytes) -> bytes:
        response: bytes = await self._method("unary_unary", path)(
            request, timeout=self._timeout_s, metadata=outgoing_headers()
        )
        return response

    async def unary(self, path: str, request: Message, what: str) -> bytes:
        """Call a method with one message each way.

        Args:
            path: Its full name.
            request: The message.
            what: The object it is about, for messages.

        Raises:
            Absent: The peer answered NOT_FOUND.
            StoreError: Or anything else that was no success.
        """
        try:
            return await self._unary(path, request.SerializeToString())
        except grpc.aio.AioRpcError as exc:
            raise self.error(exc, what) from exc

    async def download(self, path: str, request: Message, what: str) -> AsyncIterator[bytes]:
        """Call a method that answers many messages; the same errors as ``unary``. Close the iterator."""
        call = self._method("unary_stream", path)(request.SerializeToString(), metadata=outgoing_headers())
        try:
            while (raw := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # not in the stubs
                yield raw
        except grpc.aio.AioRpcError as exc:
            raise self.error(exc, what) from exc
        finally:
            call.cancel()

    def upload(self, path: str) -> Any:
        """Start a call of a method that takes many messages; for `Upload`."""
        return self._method("stream_unary", path)(metadata=outgoing_headers())

    def exchange(self, path: str) -> Any:
        """Start a call of a method that takes and answers many messages; for `Upload`."""
        return self._method("stream_stream", path)(metadata=outgoing_headers())

    # What comes back

    def decode(self, message: type[M], raw: bytes, what: str) -> M:
        """An answer as a message.

        Raises:
            CorruptObject: It is none.
        """
        decoded: M = self.parse(message.FromString, raw, what)
        return decoded

    def parse(self, decode: Callable[[bytes], Any], raw: bytes, what: str) -> Any:
        """What ``decode`` makes of an answer; what it refuses is the peer's fault, not the caller's.

        Raises:
            CorruptObject: It refuses it.
        """
        try:
            return decode(raw)
        except (DecodeError, InvalidObject) as exc:
            raise CorruptObject(f"{self.name}: {what}: bad answer: {exc}") from exc

    def digest(self, raw: bytes, what: str) -> B3Digest:
        """A digest that the peer answered with; the same error as ``parse``."""
        digest: B3Digest = self.parse(B3Digest, raw, what)
        return digest

    def error(self, exc: grpc.aio.AioRpcError, what: str) -> StoreError:
        """The error that a status stands for."""
        code: str = exc.code().name
        details = " ".join((exc.details() or "no reason given").split())
        if exc.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            self._speech = None  # whoever answers next may be another
        kind = _header(exc)
        if code == "NOT_FOUND" and kind is None:
            return Absent(f"{self.name}: {what}: {details}")
        error = error_class(code, kind)
        suffix = "" if error.code == code else f" ({code})"
        return error(f"{self.name}: {what}: {details}{suffix}")


def _header(exc: grpc.aio.AioRpcError) -> str | None:
    metadata: Any = exc.trailing_metadata() or ()
    for key, value in metadata:
        if key == ERROR_HEADER and isinstance(value, str):
            return value
    return None


def _extension(described: batch.DescribeResponse) -> Extension | None:
    """``None`` if it is of a revision we do not know, or its limits leave no room."""
    limits = (described.max_batch_bytes, described.max_batch_count, described.max_blob_bytes)
    if described.version != _VERSION or not all(limits):
        return None
    return Extension(
        max_bytes=min(described.max_batch_bytes, BATCH_BYTES),
        max_count=min(described.max_batch_count, BATCH_COUNT),
        max_blob_bytes=min(described.max_blob_bytes, described.max_batch_bytes, BATCH_BYTES),
        blobs=_capabilities(described.blobs),
        directories=_capabilities(described.directories),
        path_infos=_capabilities(described.path_infos),
    )


def _capabilities(stated: batch.ServiceCapabilities) -> Capabilities:
    """What of it reaches us: no call deletes."""
    try:
        durability = Durability(stated.durability)
    except ValueError:
        durability = Durability.NONE
    return Capabilities(list=stated.list, chunks=stated.chunks, durability=durability)


async def shared_peer(url: str, timeout_s: float | None, context: Context) -> Peer:
    """The connection to ``url`` that all services of one composition use.

    Raises:
        Unavailable: The URL says to connect now, and that failed.
    """
    endpoint = parse_endpoint(url)

    async def open_() -> Peer:
        return Peer(endpoint, timeout_s)

    peer = await context.shared(("tvix_store_grpc", endpoint.target, endpoint.tls, timeout_s), open_)
    if endpoint.wait_connect:
        await peer.speech()
    return peer
