"""NARs: sample trees with the digests of their archives, and archives that a strict reader takes or refuses.

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

ACCEPT = "accept"
REJECT = "reject"
LIMIT = "reject by the limit of 64 levels"
TRAILING = "reject when the input must end"


@dataclass(frozen=True, slots=True)
class Stream:
    name: str
    data: bytes
    size: int
    sha256: str
    want: str
    restored_by_nix_2_8: bool


STREAMS = [
    Stream(
        "a file",
        MAGIC + F,
        120,
        "2ca0b8ce996f865db37619bfe91023559305aad8158042fc6ddb0ef1d43c5b67",
        ACCEPT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "two entries",
        MAGIC + D(E(b"a", F), E(b"b", F)),
        480,
        "e9eda143d7aaac55671e811fa224edd00e5528cb0f4d664f643ace4cd632b740",
        ACCEPT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "upper case first",
        MAGIC + D(E(b"A", F), E(b"a", F)),
        480,
        "cf6c1c2c86d653ff31e1798be65e32fc41d236eae4599ef6296f514c3c37600e",
        ACCEPT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "name not UTF-8",
        MAGIC + D(E(b"\xff\xfe", F)),
        288,
        "5fb655e6a8313ddaf047136dd11f246c90b61fe7ef9c57d7a968c2d386531301",
        ACCEPT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "longest name",
        MAGIC + D(E(b"a" * 255, F)),
        536,
        "10ca1cb15e2c1f992cb095411670d89eb1a49d49026ea0e982c7f37754907ff7",
        ACCEPT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "longest target",
        MAGIC + S(b"a" * 4095),
        4208,
        "a78a89f8aa55ca9498ba8d97f4c4883713c274a67bab24e2d6096862fce3dae2",
        ACCEPT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "63 nested directories",
        MAGIC + nested(63),
        10704,
        "6102413cdf58d2224fc3cc9ced1e6b13b53d83c7cc5b74325eda0e02ae7b385a",
        ACCEPT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "64 nested directories",
        MAGIC + nested(64),
        10872,
        "dd3d0d06a460e85e4fef1e7fce9e52a9c2d0e6b1e4853b5e8404f6cf459000ad",
        LIMIT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "500 nested directories",
        MAGIC + nested(500),
        84120,
        "9c62cc49b1d1f4905ef67e6107f55b1dec5c66bfb7fe4adf45cb42e2d632bd18",
        LIMIT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "empty input",
        b"",
        0,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "last byte missing",
        (MAGIC + F)[:-1],
        119,
        "47add9d027fdb2b4b898580182571c1cc6c911813c6fdefadb786eea1e416041",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "trailing zeros",
        MAGIC + F + bytes(8),
        128,
        "76c88c83300d1862a017d263dceea9d4e7d10b6872146a34e3e91102ec3085b8",
        TRAILING,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "trailing text",
        MAGIC + F + b"garbage!",
        128,
        "a217a7a9df9ca027aada128628f1c9d2e863b0ce38817cb5a23a941a7b5aff19",
        TRAILING,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "wrong magic",
        T(b"nix-archive-2") + F,
        120,
        "62e2f9436feb6a27d724fbf55fd75e0f73041ddec8c635a977014166c58c05f4",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "padding of the magic",
        MAGIC[:-1] + b"\x01" + F,
        120,
        "e5f8d77f138b261d6c170656bf5aedcb628780b59da4e845d590f7fcea5a757e",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "padding of contents",
        MAGIC + T(b"(", b"type", b"regular", b"contents") + b"\1" + bytes(7) + b"x\1" + bytes(6) + T(b")"),
        120,
        "90ac68125ef8147cc1370a38cad0399966cb07b5441630c4edd847963650b6f1",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "unsorted",
        MAGIC + D(E(b"b", F), E(b"a", F)),
        480,
        "08e6c52d1312027aa9b0f5285ea8fdc9e8708561e2de8db84372766aa32ef9c7",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "duplicate name",
        MAGIC + D(E(b"a", F), E(b"a", F)),
        480,
        "d70adbfecc9ed9ec8ef34ebc6d00722f378f1cf6026ee5a06cd97e68d797d508",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "empty name",
        MAGIC + D(E(b"", F)),
        280,
        "dcc92133b74598f4e0a64e1aa64352df0d94bcb7f69689c9ea858a6c371a43af",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "name .",
        MAGIC + D(E(b".", F)),
        288,
        "dba935bcf6eaaf092347debb067b8bfe129ae35c0e604bf3d8c79078259426bb",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "name ..",
        MAGIC + D(E(b"..", F)),
        288,
        "3973bac27374829415ed90d969ee706e2ef328d57ea86469631efa097548b2e1",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "slash in a name",
        MAGIC + D(E(b"a/b", F)),
        288,
        "8a563dab4453498d2fb1397d7ef9269fa84a86a1faea337ebdc1e2ab4ade81ba",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "NUL in a name",
        MAGIC + D(E(b"a\0b", F)),
        288,
        "9fd3ce1cf6e38ceb7d24df2931196a76deb3f38de2b4991bae0cacc2dd255c66",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "name too long",
        MAGIC + D(E(b"a" * 256, F)),
        536,
        "2b928ec5e666949e3ccfdbf17da459791ca3e4dc50dd1de601e6b4ba5c080c09",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "executable with a value",
        MAGIC + T(b"(", b"type", b"regular", b"executable", b"x", b"contents", b"x", b")"),
        160,
        "b08f63b024b8a7e49cfa1a1d38cd3157088e2b2a1866c215255cb5eb0639c453",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "executable after contents",
        MAGIC + T(b"(", b"type", b"regular", b"contents", b"x", b"executable", b"", b")"),
        152,
        "ccc455fba1356b9f5d81e2600aeb0af4e941294acc0d28281ffc27a3900d0661",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "no contents",
        MAGIC + T(b"(", b"type", b"regular", b")"),
        88,
        "24c14029d31ffa832994269f161eb4e3435119c9343943cfb3b9cdeb1bde4d6f",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "executable without contents",
        MAGIC + T(b"(", b"type", b"regular", b"executable", b"", b")"),
        120,
        "242ddcdcd3639b4ee8025d73a8e0ce626467f0bd06490fcd78a03ae6f7aae712",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "two contents",
        MAGIC + T(b"(", b"type", b"regular", b"contents", b"x", b"contents", b"y", b")"),
        152,
        "7e14905c7fe7d36ee00fff4130317346abddec25543f659e3e7f2ab62f63cc41",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "symlink without target",
        MAGIC + T(b"(", b"type", b"symlink", b")"),
        88,
        "d03a170da7a47ab4a3fed3930ce57c39d0e6393569375ad517bf85c592f7eded",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "empty target",
        MAGIC + S(b""),
        112,
        "66905cda265ac84e32e3775ed6de136d15c01e38128f7b577fc954b1eccaa33c",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "NUL in a target",
        MAGIC + S(b"a\0b"),
        120,
        "fc55c107e6d7df4366d986853e4783e6aff6b2431bee202d7510df97da2779b1",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "target too long",
        MAGIC + S(b"a" * 4096),
        4208,
        "c2fa6364cc1955ac303a1b1ba8b2ad6c1c11bdaa5710cc88d5d522c9df2c2f7b",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "unknown tag",
        MAGIC + T(b"(", b"type", b"regular", b"foo", b"x", b"contents", b"x", b")"),
        152,
        "2f2d9e47e9ba14b5d598066433ba5355f7fb192ced815cddd406c41724bea6e3",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "unknown type",
        MAGIC + T(b"(", b"type", b"fifo", b")"),
        88,
        "57b4bde7bdab50e9624dd68581f322ede2332f1120d1e574a749711aabbf9002",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "no type",
        MAGIC + T(b"(", b")"),
        56,
        "4cc28ab72a383c8ecbd7e7d14658f26315f8c305f5cb5f3c212ea6b579d0f3a0",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "two types",
        MAGIC + T(b"(", b"type", b"regular", b"type", b"regular", b"contents", b"x", b")"),
        152,
        "a7d71180a53ae1a44f8e9afbef27a03a7efd09189e5c4396bb6ced165d879b17",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "node before name",
        MAGIC + D(T(b"entry", b"(", b"node") + F + T(b"name", b"a", b")")),
        288,
        "de9b7c87a2b21bde3e35726685ca6c6436d3d179b0f5fe458f98c32473534bed",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "entry without node",
        MAGIC + D(T(b"entry", b"(", b"name", b"a", b")")),
        176,
        "9edea14d7d785caa3d86433966ff1ee04f5c2f3cc3c0a5d572cec9a8c520227e",
        REJECT,
        restored_by_nix_2_8=True,
    ),
    Stream(
        "entry without name",
        MAGIC + D(T(b"entry", b"(", b"node") + F + T(b")")),
        256,
        "2a7d59210fa04814239d7906c95fcacaa7226f8d683144b7d240793c1db71bce",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "entry at the root",
        MAGIC + E(b"a", F),
        216,
        "6a884fc9307144d86fbdb0d4bff7d2ecd587295ab321764b277f55e03115899a",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "huge length of a tag",
        MAGIC + T(b"(", b"type") + b"\xff" * 8,
        64,
        "5a408444bbed9f038239dbd865a450299c465ed84af4435fc14eac79a869a670",
        REJECT,
        restored_by_nix_2_8=False,
    ),
    Stream(
        "huge length of contents",
        MAGIC + T(b"(", b"type", b"regular", b"contents") + (2**63).to_bytes(8, "little"),
        96,
        "01d9b9a5a94ce183c492be11418885d6309af4e14795e6ab157b44d181ebc543",
        REJECT,
        restored_by_nix_2_8=False,
    ),
]
