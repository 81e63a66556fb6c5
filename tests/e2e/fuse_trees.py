"""What is mounted in tests: a tree with one of everything, and one that is large but quickly made."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tvix_store.limits import KIB, MIB
from vectors.nar import Dir, File, Link, Tree

__all__ = [
    "CROWD",
    "LARGE",
    "N_LIBRARIES",
    "N_SMALL",
    "PACKAGE",
    "SIBLINGS",
    "SIZES",
    "VIDEO_BYTES",
    "Sparse",
    "content",
    "everything",
    "files_of",
    "make_large_tree",
]

SIZES = [base + more for base in (4 * KIB, 128 * KIB, 256 * KIB, MIB) for more in (-1, 0, 1)] + [1, 5 * MIB + 7]
PACKAGE = Dir(
    {
        b"__init__.py": File(b"from .inner import answer\n"),
        b"inner.py": File(b"from pathlib import Path\nanswer = (Path(__file__).parent / 'data').read_text()\n"),
        b"data": File(b"forty-two"),
    }
)
_EQUAL = Dir({b"inside": Dir({b"file": File(b"the same")})})
_GIB = 1024 * MIB


def everything() -> Dir:
    """A tree with one of everything that a store path can have, and some of what it often has."""
    data = random.Random(6)
    script = File(b"#!/bin/sh\necho it ran: $1\n", True)
    program = File(Path(shutil.which("true") or "/bin/true").read_bytes(), True)
    strange = (
        b"\xff\xfe\x80",
        b"n" * 255,
        b"new\nline",
        b" ",
        b"\\",
        b"-rf",
        b"..hidden",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
    )
    return Dir(
        {
            b"bin": Dir({b"true": program, b"script": script, b"link": Link(b"script")}),
            b"deep": _nested(40, File(b"at the bottom")),
            b"empty": Dir({b"file": File(b""), b"program": File(b"", True), b"directory": Dir({})}),
            b"equal": Dir(
                {
                    b"plain": File(b"equal"),
                    b"again": File(b"equal"),
                    b"executable": File(b"equal", True),
                    b"left": _EQUAL,
                    b"right": _EQUAL,
                    b"link": Link(b"plain"),
                    b"relink": Link(b"plain"),
                }
            ),
            b"links": Dir(
                {
                    b"loop": Link(b"loop"),
                    b"ping": Link(b"pong"),
                    b"pong": Link(b"ping"),
                    b"dangling": Link(b"no/such/thing"),
                    b"absolute": Link(b"/proc/version"),
                    b"up": Link(b"../bin/script"),
                    b"longest": Link(b"x" * 4095),
                    b"bytes": Link(b"\xff\x80"),
                }
            ),
            b"names": Dir({name: File(b"called " + name) for name in strange}),
            b"package": PACKAGE,
            b"sizes": Dir({b"%d" % size: File(data.randbytes(size)) for size in SIZES}),
        }
    )


def _nested(n_levels: int, inmost: Tree) -> Tree:
    for level in range(n_levels):
        inmost = Dir({b"level%d" % level: inmost})
    return inmost


def files_of(tree: Tree, path: bytes = b"") -> Iterator[tuple[bytes, File]]:
    """The regular files of a tree, with their paths in it."""
    if isinstance(tree, File):
        yield path, tree
    elif isinstance(tree, Dir):
        for name, child in tree.entries.items():
            yield from files_of(child, path + b"/" + name if path else name)


@dataclass(frozen=True, slots=True)
class Sparse:
    """A file of zeros, with islands of random bytes in it.

    Args:
        size: Its length in bytes.
        islands: What is where, by offset; they do not overlap.
    """

    size: int
    islands: dict[int, bytes]

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(self.size)
            for offset, island in self.islands.items():
                file.seek(offset)
                file.write(island)

    def at(self, offset: int, n_bytes: int) -> bytes:
        """What it has there; less at its end."""
        end = min(offset + n_bytes, self.size)
        found = bytearray(max(0, end - offset))
        for start, island in self.islands.items():
            low, high = max(start, offset), min(start + len(island), end)
            if low < high:
                found[low - offset : high - offset] = island[low - start : high - start]
        return bytes(found)


def _large() -> Sparse:
    data = random.Random(4)
    size = 4 * _GIB + 12_345
    edges = [0, 2 * _GIB - 32 * KIB, 4 * _GIB - 32 * KIB, size - 20_000]
    inside = [_GIB // 4 * number + data.randrange(MIB) for number in (1, 3, 6, 9, 11, 14)]
    islands = {offset: data.randbytes(min(64 * KIB, size - offset)) for offset in edges}
    return Sparse(size, islands | {offset: data.randbytes(4 * MIB) for offset in inside})


LARGE = _large()
"""Somewhat longer than 4 GiB, with islands around the offsets that do not fit into 31 and 32 bits."""

CROWD = 5_000
N_SMALL = 400
N_LIBRARIES = 5
SIBLINGS = 30
VIDEO_BYTES = 100 * MIB


def content(path: str, n_bytes: int) -> bytes:
    """What does not compress, and is another thing for each path."""
    return random.Random(path).randbytes(n_bytes)


def make_large_tree(root: Path) -> None:
    """Make a tree of more than 4 GiB: `LARGE`, a file that does not compress, and directories of many small files."""
    folder = root / "deep/a/b/c"
    folder.mkdir(parents=True)
    for number in range(SIBLINGS):
        (folder / f"unwanted-{number}").write_bytes(content(f"unwanted-{number}", 100 * KIB))
    (folder / "target").write_bytes(content("target", 200 * KIB))
    for number in range(N_SMALL):
        path = root / f"lib/{number % N_LIBRARIES}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(str(number), 8 * KIB))
    (root / "crowd").mkdir()
    for number in range(CROWD):
        (root / "crowd" / f"number-{number}").symlink_to(f"to-{number}")
    (root / "media").mkdir()
    (root / "media/video").write_bytes(content("video", VIDEO_BYTES))
    LARGE.write(root / "large")
