"""NARs: sample trees with the digests of their archives, and what builds archives from the grammar.

Trees are plain values here, and ``encode`` writes their NAR straight from the grammar, so that nothing of what is
tested is needed to build what it is tested with. See PROVENANCE.md for where the figures come from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    target: bytes


@dataclass(frozen=True, slots=True)
class Dir:
    entries: Mapping[bytes, Tree]


Tree = File | Link | Dir


def T(*strings: bytes) -> bytes:
    """Wire strings: length, bytes, padding."""
    return b"".join(len(s).to_bytes(8, "little") + s + bytes(-len(s) % 8) for s in strings)


def S(target: bytes) -> bytes:
    return T(b"(", b"type", b"symlink", b"target", target, b")")


def E(name: bytes, node: bytes) -> bytes:
    return T(b"entry", b"(", b"name", name, b"node") + node + T(b")")


def D(*entries: bytes) -> bytes:
    return T(b"(", b"type", b"directory") + b"".join(entries) + T(b")")


MAGIC = T(b"nix-archive-1")
F = T(b"(", b"type", b"regular", b"contents", b"x", b")")


def nested(levels: int) -> bytes:
    node = F
    for _ in range(levels):
        node = D(E(b"d", node))
    return node


def encode_node(tree: Tree) -> bytes:
    match tree:
        case File(data, True):
            return T(b"(", b"type", b"regular", b"executable", b"", b"contents", data, b")")
        case File(data, _):
            return T(b"(", b"type", b"regular", b"contents", data, b")")
        case Link(target):
            return S(target)
        case Dir(entries):
            return D(*(E(name, encode_node(entries[name])) for name in sorted(entries)))


def encode(tree: Tree) -> bytes:
    return MAGIC + encode_node(tree)


def materialise(tree: Tree, path: Path) -> Path:
    """Make the tree in the file system; names need not be UTF-8."""
    match tree:
        case File(data, executable):
            path.write_bytes(data)
            path.chmod(0o755 if executable else 0o644)
        case Link(target):
            os.symlink(target, os.fsencode(path))
        case Dir(entries):
            path.mkdir()
            for name, child in entries.items():
                materialise(child, path / os.fsdecode(name))
    return path


def read_back(path: Path) -> Tree:
    """What ``materialise`` made."""
    if path.is_symlink():
        return Link(os.readlink(os.fsencode(path)))
    if path.is_dir():
        return Dir({os.fsencode(child.name): read_back(child) for child in path.iterdir()})
    return File(path.read_bytes(), bool(path.stat().st_mode & 0o100))


_KEEP = File(b"")
_ELSEWHERE = Link(b"/nix/store/somewhereelse")
_SORTED_NAMES = (
    "01 20 2d 2e68696464656e 41 42 5a 5f 61 612d62 612e62 6130 6142 6161 62 7a 7e 7f c3a9 e282ac f09f92a9 ff"
)

TREES: dict[str, Tree] = {
    "empty-file": File(b""),
    "one-byte": File(b"\x01"),
    "hello": File(b"Hello World!"),
    "seven": File(b"1234567"),
    "eight": File(b"12345678"),
    "nine": File(b"123456789"),
    "exec-empty": File(b"", True),
    "exec": File(b"#!/bin/sh\n", True),
    "link": _ELSEWHERE,
    "link8": Link(b"12345678"),
    "empty-dir": Dir({}),
    "dir-keep": Dir({b".keep": _KEEP}),
    "complicated": Dir({b".keep": _KEEP, b"aa": _ELSEWHERE, b"keep": Dir({b".keep": _KEEP})}),
    "nested": Dir({b"a": Dir({b"b": Dir({b"c": Dir({})})})}),
    "prefixdirs": Dir(
        {
            b"a": Dir({b"z": File(b"1")}),
            b"a-": File(b"3"),
            b"a.d": Dir({b"a": File(b"2")}),
            b"a0": File(b"4"),
            b"ab": Link(b"a"),
        }
    ),
    "mixed": Dir(
        {
            b"bin": Dir({b"tool": File(b"#!/bin/sh\nexit 0\n", True)}),
            b"share": Dir({b"doc": Dir({b"README": File(b"read me\n")}), b"link": Link(b"../bin/tool")}),
            b"zero": File(b""),
        }
    ),
    "sorting": Dir({bytes.fromhex(name): File(bytes.fromhex(name)) for name in _SORTED_NAMES.split()}),
}
"""Directories with their entries in NAR order."""

SIZES_AND_SHA256: dict[str, tuple[int, str]] = {
    "empty-file": (112, "77ac62e2629d8e45f624589c0c8bf99e24b3a722349bf1e79bc186008534e246"),
    "one-byte": (120, "730850a811259dbf3a68dc2ee87a79aa6cae9f71375edf396f9d7a91fbe9134d"),
    "hello": (128, "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"),
    "seven": (120, "fbd2ce48c62423e363f8b56c4edce18ed7ef006a65c74b5f58b1aa23be7afa09"),
    "eight": (120, "22d63223426447e64aa20d76d506b3e062a2d242bb797536dbf3ee681be3f53c"),
    "nine": (128, "01e23d2c0a14bfecbb8a82b3f11ca003d7322bcfec14c3a1b57168b445480e41"),
    "exec-empty": (144, "34e00b8592a6ad465851a46a67464e076102fd5106ca6cb33a2f15009d30d590"),
    "exec": (160, "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554"),
    "link": (136, "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"),
    "link8": (120, "986c70c9a2aae61f3149cbe750e64d97fa4778de37d67271a8bffd56cf083a82"),
    "empty-dir": (96, "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a"),
    "dir-keep": (280, "4374173a8cbe88de152b609f96f46e958bcf65762017474eec5a05ec2bd61530"),
    "complicated": (840, "ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"),
    "nested": (600, "db3660c942e105c91f57c6c39ddbed03537d5e2b502d26a73a893c2750196539"),
    "sorting": (4320, "b53a148fc7c05bc3fcec9d98f6b9e965c19ec9485077b0c5e00e60f8ac5bc6fd"),
    "prefixdirs": (1392, "6f3522b76c00a411b32cfdf9c4b74e80f07b6fec115c1d5646b3ae4822ef1e3a"),
    "mixed": (1416, "53680cfb4c2c78c1a9d33ceda7b6b6ef75bd19109db719cb80344365e7a0c05e"),
}
"""Of the whole NAR of each tree."""

CONTENT_OFFSETS: dict[str, dict[str, int]] = {
    "one-byte": {"": 96},
    "exec": {"": 128},
    "link": {},
    "empty-dir": {},
    "dir-keep": {".keep": 232},
    "complicated": {".keep": 232, "keep/.keep": 760},
    "nested": {},
    "mixed": {"bin/tool": 400, "share/doc/README": 912, "zero": 1368},
    "prefixdirs": {"a/z": 368, "a-": 592, "a.d/a": 920, "a0": 1144},
}
"""Where in the NAR the contents of each file start, by path; the root has the path ""."""

DUMPS = {
    "one-byte": """
        0d 00 00 00 00 00 00 00 6e 69 78 2d 61 72 63 68
        69 76 65 2d 31 00 00 00 01 00 00 00 00 00 00 00
        28 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
        74 79 70 65 00 00 00 00 07 00 00 00 00 00 00 00
        72 65 67 75 6c 61 72 00 08 00 00 00 00 00 00 00
        63 6f 6e 74 65 6e 74 73 01 00 00 00 00 00 00 00
        01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
        29 00 00 00 00 00 00 00
    """,
    "link": """
        0d 00 00 00 00 00 00 00 6e 69 78 2d 61 72 63 68
        69 76 65 2d 31 00 00 00 01 00 00 00 00 00 00 00
        28 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
        74 79 70 65 00 00 00 00 07 00 00 00 00 00 00 00
        73 79 6d 6c 69 6e 6b 00 06 00 00 00 00 00 00 00
        74 61 72 67 65 74 00 00 18 00 00 00 00 00 00 00
        2f 6e 69 78 2f 73 74 6f 72 65 2f 73 6f 6d 65 77
        68 65 72 65 65 6c 73 65 01 00 00 00 00 00 00 00
        29 00 00 00 00 00 00 00
    """,
    "empty-dir": """
        0d 00 00 00 00 00 00 00 6e 69 78 2d 61 72 63 68
        69 76 65 2d 31 00 00 00 01 00 00 00 00 00 00 00
        28 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
        74 79 70 65 00 00 00 00 09 00 00 00 00 00 00 00
        64 69 72 65 63 74 6f 72 79 00 00 00 00 00 00 00
        01 00 00 00 00 00 00 00 29 00 00 00 00 00 00 00
    """,
    "exec": """
        0d 00 00 00 00 00 00 00 6e 69 78 2d 61 72 63 68
        69 76 65 2d 31 00 00 00 01 00 00 00 00 00 00 00
        28 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
        74 79 70 65 00 00 00 00 07 00 00 00 00 00 00 00
        72 65 67 75 6c 61 72 00 0a 00 00 00 00 00 00 00
        65 78 65 63 75 74 61 62 6c 65 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
        63 6f 6e 74 65 6e 74 73 0a 00 00 00 00 00 00 00
        23 21 2f 62 69 6e 2f 73 68 0a 00 00 00 00 00 00
        01 00 00 00 00 00 00 00 29 00 00 00 00 00 00 00
    """,
    "dir-keep": """
        0d 00 00 00 00 00 00 00 6e 69 78 2d 61 72 63 68
        69 76 65 2d 31 00 00 00 01 00 00 00 00 00 00 00
        28 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
        74 79 70 65 00 00 00 00 09 00 00 00 00 00 00 00
        64 69 72 65 63 74 6f 72 79 00 00 00 00 00 00 00
        05 00 00 00 00 00 00 00 65 6e 74 72 79 00 00 00
        01 00 00 00 00 00 00 00 28 00 00 00 00 00 00 00
        04 00 00 00 00 00 00 00 6e 61 6d 65 00 00 00 00
        05 00 00 00 00 00 00 00 2e 6b 65 65 70 00 00 00
        04 00 00 00 00 00 00 00 6e 6f 64 65 00 00 00 00
        01 00 00 00 00 00 00 00 28 00 00 00 00 00 00 00
        04 00 00 00 00 00 00 00 74 79 70 65 00 00 00 00
        07 00 00 00 00 00 00 00 72 65 67 75 6c 61 72 00
        08 00 00 00 00 00 00 00 63 6f 6e 74 65 6e 74 73
        00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
        29 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
        29 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
        29 00 00 00 00 00 00 00
    """,
}
"""Whole NARs, as hex."""
