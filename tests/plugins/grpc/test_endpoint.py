from __future__ import annotations

import pytest
from pydantic import ValidationError

from plugins.grpc.loopback import FakeContext, memory_services, serving
from tvix_store.config import EntryConfig, ServiceUrl
from tvix_store.errors import ConfigError, Unavailable
from tvix_store_grpc.endpoint import parse_endpoint
from tvix_store_grpc.plugin import GrpcBlobServiceConfig, GrpcDirectoryServiceConfig, GrpcPathInfoServiceConfig
from vectors.grpc_addresses import ACCEPTED, NOBODY_LISTENS, REFUSED

MODELS = (GrpcBlobServiceConfig, GrpcDirectoryServiceConfig, GrpcPathInfoServiceConfig)
every_kind = pytest.mark.parametrize("model", MODELS)


@every_kind
@pytest.mark.parametrize("url", ACCEPTED + NOBODY_LISTENS)
def test_addresses_that_are_accepted(model: type[EntryConfig], url: str) -> None:
    entry = model.from_url(ServiceUrl(url))
    assert entry == model.model_validate({"type": "grpc", "url": url})


@every_kind
@pytest.mark.parametrize("url", REFUSED)
def test_addresses_that_are_refused(model: type[EntryConfig], url: str) -> None:
    with pytest.raises(ConfigError):
        model.from_url(ServiceUrl(url))
    with pytest.raises(ValidationError):
        model.model_validate({"type": "grpc", "url": url})


@every_kind
@pytest.mark.parametrize("url", ACCEPTED)
@pytest.mark.anyio
async def test_building_does_not_connect(model: type[EntryConfig], url: str) -> None:
    context = FakeContext()
    async with context.stack:
        await model.from_url(ServiceUrl(url)).build("remote", context)  # type: ignore[attr-defined]


@every_kind
@pytest.mark.parametrize("url", NOBODY_LISTENS)
@pytest.mark.anyio
async def test_wait_connect_fails_where_nobody_listens(model: type[EntryConfig], url: str) -> None:
    context = FakeContext()
    async with context.stack:
        with pytest.raises(Unavailable, match="grpc\\+"):
            await model.from_url(ServiceUrl(url)).build("remote", context)  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_services_of_one_composition_share_a_connection() -> None:
    context = FakeContext()
    async with serving(memory_services()) as url, context.stack:
        for model in MODELS:
            await model.from_url(ServiceUrl(f"{url}?wait-connect=1")).build("remote", context)  # type: ignore[arg-type]
        assert len(context.opened) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("grpc+http://user@localhost:1", "credentials"),
        ("grpc+http://", "host is missing"),
        ("grpc+http://localhost#there", "fragment"),
        ("grpc+http://localhost?timeout=3", "unknown parameter 'timeout'"),
        ("grpc+http://localhost?wait-connect=yes", "must be 0 or 1"),
        ("grpc+http://localhost?wait-connect=1&wait-connect=0", "given twice"),
        ("grpc+unix:relative", "must be absolute"),
        ("grpc+unix:", "must be absolute"),
        ("grpc+http://localhost:99999", "not a URL"),
    ],
)
def test_refusals_say_why(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_endpoint(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("grpc+http://[::1]:12345", "dns:///[::1]:12345"),
        ("grpc+http://localhost", "dns:///localhost:80"),
        ("grpc+https://localhost", "dns:///localhost:443"),
        ("grpc+unix:///a%20b/c", "unix:/a%2520b/c"),
        ("grpc+unix:@name", "unix-abstract:name"),
    ],
)
def test_targets(url: str, target: str) -> None:
    assert parse_endpoint(url).target == target
