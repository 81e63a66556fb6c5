"""The ``grpc`` types: services that live in another process, and the frontend that serves ours to others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field

from tvix_store.blob import BlobService
from tvix_store.config import (
    BlobServiceConfig,
    Context,
    DirectoryServiceConfig,
    FrontendConfig,
    PathInfoServiceConfig,
    ServiceUrl,
)
from tvix_store.directory import DirectoryService
from tvix_store.errors import ConfigError
from tvix_store.frontend import Frontend
from tvix_store.hookspecs import hookimpl
from tvix_store.limits import MIB
from tvix_store.listen import ListenAddress
from tvix_store.listen_config import ListeningFrontendConfig
from tvix_store.path_info import PathInfoService
from tvix_store_grpc.endpoint import parse_endpoint
from tvix_store_grpc.server.listen import parse_listen

__all__ = [
    "GrpcBlobServiceConfig",
    "GrpcDirectoryServiceConfig",
    "GrpcFrontendConfig",
    "GrpcPathInfoServiceConfig",
]


def _checked_url(text: str) -> str:
    try:
        parse_endpoint(text)
    except ConfigError as exc:
        raise ValueError(str(exc)) from exc
    return text


GrpcUrl = Annotated[
    str,
    AfterValidator(_checked_url),
    Field(description="grpc+http://host:port, grpc+https://host:port or grpc+unix:/path; ?wait-connect=1 connects now"),
]
CallTimeout = Annotated[
    float | None,
    Field(gt=0, description="Seconds until a call that is no stream is given up; unset: none is."),
]


class GrpcBlobServiceConfig(BlobServiceConfig):
    """Blobs of another store, over gRPC."""

    type: Literal["grpc"]
    url: GrpcUrl
    timeout_s: CallTimeout = None

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        parse_endpoint(url.text)
        return cls(type="grpc", url=url.text)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_grpc.blob import GrpcBlobService
        from tvix_store_grpc.channel import shared_peer

        return GrpcBlobService(name, await shared_peer(self.url, self.timeout_s, context))


class GrpcDirectoryServiceConfig(DirectoryServiceConfig):
    """Directories of another store, over gRPC."""

    type: Literal["grpc"]
    url: GrpcUrl
    timeout_s: CallTimeout = None

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        parse_endpoint(url.text)
        return cls(type="grpc", url=url.text)

    async def build(self, name: str, context: Context) -> DirectoryService:
        from tvix_store_grpc.channel import shared_peer
        from tvix_store_grpc.directory import GrpcDirectoryService

        return GrpcDirectoryService(name, await shared_peer(self.url, self.timeout_s, context))


class GrpcPathInfoServiceConfig(PathInfoServiceConfig):
    """Path infos of another store, over gRPC; comes with its NAR calculation."""

    type: Literal["grpc"]
    url: GrpcUrl
    timeout_s: CallTimeout = None

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        parse_endpoint(url.text)
        return cls(type="grpc", url=url.text)

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_grpc.channel import shared_peer
        from tvix_store_grpc.path_info import GrpcPathInfoService

        return GrpcPathInfoService(name, await shared_peer(self.url, self.timeout_s, context))


class GrpcFrontendConfig(ListeningFrontendConfig):
    """Serves the store over gRPC, under the names of the tvix and of the snix protocol."""

    type: Literal["grpc"]
    listen: str = Field(
        default="localhost:8000",
        description="IP:PORT, localhost:PORT, /path or ./path of a Unix socket, or @name of an abstract one.",
    )
    keepalive_s: float | None = Field(default=None, gt=0, description="Ping idle connections this often.")
    max_message_bytes: int = Field(
        default=4 * MIB, ge=2 * MIB, le=1024 * MIB, description="Longest message that is received."
    )
    max_streams: int = Field(default=1024, ge=1, description="Calls of one connection that run at once.")
    max_uploads: int = Field(default=64, ge=1, description="Uploads of blobs that run at once; further ones wait.")
    upload_wait_s: float = Field(default=30.0, ge=0, description="How long they wait.")
    drain_s: float = Field(default=10.0, ge=0, description="How long running calls may take to end at shutdown.")
    allow_remote_writes: bool = Field(
        default=False, description="Take puts on an address that other machines can reach."
    )

    @classmethod
    def parse_address(cls, text: str) -> ListenAddress:
        return parse_listen(text)

    async def build(self, name: str, context: Context) -> Frontend:
        from tvix_store_grpc.server.frontend import GrpcFrontend, ServerOptions

        options = ServerOptions(
            unix=self.unix_options,
            tcp_reuse_port=self.shares_port,
            keepalive_s=self.keepalive_s,
            max_message_bytes=self.max_message_bytes,
            max_streams=self.max_streams,
            max_uploads=self.max_uploads,
            upload_wait_s=self.upload_wait_s,
            drain_s=self.drain_s,
            allow_remote_writes=self.allow_remote_writes,
        )
        return GrpcFrontend(name, await context.services(), self.address, options)


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """The remote blob service."""
    return [GrpcBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """The remote directory service."""
    return [GrpcDirectoryServiceConfig]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """The remote path info service."""
    return [GrpcPathInfoServiceConfig]


@hookimpl
def tvix_store_frontends() -> Sequence[type[FrontendConfig]]:
    """The daemon."""
    return [GrpcFrontendConfig]
