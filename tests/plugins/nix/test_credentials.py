"""What is shown to the upstream, and to nobody else."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from plugins.nix.binary_caches import RealCache
from plugins.nix.upstream_server import Store, UpstreamServer, status, without_waiting
from tvix_store.errors import ConfigError, Unavailable
from tvix_store_nix.credentials import Credentials
from tvix_store_nix.http_upstream import HttpOptions, HttpUpstream


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.fixture
def netrc_path(tmp_path: Path) -> str:
    path = tmp_path / "netrc"
    path.write_text("machine other login o password p\nmachine host login me password word\n")
    return str(path)


@pytest.fixture
def token_path(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text("t0ken\n")
    return str(path)


def test_those_in_the_url() -> None:
    assert Credentials.load("https://m%40e:wo%3Ard@host/cache").headers("https://host/x") == basic("m@e:wo:rd")
    assert Credentials.load("https://me@host").headers("https://host/x") == basic("me:")


def test_those_of_a_netrc_file(netrc_path: str) -> None:
    assert Credentials.load("https://host", netrc_path=netrc_path).headers("https://host/x") == basic("me:word")
    assert Credentials.load("https://third", netrc_path=netrc_path).headers("https://third/x") == {}


def test_a_token(token_path: str) -> None:
    credentials = Credentials.load("https://host", bearer_token_path=token_path)
    assert credentials.headers("https://host/x") == {"Authorization": "Bearer t0ken"}


@pytest.mark.parametrize("url", ["https://other/x", "http://host/x", "https://host:8443/x", "https://host.other/x"])
def test_another_origin_gets_nothing(token_path: str, url: str) -> None:
    assert Credentials.load("https://host", bearer_token_path=token_path).headers(url) == {}


def test_the_port_may_be_written_out(token_path: str) -> None:
    assert Credentials.load("https://host", bearer_token_path=token_path).headers("https://host:443/x") != {}


@pytest.mark.parametrize("text", ["hello s3cret", "machine host\nfoo s3cret"])
def test_a_netrc_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "netrc").write_text(text)
    with pytest.raises(ConfigError, match="netrc: not a netrc file") as raised:
        Credentials.load("https://host", netrc_path=str(tmp_path / "netrc"))
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("data", [b"", b" \n", b"two s3crets", b"\xff\xfe"])
def test_a_token_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "token").write_bytes(data)
    with pytest.raises(ConfigError, match="bearer_token") as raised:
        Credentials.load("https://host", bearer_token_path=str(tmp_path / "token"))
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("key", ["netrc_path", "bearer_token_path"])
def test_files_that_are_not_there(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="nothing: No such file"):
        Credentials.load("https://host", **{key: str(tmp_path / "nothing")})


def test_they_are_not_shown(token_path: str) -> None:
    assert "t0ken" not in repr(Credentials.load("https://host", bearer_token_path=token_path))


def authorizations(server: UpstreamServer) -> set[str | None]:
    return {headers.get("Authorization") for headers in server.headers}


@pytest.mark.anyio
async def test_they_go_to_the_upstream_only(real: RealCache, server: UpstreamServer, token_path: str) -> None:
    async with UpstreamServer.serving(server.files, "/front") as front:
        server.files.change_narinfo(real.tree, lambda n: replace(n, url=f"{server.url}/{n.url}"))
        credentials = Credentials.load(front.url, bearer_token_path=token_path)
        options = HttpOptions(backoff=without_waiting())
        async with Store(HttpUpstream("upstream", front.url, credentials, options)) as store:
            assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar
        assert authorizations(front) == {"Bearer t0ken"}
        assert authorizations(server) == {None}


@pytest.mark.anyio
async def test_a_redirect_does_not_take_them_along(real: RealCache, server: UpstreamServer) -> None:
    async def there(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{server.url.replace('//', '//x:y@')}/{request.match_info['name']}")

    async with UpstreamServer.serving(server.files, "/front") as front:
        front.instead.update(dict.fromkeys(server.files, there))
        async with Store(front.url.replace("//", "//me:s3cret@")) as store:
            assert await store.path_infos.get_metadata(real.tree.digest) is not None
        assert authorizations(front) == {basic("me:s3cret")["Authorization"]}
        assert authorizations(server) == {None}


@pytest.mark.anyio
async def test_messages_do_not_show_them(server: UpstreamServer, real: RealCache) -> None:
    server.instead["nix-cache-info"] = status(401)
    async with Store(server.url.replace("//", "//me:s3cret@")) as store:
        with pytest.raises(Unavailable, match=f"{server.url}/nix-cache-info: 401") as raised:
            await store.path_infos.get(real.tree.digest)
    assert "s3cret" not in str(raised.value)
