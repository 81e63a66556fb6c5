"""What the frontends count, and the page that shows it."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from plugins.grpc.loopback import memory_services
from plugins.grpc.loopback import serving as serving_grpc
from plugins.grpc.rawcalls import BLOBS, Raw, channel_to
from plugins.http.reading import Upstream, nar_url, put_tree, reading, serving, wire
from plugins.nix.binary_caches import CacheFiles
from plugins.nix.upstream_server import UpstreamServer
from plugins.observe.collecting import tracing
from plugins.observe.scraping import Page, scraped
from tvix_store.blob import BlobReader
from tvix_store.digest import B3Digest
from tvix_store.errors import Unavailable
from tvix_store.forwarding import ForwardingBlobService
from tvix_store.telemetry import span
from tvix_store_http.plugin import HttpFrontendConfig
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_nix.credentials import Credentials
from tvix_store_nix.http_upstream import HttpUpstream
from vectors.nar import File

pytestmark = pytest.mark.anyio

NARINFO = "/{digest}.narinfo"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Counts:
    """How much was counted for the frontend ``test`` since this was made."""

    def __init__(self) -> None:
        self._before = scraped()

    def requests(self, route: str, status: str, method: str = "GET") -> float:
        return self._since("tvix_store_http_requests_total", method=method, route=route, status=status)

    def sent(self, route: str) -> float:
        return self._since("tvix_store_http_sent_bytes_total", route=route)

    def calls(self, method: str, status: str) -> float:
        return self._since("tvix_store_grpc_calls_total", method=method, status=status)

    def _since(self, name: str, **labels: str) -> float:
        now = scraped().get(name, frontend="test", **labels) or 0
        return now - (self._before.get(name, frontend="test", **labels) or 0)


# --- http ---


async def test_requests_are_counted_by_route_and_status() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", File(b"x" * 5000))
    counts = Counts()
    async with reading(services) as client:
        narinfo = await client.get(f"{path_info.store_path.hash_part}.narinfo")
        await client.get("00000000000000000000000000000000.narinfo")
        await client.get("no/such/page")
        nar = await client.get(nar_url(path_info))
        await client.head(nar_url(path_info))
    assert (counts.requests(NARINFO, "200"), counts.requests(NARINFO, "404")) == (1, 1)
    assert counts.requests("none", "404") == 1
    assert (counts.requests("/nar/{name}", "200"), counts.requests("/nar/{name}", "200", "HEAD")) == (1, 1)
    assert counts.sent("/nar/{name}") >= len(nar.body)
    assert counts.sent(NARINFO) >= len(narinfo.body)


async def test_narinfos_from_memory_are_counted_too() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", File(b"x"))
    counts = Counts()
    async with serving(services, narinfo_cache_s=100.0) as url, wire(url) as connection:
        for _ in range(3):
            connection.send(f"GET /{path_info.store_path.hash_part}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, body = await connection.response()
            assert status == 200
    assert counts.requests(NARINFO, "200") == 3
    assert counts.sent(NARINFO) > 3 * len(body)


async def test_what_a_client_left_or_the_server_broke_off_is_told_apart() -> None:
    upstream = Upstream()
    upstream.fail, upstream.fail_after = Unavailable("the wire was cut"), 300_000
    broken = upstream.add("broken", b"x" * 500_000)
    counts = Counts()
    async with serving(memory_services(path_infos=upstream), nar_copies_bytes=0) as url:
        async with wire(url) as connection:
            connection.send(
                f"GET /{nar_url(broken)}?hash={broken.store_path.hash_part} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            await connection.rest()
        upstream.fail, upstream.gate = None, asyncio.Event()
        async with wire(url) as connection:
            connection.send(
                f"GET /{nar_url(broken)}?hash={broken.store_path.hash_part} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            await connection.reader.readexactly(100)
        await upstream.all_closed.wait()
    assert counts.requests("/nar/{name}", "broken") == 1
    assert counts.requests("/nar/{name}", "gone") == 1


async def test_the_page_is_prometheus_text_and_all_is_there_from_the_start() -> None:
    async with reading(memory_services()) as client:
        answer = await client.get("metrics")
        assert (await client.get("metrics", Accept="application/openmetrics-text;version=1.0.0")).body.endswith(
            b"# EOF\n"
        )
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert answer.headers["Cache-Control"] == "no-store"
    page = Page(answer.body.decode())
    for route in (NARINFO, "/nar/{name}", "/nix-cache-info", "none"):
        for status in ("200", "404", "500", "503"):
            name = "tvix_store_http_requests_total"
            assert page.get(name, frontend="test", method="GET", route=route, status=status) is not None, (
                route,
                status,
            )
    assert page.get("tvix_store_http_requests_in_flight", frontend="test") == 1


async def test_the_page_can_be_left_out() -> None:
    async with reading(memory_services(), metrics=False) as client:
        assert (await client.get("metrics")).status == 404


@pytest.mark.parametrize(
    ("listen", "key", "shown"),
    [
        ("127.0.0.1:0", None, True),
        ("./socket", None, True),
        ("0.0.0.0:0", None, False),
        ("0.0.0.0:0", True, True),
        ("127.0.0.1:0", False, False),
    ],
)
def test_others_see_metrics_only_if_that_is_said(listen: str, key: bool | None, shown: bool) -> None:
    assert HttpFrontendConfig(type="http", listen=listen, metrics=key).shows_metrics is shown


async def test_a_request_goes_on_with_the_trace_of_its_client() -> None:
    services = memory_services()
    path_info = await put_tree(services, "x", File(b"x"))
    name = f"{path_info.store_path.hash_part}.narinfo"
    with tracing() as exporter:
        async with reading(services, narinfo_cache_s=100.0) as client:
            await client.get(name)
            await client.get(name)  # from memory
            await client.get(name, traceparent=PARENT)
    spans = exporter.get_finished_spans()
    assert [one.name for one in spans] == [f"GET {NARINFO}"] * 2
    context = spans[1].context
    assert context is not None
    assert f"{context.trace_id:032x}" == PARENT.split("-")[1]
    assert (spans[1].attributes or {})["http.response.status_code"] == 200


async def test_requests_to_an_upstream_say_which_trace_they_are_of() -> None:
    async with UpstreamServer.serving(CacheFiles()) as server:
        upstream = HttpUpstream("up", server.url, Credentials(("http", "127.0.0.1", 1), None))
        with tracing(), span("x", {}, {"traceparent": PARENT}):
            await upstream.read("nix-cache-info", 1000)
        await upstream.read("nix-cache-info", 1000)
        await upstream.aclose()
    traced, plain = server.headers
    assert traced["traceparent"].split("-")[1] == PARENT.split("-")[1]
    assert "traceparent" not in plain


# --- grpc ---


async def test_calls_are_counted_by_status() -> None:
    class Failing(ForwardingBlobService):
        async def open_read(self, digest: B3Digest) -> BlobReader | None:
            raise Unavailable("the disk is away")

    counts = Counts()
    absent = B3Digest.of(b"absent").raw
    async with serving_grpc(memory_services(Failing(MemoryBlobService()))) as url, channel_to(url) as channel:
        raw = Raw(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=absent))
        with pytest.raises(grpc.aio.AioRpcError):
            await raw.many(BLOBS, "Read", raw.message("ReadBlobRequest", digest=absent))
        await raw.send(BLOBS, "Put", [raw.message("BlobChunk", data=b"x")])
    assert (counts.calls("Stat", "NOT_FOUND"), counts.calls("Read", "UNAVAILABLE"), counts.calls("Put", "OK")) == (
        1,
        1,
        1,
    )
    page = scraped()
    assert page.get("tvix_store_grpc_calls_in_flight", frontend="test") == 0
    for method in ("Stat", "Read", "Put"):
        assert page.get("tvix_store_grpc_calls_total", frontend="test", method=method, status="DATA_LOSS") is not None
        assert page.get("tvix_store_grpc_call_seconds_count", frontend="test", method=method)


async def test_what_is_not_found_is_no_failed_span() -> None:
    with tracing() as exporter:
        async with serving_grpc(memory_services()) as url, channel_to(url) as channel:
            raw = Raw(channel)
            with pytest.raises(grpc.aio.AioRpcError):
                await raw.one(BLOBS, "Stat", raw.message("StatBlobRequest", digest=B3Digest.of(b"absent").raw))
    (one,) = exporter.get_finished_spans()
    assert one.name == "snix.castore.v1.BlobService/Stat"
    assert (one.attributes or {})["rpc.grpc.status"] == "NOT_FOUND"
    assert one.status.is_unset
