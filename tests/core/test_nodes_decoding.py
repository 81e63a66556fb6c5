"""The quick decoder against the thorough one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject
from tvix_store.limits import U64_MAX
from tvix_store.nodes import Directory, DirectoryNode, FileNode, SymlinkNode
from tvix_store.wire import decode_directory

DIGEST = B3Digest.of(b"x")

digests = st.binary(min_size=32, max_size=32).map(B3Digest)
sizes = st.integers(0, 300) | st.integers(0, U64_MAX // 4)
names = st.binary(min_size=1, max_size=3) | st.binary(min_size=126, max_size=130) | st.just(b"n" * 255)
nodes = (
    st.builds(FileNode, digests, sizes, st.booleans())
    | st.builds(DirectoryNode, digests, sizes)
    | st.builds(SymlinkNode, (st.binary(min_size=1, max_size=200)).filter(lambda target: 0 not in target))
)
entries = st.dictionaries(names.filter(lambda name: name not in (b".", b"..") and not {0, 47} & set(name)), nodes)


def check(encoded: bytes) -> Directory | None:
    """What the quick decoder makes of it, which must not be anything the thorough one would not."""
    directory = Directory.decode_canonical(encoded)
    if directory is not None:
        thorough = decode_directory(encoded)
        assert list(directory.items()) == list(thorough.items())
        assert thorough.encode() == directory.encode() == encoded
        assert (directory.size, directory.digest) == (thorough.size, B3Digest.of(encoded))
    return directory


@given(entries.map(lambda entries: {name: entries[name] for name in list(entries)[:3]}))
def test_what_was_encoded_is_decoded(entries: dict[bytes, FileNode | DirectoryNode | SymlinkNode]) -> None:
    directory = Directory(entries)
    assert check(directory.encode()) == directory


@given(entries.map(lambda entries: Directory(dict(list(entries.items())[:3])).encode()), st.data())
def test_one_byte_changed_added_or_lost(encoded: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(encoded)))
    replacement = data.draw(st.binary(max_size=2))
    check(encoded[:position] + replacement + encoded[position + data.draw(st.integers(0, 2)) :])


@given(st.binary(max_size=40))
def test_any_bytes(encoded: bytes) -> None:
    check(encoded)


def entry(tag: bytes, name: bytes, rest: bytes) -> bytes:
    body = b"\x0a%b%b%b" % (bytes([len(name)]), name, rest)
    return b"%b%b%b" % (tag, bytes([len(body)]), body)


FILE = b"\x12\x20" + DIGEST.raw

NOT_CANONICAL = {
    "explicit size 0": entry(b"\x12", b"a", FILE + b"\x18\x00"),
    "explicit not executable": entry(b"\x12", b"a", FILE + b"\x20\x00"),
    "size in more bytes than it needs": entry(b"\x12", b"a", FILE + b"\x18\x81\x00"),
    "size over 64 bits": entry(b"\x12", b"a", FILE + b"\x18" + b"\xff" * 9 + b"\x02"),
    "unknown field": entry(b"\x12", b"a", FILE + b"\x28\x01"),
    "files before directories": entry(b"\x12", b"a", FILE) + entry(b"\x0a", b"b", FILE),
    "names out of order": entry(b"\x12", b"b", FILE) + entry(b"\x12", b"a", FILE),
    "a name twice": entry(b"\x12", b"a", FILE) * 2,
    "a name in two lists": entry(b"\x0a", b"a", FILE) + entry(b"\x12", b"a", FILE),
    "no name": entry(b"\x12", b"", FILE),
    "a slash": entry(b"\x12", b"a/b", FILE),
    "a null byte": entry(b"\x12", b"a\0", FILE),
    "the parent": entry(b"\x0a", b"..", FILE),
    "a short digest": entry(b"\x12", b"a", b"\x12\x1f" + DIGEST.raw[1:]),
    "no target": entry(b"\x1a", b"a", b""),
    "an empty target": entry(b"\x1a", b"a", b"\x12\x00"),
    "a target with a null byte": entry(b"\x1a", b"a", b"\x12\x01\x00"),
    "an executable directory": entry(b"\x0a", b"a", FILE + b"\x20\x01"),
    "an entry cut off": entry(b"\x12", b"a", FILE)[:-1],
    "sizes that do not fit": entry(b"\x0a", b"a", FILE + b"\x18" + b"\xff" * 9 + b"\x01"),
}


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_what_is_not_canonical_is_left_to_the_thorough_decoder(name: str) -> None:
    encoded = NOT_CANONICAL[name]
    assert Directory.decode_canonical(encoded) is None
    with contextlib.suppress(InvalidObject):
        assert decode_directory(encoded).encode() != encoded
