from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.cache_info import MAX_CACHE_INFO_BYTES, CacheInfo
from tvix_store.errors import InvalidObject, LimitExceeded


def test_golden_text() -> None:
    info = CacheInfo("/nix/store", want_mass_query=True, priority=39)
    text = b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 39\n"
    assert info.render() == text
    assert CacheInfo.parse(text) == info


@pytest.mark.parametrize(
    ("text", "info"),
    [
        (b"StoreDir: /nix/store\n", CacheInfo("/nix/store")),
        (b"", CacheInfo(None)),
        (b"StoreDir:/gnu/store \nno colon\nFoo: bar: baz", CacheInfo("/gnu/store")),
        (b"WantMassQuery: 1\r\nPriority: -3\r\n", CacheInfo(None, want_mass_query=True, priority=-3)),
        (b"WantMassQuery: yes\nPriority: low\n", CacheInfo(None)),
        (b"Priority: " + b"1" * 5000, CacheInfo(None)),
    ],
)
def test_is_read_leniently(text: bytes, info: CacheInfo) -> None:
    assert CacheInfo.parse(text) == info


def test_is_text_of_bounded_length() -> None:
    with pytest.raises(InvalidObject, match="not UTF-8 at byte 1"):
        CacheInfo.parse(b"a\xff")
    with pytest.raises(LimitExceeded, match="more than 65536"):
        CacheInfo.parse(bytes(MAX_CACHE_INFO_BYTES + 1))


@given(st.none() | st.just("/gnu/store"), st.booleans(), st.none() | st.integers(-999_999_999, 999_999_999))
def test_what_is_written_is_read(store_dir: str | None, want_mass_query: bool, priority: int | None) -> None:
    info = CacheInfo(store_dir, want_mass_query, priority)
    assert CacheInfo.parse(info.render()) == info
