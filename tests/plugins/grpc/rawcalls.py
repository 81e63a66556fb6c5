"""Calls that know nothing of our client: a method by its full name, messages as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from tvix_store.proto.snix.castore.protos import castore_pb2 as snix_castore
from tvix_store.proto.snix.castore.protos import rpc_blobstore_pb2 as snix_blobs
from tvix_store.proto.snix.castore.protos import rpc_directory_pb2 as snix_directories
from tvix_store.proto.snix.store.protos import pathinfo_pb2 as snix_store
from tvix_store.proto.snix.store.protos import rpc_pathinfo_pb2 as snix_path_infos
from tvix_store.proto.tvix.castore.protos import castore_pb2 as tvix_castore
from tvix_store.proto.tvix.castore.protos import rpc_blobstore_pb2 as tvix_blobs
from tvix_store.proto.tvix.castore.protos import rpc_directory_pb2 as tvix_directories
from tvix_store.proto.tvix.store.protos import pathinfo_pb2 as tvix_store
from tvix_store.proto.tvix.store.protos import rpc_pathinfo_pb2 as tvix_path_infos

__all__ = ["BLOBS", "DIRECTORIES", "PATH_INFOS", "Raw", "channel_to", "refused"]

BLOBS = "castore.v1.BlobService"
DIRECTORIES = "castore.v1.DirectoryService"
PATH_INFOS = "store.v1.PathInfoService"

_MODULES: dict[str, tuple[Any, ...]] = {
    "tvix": (tvix_castore, tvix_blobs, tvix_directories, tvix_store, tvix_path_infos),
    "snix": (snix_castore, snix_blobs, snix_directories, snix_store, snix_path_infos),
}


def channel_to(url: str) -> grpc.aio.Channel:
    """A plain channel to what a frontend said it listens on."""
    target = url.removeprefix("grpc+http://").replace("grpc+unix:", "unix:")
    return grpc.aio.insecure_channel(target, options=[("grpc.max_send_message_length", -1)])


class Raw:
    """Calls in one dialect.

    Args:
        channel: To the server.
        dialect: ``tvix`` or ``snix``.
    """

    def __init__(self, channel: grpc.aio.Channel, dialect: str = "snix") -> None:
        self.channel = channel
        self.dialect = dialect

    def message(self, name: str, **fields: Any) -> Any:
        """A message of the dialect, by its name."""
        for module in _MODULES[self.dialect]:
            if hasattr(module, name):
                return getattr(module, name)(**fields)
        raise AttributeError(name)

    def _path(self, service: str, method: str) -> str:
        return f"/{service}/{method}" if service.count(".") > 2 else f"/{self.dialect}.{service}/{method}"

    async def one(self, service: str, method: str, request: Message | bytes) -> bytes:
        """One message to one."""
        call: Any = self.channel.unary_unary(self._path(service, method), None, None)
        response: bytes = await call(_encoded(request))
        return response

    async def many(self, service: str, method: str, request: Message | bytes) -> list[bytes]:
        """One message to many."""
        call: Any = self.channel.unary_stream(self._path(service, method), None, None)
        return [response async for response in call(_encoded(request))]

    async def send(self, service: str, method: str, requests: Iterable[Message | bytes]) -> bytes:
        """Many messages to one."""
        call: Any = self.channel.stream_unary(self._path(service, method), None, None)
        response: bytes = await call(iter([_encoded(request) for request in requests]))
        return response

    def open(self, service: str, method: str) -> Any:
        """Many messages to one, sent one by one."""
        call: Any = self.channel.stream_unary(self._path(service, method), None, None)
        return call()


def _encoded(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


@contextmanager
def refused(code: str, text: str = "") -> Iterator[None]:
    """The calls inside end with this status, whose message contains ``text``."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert (caught.value.code().name, text in (caught.value.details() or "")) == (code, True), caught.value.details()
