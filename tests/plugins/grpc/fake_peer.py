"""A server whose answers are made up, for what no honest one would say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from tvix_store_grpc.channel import Peer
from tvix_store_grpc.endpoint import parse_endpoint

__all__ = ["Answer", "fake_peer", "messages", "status"]

Answer = Callable[[Any, Any], Awaitable[None]]
"""Takes the request messages and the context, to which it writes."""


def messages(*answers: bytes) -> Answer:
    """Answers these, whatever is asked."""

    async def answer(requests: Any, context: Any) -> None:
        for message in answers:
            await context.write(message)

    return answer


def status(code: grpc.StatusCode, text: str = "made up") -> Answer:
    """Ends calls with a status."""

    async def answer(requests: Any, context: Any) -> None:
        await context.abort(code, text)

    return answer


@asynccontextmanager
async def fake_peer(folder: Path, answers: Mapping[str, Answer]) -> AsyncIterator[Peer]:
    """A connection to a server with these methods, by their full names; all others are unimplemented.

    Every method takes and gives streams, which on the wire is no different.
    """

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs alone
        def service(self, handler_call_details: Any) -> Any:
            answer: Any = answers.get(handler_call_details.method)
            return None if answer is None else grpc.stream_stream_rpc_method_handler(answer, None, None)

    server = grpc.aio.server(handlers=[Handlers()])
    server.add_insecure_port(f"unix:{folder}/peer")
    await server.start()
    try:
        async with Peer(parse_endpoint(f"grpc+unix:{folder}/peer")) as peer:
            yield peer
    finally:
        await server.stop(None)
