"""Who may write, and what the others are told."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from plugins.http.pushing import Pusher, file_nar, narinfo_for, opened_site, path_of, pushing
from tvix_store.errors import ConfigError
from tvix_store_http.credentials import Credentials

pytestmark = pytest.mark.anyio

NAR = file_nar(b"content")
NARINFO = narinfo_for(NAR)
PLACES = [
    NARINFO.url,
    path_of(NARINFO),
    path_of(NARINFO).replace("narinfo", "ls"),
    "nix-cache-info",
    f"log/{NARINFO.metadata.store_path}.drv",
]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("# who may upload\n\nalice:secret:with:colons\nbob:gr\u00fcn\n")
    return path


async def refusals(pusher: Pusher) -> set[int]:
    """What PUTs are answered with; each says why in one line."""
    statuses = set()
    for place in PLACES:
        status, text = await pusher.put(place, NAR)
        assert (text.count("\n"), len(text) > 10) == (1, True)
        statuses.add(status)
    return statuses


async def test_a_read_only_cache(tmp_path: Path) -> None:
    async with opened_site(tmp_path, allow_writes=False) as site, pushing(site) as pusher:
        assert await refusals(pusher) == {405}


async def test_a_cache_without_a_place_for_its_state_is_read_only(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site, pushing(replace(site, state=None)) as pusher:
        assert await refusals(pusher) == {405}


async def test_other_machines_may_not_write(tmp_path: Path) -> None:
    async with opened_site(tmp_path, is_local=False) as site, pushing(site) as pusher:
        assert await refusals(pusher) == {403}
        assert "allow_remote_writes" in (await pusher.put(NARINFO.url, NAR))[1]


async def test_other_machines_may_write_if_told_so(tmp_path: Path) -> None:
    async with opened_site(tmp_path, is_local=False, allow_remote_writes=True) as site, pushing(site) as pusher:
        await pusher.push(NAR, NARINFO)


@pytest.mark.parametrize("is_local", [True, False])
async def test_where_there_are_credentials_they_are_needed_for_writing_alone(
    tmp_path: Path, users: Path, is_local: bool
) -> None:
    async with opened_site(tmp_path, is_local=is_local, credentials_file=users) as site, pushing(site) as pusher:
        assert await refusals(pusher) == {401}
        assert (await pusher.get("nix-cache-info"))[0] == 200
        assert (await pusher.get(path_of(NARINFO)))[0] == 404
        assert (await pusher.request("HEAD", NARINFO.url))[0] == 404
        async with pusher.session.put(f"{pusher.url}/{NARINFO.url}", data=NAR) as response:
            assert response.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [
        ("alice", "secret:with:colons", 201),
        ("bob", "gr\u00fcn", 201),
        ("alice", "secret", 401),
        ("alice", "", 401),
        ("", "", 401),
        ("bob", "secret:with:colons", 401),
        ("# who may upload", "", 401),
    ],
)
async def test_users_and_passwords(tmp_path: Path, users: Path, user: str, password: str, status: int) -> None:
    auth = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    async with opened_site(tmp_path, credentials_file=users) as site, pushing(site) as pusher:
        assert (await pusher.put(NARINFO.url, NAR, headers={"Authorization": auth}))[0] == status


@pytest.mark.parametrize("header", ["", "Basic", "Basic %", "Basic YQ", "Bearer x", "Digest x", "Basic " + "A" * 5000])
def test_other_headers_are_refused(users: Path, header: str) -> None:
    assert not Credentials.load(users).accept(header)


@pytest.mark.parametrize("content", ["", "# nobody\n", "alice\n", "alice:\n", ":secret\n", "alice:secret\nbob\n"])
def test_files_that_cannot_be_meant(tmp_path: Path, content: str) -> None:
    path = tmp_path / "users"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Credentials.load(path)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Credentials.load(tmp_path / "users")
