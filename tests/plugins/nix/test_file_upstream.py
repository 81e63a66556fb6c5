"""A folder as an upstream: nothing outside of it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.errors import InvalidObject, LimitExceeded, Unavailable
from tvix_store_nix.file_upstream import FileUpstream

URLS = st.lists(
    st.sampled_from(
        ["..", ".", "%2e%2e", "%2E.", "/", "%2f", "file:", "//", "cache", "nar", "?", "#", "%00", "%", ";", "a"]
    )
    | st.text(max_size=3)
).map("".join)


@given(URLS)
def test_no_url_leads_out_of_it(url: str) -> None:
    try:
        path = FileUpstream("upstream", "file:///var/cache")._path(url)
    except InvalidObject:
        return
    assert path.is_relative_to("/var/cache")
    assert ".." not in path.parts


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["../secret", "%2e%2e/secret", "..%2fsecret", "nar%2f..%2f..%2fsecret", "nar/%00"])
async def test_a_file_beside_it_is_not_read(tmp_path: Path, url: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(InvalidObject, match="leads out of"):
        [piece async for piece in FileUpstream("upstream", f"file://{tmp_path}/cache").stream(url, is_compressed=True)]


@pytest.mark.anyio
async def test_its_name_may_be_encoded(tmp_path: Path) -> None:
    (tmp_path / "a b%").mkdir()
    (tmp_path / "a b%" / "nix-cache-info").write_text("text")
    upstream = FileUpstream("upstream", f"file://{tmp_path}/a%20b%25")
    assert await upstream.read("nix-cache-info", 100) == b"text"
    assert await upstream.read("absent", 100) is None
    with pytest.raises(LimitExceeded, match="longer than 3 bytes"):
        await upstream.read("nix-cache-info", 3)


@pytest.mark.anyio
async def test_what_cannot_be_read_is_no_absent_file(tmp_path: Path) -> None:
    (tmp_path / "folder.narinfo").mkdir()
    with pytest.raises(Unavailable, match=r"folder\.narinfo: Is a directory"):
        await FileUpstream("upstream", f"file://{tmp_path}").read("folder.narinfo", 100)
