from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from plugins.grpc.loopback import memory_services, serve_in_task, serving
from plugins.grpc.rawcalls import Raw, channel_to, refused
from tvix_store_grpc.server.frontend import GrpcFrontend, ServerOptions
from tvix_store_grpc.server.listen import parse_listen

pytestmark = pytest.mark.anyio

HEALTH = "grpc.health.v1.Health"
NAMES = [
    "",
    HEALTH,
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "tvix_store.batch.v1.BatchService",
    *(f"{dialect}.{name}" for dialect in ("tvix", "snix") for name in (
        "castore.v1.BlobService", "castore.v1.DirectoryService", "store.v1.PathInfoService"
    )),
]  # fmt: skip


@pytest.fixture
async def raw(tmp_path: Path) -> AsyncIterator[Raw]:
    async with serving(memory_services(), tmp_path / "socket") as url, channel_to(url) as channel:
        yield Raw(channel)


@pytest.mark.parametrize("name", NAMES)
async def test_every_service_is_serving(raw: Raw, name: str) -> None:
    answer = await raw.one(HEALTH, "Check", HealthCheckRequest(service=name))
    assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING


async def test_other_names_are_not_found(raw: Raw) -> None:
    with refused("NOT_FOUND", "service not registered"):
        await raw.one(HEALTH, "Check", HealthCheckRequest(service="tvix.castore.v2.BlobService"))


def watch(raw: Raw, name: str) -> Any:
    call: Any = raw.channel.unary_stream(f"/{HEALTH}/Watch", None, HealthCheckResponse.FromString)
    return call(HealthCheckRequest(service=name).SerializeToString())


async def test_watching_an_unknown_name_is_a_state(raw: Raw) -> None:
    call = watch(raw, "nobody")
    assert (await call.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
    call.cancel()


async def test_watchers_learn_of_the_end_and_do_not_delay_it(tmp_path: Path) -> None:
    options = ServerOptions(drain_s=60)
    frontend = GrpcFrontend("test", memory_services(), parse_listen(str(tmp_path / "socket")), options)
    task, url = await serve_in_task(frontend)
    async with channel_to(url) as channel:
        call = aiter(watch(Raw(channel), ""))
        assert (await anext(call)).status == HealthCheckResponse.SERVING
        task.cancel()
        with contextlib.suppress(grpc.aio.AioRpcError):  # the end is all that is promised
            async for answer in call:
                assert answer.status == HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await task
