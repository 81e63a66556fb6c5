"""The standard health service: every service by name, and the server as a whole under the empty one.

Source: the gRPC health checking protocol, https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tvix_store_grpc.server.calls import Method, Refusal, ServerStream, Unary

__all__ = ["SERVICE_NAME", "HealthHandlers"]

SERVICE_NAME = "grpc.health.v1.Health"


class HealthHandlers:
    """The methods of Health.

    Args:
        stopping: Set when the server begins to drain; nothing is served any more then.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._names = {"", SERVICE_NAME}

    def watch_over(self, names: Iterable[str]) -> None:
        """Answer for these services, too."""
        self._names.update(names)

    def methods(self) -> Sequence[Method]:
        """The methods."""
        return (
            Unary("Check", HealthCheckRequest.FromString, self.check),
            ServerStream("Watch", HealthCheckRequest.FromString, self.watch, endless=True),
        )

    def _status(self) -> HealthCheckResponse:
        serving = HealthCheckResponse.NOT_SERVING if self._stopping.is_set() else HealthCheckResponse.SERVING
        return HealthCheckResponse(status=serving)

    async def check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        """The state of one service."""
        if request.service not in self._names:
            raise Refusal("NOT_FOUND", "service not registered")
        return self._status()

    async def watch(self, request: HealthCheckRequest) -> AsyncIterator[HealthCheckResponse]:
        """The state of one service, and what becomes of it; an unknown name is a state, too."""
        if request.service in self._names:
            yield self._status()
        else:
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        await self._stopping.wait()
        yield self._status()
