"""Certificates and proxies."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plugins.nix.binary_caches import CacheFiles, RealCache
from plugins.nix.upstream_server import Store, UpstreamServer, without_waiting
from tvix_store.errors import Unavailable
from tvix_store_nix.http_upstream import HttpOptions

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for 127.0.0.1, which nobody signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return file


@pytest.fixture
async def secure(real: RealCache, certificate: Path) -> AsyncIterator[UpstreamServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with UpstreamServer.serving(CacheFiles.of(real.written("xz")), tls=context) as server:
        yield server


def trusting(certificate: Path) -> HttpOptions:
    return HttpOptions(backoff=without_waiting(), ca_file=str(certificate))


async def test_a_certificate_of_ones_own_can_be_trusted(
    real: RealCache, secure: UpstreamServer, certificate: Path
) -> None:
    async with Store(secure.url, options=trusting(certificate)) as store:
        assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar


async def test_an_unknown_certificate_is_refused_at_once(real: RealCache, secure: UpstreamServer) -> None:
    async with Store(secure.url) as store:
        with pytest.raises(Unavailable, match=f"{secure.url}/nix-cache-info: .*certificate verify failed") as raised:
            await store.path_infos.get(real.tree.digest)
    assert "attempts" not in str(raised.value)


async def test_a_redirect_must_not_leave_https(
    real: RealCache, secure: UpstreamServer, server: UpstreamServer, certificate: Path
) -> None:
    async def there(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{server.url}/{request.match_info['name']}")

    secure.instead["nix-cache-info"] = there
    async with Store(secure.url, options=trusting(certificate)) as store:
        with pytest.raises(Unavailable, match=f"redirect from https to {server.url}/nix-cache-info"):
            await store.path_infos.get(real.tree.digest)
    assert server.requests == []


async def test_a_proxy_is_asked_in_the_place_of_the_host(real: RealCache, server: UpstreamServer) -> None:
    options = HttpOptions(backoff=without_waiting(), proxy=server.url.removesuffix("/cache"))
    async with Store("http://upstream.invalid/cache", options=options) as store:
        assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar
    assert {headers["Host"] for headers in server.headers} == {"upstream.invalid"}
