"""Where the URLs of narinfos lead."""

from __future__ import annotations

import pytest

from tvix_store.errors import InvalidObject
from tvix_store_nix.upstream import joined, shown_url


@pytest.mark.parametrize("base", ["https://host/cache", "https://host/cache/", "https://host/cache//"])
@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("nar/x.nar.xz", "https://host/cache/nar/x.nar.xz"),
        ("nar/x.nar?hash=abc&x=%2B+", "https://host/cache/nar/x.nar?hash=abc&x=%2B+"),
        ("nar/x.nar#part", "https://host/cache/nar/x.nar"),
        ("../nar/x.nar", "https://host/nar/x.nar"),
        ("/nar/x.nar", "https://host/nar/x.nar"),
        ("//cdn/x.nar", "https://cdn/x.nar"),
        ("http://cdn:81/x.nar?token=1", "http://cdn:81/x.nar?token=1"),
    ],
)
def test_urls_are_relative_to_the_folder(base: str, url: str, target: str) -> None:
    assert joined(base, url) == target


def test_a_file_leads_to_files_beside_it() -> None:
    assert joined("file:///cache", "nar/x.nar") == "file:///cache/nar/x.nar"
    assert joined("file:///cache", "file:///cache/nar/x.nar") == "file:///cache/nar/x.nar"


@pytest.mark.parametrize(
    "url", ["../x", "/etc/passwd", "file:///etc/passwd", "http://host/x", "nar/../../x", "//etc/x"]
)
def test_a_file_leads_nowhere_else(url: str) -> None:
    with pytest.raises(InvalidObject, match="URL"):
        joined("file:///cache", url)


@pytest.mark.parametrize(
    "url", ["", "a b", "nar/\n", "nar/ü", "file:///x", "FILE:///x", "ftp://x/y", "nix:x", "http://[", "http://:80/x"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InvalidObject, match="URL"):
        joined("https://host", url)


def test_messages_show_no_secrets() -> None:
    assert shown_url("https://user:secret@host:1/a/b?token=secret") == "https://host:1/a/b"
