"""A mount over a store on another machine: what goes over the wire, byte by byte, and what is there without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest

from chaos.daemon import Daemon
from e2e.fuse_mount import Mounted
from e2e.fuse_trees import CROWD, LARGE, N_LIBRARIES, N_SMALL, SIBLINGS, VIDEO_BYTES, content
from e2e.test_fuse_tree import output, refusal
from e2e.wire import Wire
from tvix_store.limits import KIB, MIB

pytestmark = pytest.mark.usefixtures("needs_fuse")

QUESTIONS = 30
_numbers = count()

Look = Callable[[Path], object]
"""Looks at the tree, whose place it is given."""


@pytest.fixture(scope="module")
def daemon(large_tree: tuple[Path, str]) -> Iterator[Daemon]:
    """It serves the tree of more than 4 GiB over gRPC."""
    config, _ = large_tree
    served = config.with_name("served.toml")
    served.write_text(config.read_text() + '[frontends.main]\ntype = "grpc"\nlisten = "127.0.0.1:0"\n')
    with Daemon(served) as daemon:
        yield daemon


class Near:
    """What is kept on this machine. ``look`` mounts it over the wire, and the mount is gone afterwards."""

    def __init__(self, folder: Path, name: str, far: str) -> None:
        self._folder = folder
        self._name = name
        self.far = far

    def _config(self, address: str) -> Path:
        disk = {
            "blob": f'type = "fs"\npath = "{self._folder}/blobs"\ndurability = "none"\n',
            "directory": f'type = "sqlite"\npath = "{self._folder}/metadata.sqlite"\n',
            "pathinfo": f'type = "sqlite"\npath = "{self._folder}/metadata.sqlite"\n',
        }
        path = self._folder / "near.toml"
        path.write_text(
            "".join(
                f'[{kind}services.root]\ntype = "cache"\nnear = "disk"\nfar = "wire"\n[{kind}services.disk]\n{near}'
                f'[{kind}services.wire]\ntype = "grpc"\nurl = "grpc+http://{address}"\n'
                for kind, near in disk.items()
            )
        )
        return path

    @contextmanager
    def mounted(self, wire: Wire) -> Iterator[Path]:
        """Where the tree is."""
        with Mounted.mount(self._config(wire.address), self._folder / "mnt") as mounted:
            yield mounted.path / self._name
            assert mounted.unmount().returncode == 0
            assert mounted.status() == 0

    def look(self, look: Look) -> int:
        """How many bytes go over the wire, both ways, for what a look needs, and for what follows by itself."""
        with Wire(self.far) as wire, self.mounted(wire) as tree:
            _ask_in_vain(tree)
            before = wire.n_bytes
            _ask_in_vain(tree)
            n_asking = wire.n_bytes - before
            look(tree)
            _ask_in_vain(tree)
            return wire.n_bytes - before - 2 * n_asking

    def look_at_what_is_near(self, look: Look) -> None:
        """Nothing goes over the wire meanwhile, and nothing need be at its other end."""
        for is_cut in (False, True):
            with Wire(self.far) as wire:
                if is_cut:
                    wire.cut()
                with self.mounted(wire) as tree:
                    look(tree)
                assert wire.n_bytes == 0


def _ask_in_vain(tree: Path) -> None:
    """Ask far for paths that are not there, so often that what was begun before is through."""
    for number in islice(_numbers, QUESTIONS):
        assert refusal((tree.parent / f"{'0' * 32}-absent-{number:06}").stat) == "ENOENT"


@pytest.fixture
def near(daemon: Daemon, large_tree: tuple[Path, str], tmp_path: Path) -> Near:
    """Nothing is there yet."""
    return Near(tmp_path, large_tree[1], daemon.url.rpartition("/")[2])


def read(path: str, expected: bytes) -> Look:
    """Reads a file, which has to be this."""

    def look(tree: Path) -> None:
        assert (tree / path).read_bytes() == expected

    return look


def read_part(offset: int, n_bytes: int) -> Look:
    """Reads a part of the file of more than 4 GiB."""

    def look(tree: Path) -> None:
        with (tree / "large").open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), n_bytes, offset) == LARGE.at(offset, n_bytes)

    return look


def directory(n_entries: int, name: str) -> int:
    """About how many bytes a directory has whose entries have names like this: each has a digest, and a few more."""
    return n_entries * (len(name) + 48)


TARGET = read("deep/a/b/c/target", content("target", 200 * KIB))
WAY = directory(5, "crowd") + directory(3, "d") + directory(SIBLINGS + 1, "unwanted-10")
"""The directories on the way to it: the top, three with one entry each, and the one it is in."""

VIDEO = read("media/video", content("video", VIDEO_BYTES))
FIRST_FILES = 16
"""So many are fetched ahead for somebody who has read one."""

INSIDE = sorted(LARGE.islands)[2] + MIB
"""An offset in the large file, with 3 MiB of random bytes behind it."""


def with_overhead(n_bytes: int) -> int:
    """With what the protocol adds: 1 percent, for frames and the list of chunks, and 4 KiB, for headers of calls."""
    return n_bytes + n_bytes // 100 + 4 * KIB


def test_a_mount_fetches_nothing_before_somebody_looks(near: Near) -> None:
    near.look_at_what_is_near(lambda tree: tree.parent.stat())


def test_a_look_at_the_top_fetches_no_directory(near: Near) -> None:
    assert near.look(lambda tree: tree.stat()) <= 2 * KIB


def test_opening_one_file_fetches_the_way_to_it_and_its_contents(near: Near) -> None:
    assert 200 * KIB < near.look(TARGET) <= with_overhead(200 * KIB + WAY)


def test_a_large_file_costs_what_it_has(near: Near) -> None:
    assert VIDEO_BYTES < near.look(VIDEO) <= with_overhead(VIDEO_BYTES + directory(5, "crowd"))


def test_a_part_of_a_file_of_4_gib_costs_little_more_than_that(near: Near) -> None:
    """The list of its chunks has 330 KB; what is read ahead, and the chunks at both ends, are less than 3 MiB."""
    assert MIB < near.look(read_part(INSIDE, MIB)) <= 5 * MIB


def test_a_few_bytes_of_it_cost_some_chunks(near: Near) -> None:
    assert near.look(read_part(INSIDE + 777, 5)) <= 2 * MIB


def test_a_listing_fetches_no_files(near: Near) -> None:
    n_bytes = near.look(lambda tree: output("ls", "-l", tree / "deep/a/b/c"))
    assert n_bytes <= with_overhead(WAY)


def test_a_walk_fetches_the_directories_alone(near: Near) -> None:
    found: list[bytes] = []
    n_bytes = near.look(lambda tree: found.append(output("find", tree, "-printf", r"%s %l\n")))
    n_others = len(("target", "video", "large")) + len(("top", "crowd", "media", "lib", "deep", "a", "b", "c"))
    assert found[0].count(b"\n") == CROWD + N_SMALL + N_LIBRARIES + SIBLINGS + n_others
    links = directory(CROWD, "number-1234") + CROWD * len("to-1234")
    assert n_bytes <= with_overhead(links + WAY + directory(N_SMALL + N_LIBRARIES + 2, "123"))


def test_a_walk_in_one_place_fetches_nothing_of_others(near: Near) -> None:
    n_bytes = near.look(lambda tree: output("find", tree / "lib"))
    assert n_bytes <= with_overhead(directory(5, "crowd") + directory(N_SMALL + N_LIBRARIES, "123"))


def test_after_a_listing_one_file_brings_a_few_small_ones_with_it(near: Near) -> None:
    def look(tree: Path) -> None:
        assert len(os.listdir(tree / "lib/2")) == N_SMALL // N_LIBRARIES
        assert (tree / "lib/2/2").read_bytes() == content("2", 8 * KIB)

    ways = directory(5, "crowd") + directory(N_LIBRARIES, "2") + directory(N_SMALL // N_LIBRARIES, "123")
    assert near.look(look) <= with_overhead(ways + (1 + FIRST_FILES) * 8 * KIB)


SMALL: dict[str, Look] = {
    "path info": lambda tree: tree.stat(),
    "file": TARGET,
    "listing": lambda tree: os.listdir(tree / "crowd"),
    "symlink": lambda tree: os.readlink(tree / "crowd/number-77"),
    "all small files": lambda tree: output("find", tree / "lib", "-type", "f", "-exec", "sha256sum", "{}", "+"),
    "attributes": lambda tree: os.getxattr(tree, "user.tvix.store.nar_sha256"),
    "walk": lambda tree: output("find", tree),
}


@pytest.mark.parametrize("look", SMALL.values(), ids=SMALL)
def test_what_was_looked_at_is_near(near: Near, look: Look) -> None:
    near.look(look)
    near.look_at_what_is_near(look)


def test_of_a_large_file_the_list_of_chunks_alone_is_fetched_again(near: Near) -> None:
    near.look(VIDEO)
    assert near.look(VIDEO) <= with_overhead(VIDEO_BYTES // (256 * KIB) * 48)


@pytest.mark.xfail(raises=AssertionError, reason="`cache` keeps the chunks near, but not the list of them")
@pytest.mark.parametrize("look", [VIDEO, read_part(INSIDE, MIB)], ids=["whole", "part"])
def test_what_was_read_of_large_files_is_near(near: Near, look: Look) -> None:
    near.look(look)
    near.look_at_what_is_near(look)


def test_what_was_not_looked_at_fails_without_the_wire_and_is_not_absent(near: Near) -> None:
    near.look(TARGET)
    with Wire(near.far) as wire:
        wire.cut()
        with near.mounted(wire) as tree:
            assert refusal((tree.parent / f"{'0' * 32}-other").stat) == "EIO"
            assert refusal(lambda: os.listdir(tree / "lib")) == "EIO"
            assert refusal((tree / "deep/a/b/c/unwanted-1").read_bytes) == "EIO"
