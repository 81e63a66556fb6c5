"""The ``grpc`` frontend: everything under both protocol names on one address, until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from tvix_store.frontend import Frontend, Services
from tvix_store.limits import MIB
from tvix_store_grpc.server import batch, explain, health, reflection
from tvix_store_grpc.server.blob import BlobHandlers
from tvix_store_grpc.server.calls import Server, snix_text, tvix_text
from tvix_store_grpc.server.directory import DirectoryHandlers
from tvix_store_grpc.server.listen import ListenAddress, UnixSocketOptions, listening
from tvix_store_grpc.server.path_info import PathInfoHandlers

__all__ = ["GrpcFrontend", "ServerOptions"]

logger = logging.getLogger(__name__)

_INT_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the daemon serves; see the keys of the same names in the README.

    Args:
        unix: For socket files.
        tcp_reuse_port: Share the port with other processes.
        keepalive_s: Ping idle connections this often; ``None`` never does.
        max_message_bytes: Longest message that is received.
        max_streams: Calls of one connection that run at once; further ones wait at the client.
        max_uploads: Uploads of blobs that run at once, over all connections; further ones wait.
        upload_wait_s: How long they wait.
        drain_s: How long running calls may take to end after the frontend was cancelled.
        allow_remote_writes: Take puts on addresses that other machines can reach.
        batches: Serve the batch extension.
    """

    unix: UnixSocketOptions = field(default_factory=UnixSocketOptions)
    tcp_reuse_port: bool = False
    keepalive_s: float | None = None
    max_message_bytes: int = 4 * MIB
    max_streams: int = 1024
    max_uploads: int = 64
    upload_wait_s: float = 30.0
    drain_s: float = 10.0
    allow_remote_writes: bool = False
    batches: bool = True


class GrpcFrontend(Frontend):
    """The store over gRPC.

    Args:
        name: Of the entry, for messages.
        services: What to serve.
        address: Where to listen.
        options: How.
    """

    def __init__(
        self, name: str, services: Services, address: ListenAddress, options: ServerOptions | None = None
    ) -> None:
        self._name = name
        self._services = services
        self._address = address
        self._options = options or ServerOptions()

    async def serve(self, ready: Callable[[str], None]) -> None:
        calls = self._calls()
        server = grpc.aio.server(handlers=calls.handlers, options=self._channel_options())
        with listening(
            self._address, server.add_insecure_port, self._options.unix, reuse_port=self._options.tcp_reuse_port
        ) as url:
            try:
                await server.start()
                ready(url)
                await asyncio.Event().wait()  # until cancelled
            finally:
                calls.stopping.set()
                await self._drain(server)

    async def _drain(self, server: grpc.aio.Server) -> None:
        """Take no more calls, let the running ones end, cut them after a while or when cancelled once more."""
        try:
            await server.stop(self._options.drain_s)
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError):
                await server.stop(None)
            raise

    def _calls(self) -> Server:
        services, options = self._services, self._options
        writable = options.allow_remote_writes or self._address.is_local
        refusal = (
            f"frontend {self._name!r} takes no puts, because other machines can reach {self._address.text}; "
            "allow_remote_writes = true changes that"
        )
        server = Server(
            self._name,
            None if writable else refusal,
            max_uploads=self._options.max_uploads,
            upload_wait_s=self._options.upload_wait_s,
        )
        blobs, directories = BlobHandlers(services.blobs), DirectoryHandlers(services.directories)
        path_infos = PathInfoHandlers(services.path_infos, services.nar_calculation)
        for dialect, text in (("tvix", tvix_text), ("snix", snix_text)):
            server.add(f"{dialect}.castore.v1.BlobService", blobs.methods(), text)
            server.add(f"{dialect}.castore.v1.DirectoryService", directories.methods(), text)
            server.add(f"{dialect}.store.v1.PathInfoService", path_infos.methods(), text)
        if options.batches:
            server.add(batch.SERVICE_NAME, batch.BatchHandlers(services, writable=writable).methods())
        if services.explainer is not None:
            handlers = explain.ExplainHandlers(services.explainer, has_notes=self._address.is_local)
            server.add(explain.SERVICE_NAME, handlers.methods())
        checks = health.HealthHandlers(server.stopping)
        server.add(health.SERVICE_NAME, checks.methods())
        names = [*server.service_names, *reflection.SERVICE_NAMES]
        reflecting = reflection.ReflectionHandlers(names)
        for name in reflection.SERVICE_NAMES:
            server.add(name, reflecting.methods())
        checks.watch_over(server.service_names)
        return server

    def _channel_options(self) -> list[tuple[str, Any]]:
        options: list[tuple[str, Any]] = [
            ("grpc.so_reuseport", int(self._options.tcp_reuse_port)),
            ("grpc.max_receive_message_length", self._options.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", self._options.max_streams),
            ("grpc.http.overload_protection", 0),
            # Of more than 1000 calls that wait to be taken up, over all connections, some would be cancelled at random.
            ("grpc.server.max_pending_requests", _INT_MAX),
            ("grpc.server.max_pending_requests_hard_limit", _INT_MAX),
            # Clients may ping us as often as they like; a store does not suffer from it.
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.http2.max_ping_strikes", 0),
        ]
        if self._options.keepalive_s is not None:
            options.append(("grpc.keepalive_time_ms", int(self._options.keepalive_s * 1000)))
            options.append(("grpc.keepalive_permit_without_calls", 1))
        return options
