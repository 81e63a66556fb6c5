"""Names, ranges and codings, as they are read from requests."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store_http.castore_url import castore_url, parse_nar_size, parse_node
from tvix_store_http.encoding import choose
from tvix_store_http.ranges import Part, Unsatisfiable, matches, parse_range

DIGESTS = st.binary(min_size=32, max_size=32).map(B3Digest)
SIZES = st.integers(0, 2**64 - 1)
NODES: st.SearchStrategy[Node] = st.one_of(
    st.builds(FileNode, DIGESTS, SIZES, st.booleans()),
    st.builds(DirectoryNode, DIGESTS, SIZES),
    st.builds(SymlinkNode, st.binary(min_size=1, max_size=4095).filter(lambda target: b"\0" not in target)),
)


# --- names of NARs ---


@given(NODES, SIZES)
def test_what_we_name_we_read(node: Node, nar_size: int) -> None:
    url = castore_url("snix-castore", node, nar_size)
    name, _, query = url.removeprefix("nar/snix-castore/").partition("?narsize=")
    assert (parse_node(name), parse_nar_size(query)) == (node, nar_size)


def test_the_longest_symlink_has_a_name() -> None:
    node = SymlinkNode(b"x" * 4095)
    assert parse_node(castore_url("snix-castore", node, 1).split("/")[2].partition("?")[0]) == node


@given(NODES, st.sampled_from(["=", "A", "AAAA", "\n", "%", "é"]), st.integers(0, 60))
def test_other_spellings_of_a_name_are_none(node: Node, extra: str, where: int) -> None:
    name = castore_url("snix-castore", node, 1).split("/")[2].partition("?")[0]
    changed = name[:where] + extra + name[where:]
    with suppress(InvalidObject):
        assert parse_node(changed) != node


def test_stray_bits_are_refused() -> None:
    name = base64.urlsafe_b64encode(b"\x1a\x03\x12\x01x").decode().rstrip("=")
    assert parse_node(name) == SymlinkNode(b"x")
    assert name.endswith("g")
    with pytest.raises(InvalidObject, match="stray bits"):
        parse_node(name[:-1] + "h")


def test_a_name_that_is_too_long_is_not_decoded() -> None:
    with pytest.raises(LimitExceeded):
        parse_node("A" * 10_000_000)


@given(st.text(max_size=200))
def test_any_other_text_is_invalid(text: str) -> None:
    with suppress(InvalidObject):
        parse_node(text)


@pytest.mark.parametrize("text", [None, "", "-1", "+1", "1.0", "1_0", "\u0661", "9" * 5000, str(2**64)])
def test_sizes_that_are_none(text: str | None) -> None:
    with pytest.raises(InvalidObject):
        parse_nar_size(text)


# --- ranges ---


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200))
def test_a_range_is_what_python_slices(first: int, last: int, size: int) -> None:
    whole = bytes(size)
    if last < first:
        assert parse_range(f"bytes={first}-{last}", size) is None
    elif first >= size:
        with pytest.raises(Unsatisfiable):
            parse_range(f"bytes={first}-{last}", size)
    else:
        part = parse_range(f"bytes={first}-{last}", size)
        assert part is not None
        assert part.end - part.start == len(whole[first : last + 1])
        assert part.start == first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("bytes=0-", Part(0, 10, 10)),
        ("bytes=-3", Part(7, 10, 10)),
        ("bytes=-30", Part(0, 10, 10)),
        ("BYTES=2-4", Part(2, 5, 10)),
        ("bytes= 2-4 , 7-8", Part(2, 5, 10)),
        ("bytes=2-4,nonsense", Part(2, 5, 10)),
        ("bytes=x-4", None),
        ("bytes 2-4", None),
        ("items=2-4", None),
        ("bytes=\u0662-\u0664", None),
    ],
)
def test_ranges(text: str | None, expected: Part | None) -> None:
    assert parse_range(text, 10) == expected


@given(st.text(max_size=50), st.integers(0, 100))
def test_any_header_is_a_range_or_none(text: str, size: int) -> None:
    try:
        part = parse_range(text, size)
    except Unsatisfiable:
        return
    assert part is None or 0 <= part.start < part.end <= part.size == size


@pytest.mark.parametrize(
    ("header", "weakly", "expected"),
    [
        ('"a"', False, True),
        ('"b", "a"', False, True),
        ('W/"a"', False, False),
        ('W/"a"', True, True),
        ("*", True, True),
    ],
)
def test_entity_tags(header: str, weakly: bool, expected: bool) -> None:
    assert matches(header, '"a"', weakly=weakly) is expected


# --- content codings ---


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        ("", None),
        ("zstd", "zstd"),
        ("gzip, ZSTD", "zstd"),
        ("gzip", "gzip"),
        ("br", None),
        ("zstd;q=0.1, gzip;q=0.2", "gzip"),
        ("zstd;q=0", None),
        ("*", "zstd"),
        ("*;q=0", None),
        ("*, zstd;q=0", "gzip"),
        ("identity, zstd;q=0.5", None),
        ("identity;q=0.4, zstd;q=0.5", "zstd"),
        ("zstd;q=nonsense", None),
        ("zstd ; q=1.000", "zstd"),
        ("zstd, br, gzip, deflate, bzip2, xz", "zstd"),
    ],
)
def test_which_coding_a_client_gets(accept: str | None, expected: str | None) -> None:
    assert choose(accept, ("zstd", "gzip")) == expected


@given(st.text(max_size=60))
def test_any_header_chooses_something_or_nothing(accept: str) -> None:
    assert choose(accept, ("zstd",)) in (None, "zstd")


def test_nothing_is_encoded_unless_configured() -> None:
    assert choose("zstd, gzip", ()) is None
