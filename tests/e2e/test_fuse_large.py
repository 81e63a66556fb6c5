"""What is large: a directory of 50,000 entries, a file of 4 GiB, a real tree, and many readers at once."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import mypy
import pytest

from e2e.fuse_mount import Mounted, add, local_store
from e2e.fuse_trees import LARGE, everything, files_of
from e2e.test_fuse_tree import names_below, output
from tvix_store.limits import KIB, MIB
from vectors.nar import materialise

pytestmark = pytest.mark.usefixtures("needs_fuse")

N_ENTRIES = 50_000
N_READERS = 64
READS = 300
REAL = Path(mypy.__file__).parent
"""Python, stubs and shared libraries."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a store."""
    return local_store(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def mounted(needs_fuse: None, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted.mount(store, tmp_path_factory.mktemp("mounted") / "mnt") as mounted:
        yield mounted


# A directory with 50,000 entries


@pytest.fixture(scope="module")
def crowded(mounted: Mounted, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links, since they take no file each; a few of them are files."""
    folder = tmp_path_factory.mktemp("source") / "crowded"
    folder.mkdir()
    for number in range(N_ENTRIES):
        if number % 1000:
            (folder / f"entry-{number}").symlink_to(str(number))
        else:
            (folder / f"entry-{number}").write_text(str(number))
    [name] = add(store, folder)
    return mounted.path / name


ENTRIES = sorted(f"entry-{number}" for number in range(N_ENTRIES))


def listed(folder: Path) -> list[str]:
    """The names in it; a few too many, should there be no end of them."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, N_ENTRIES + 10))


def test_all_entries_are_listed_once(crowded: Path) -> None:
    assert listed(crowded) == ENTRIES
    assert output("ls", "-f", crowded).count(b"\n") == N_ENTRIES + len((".", ".."))


def test_a_listing_that_was_broken_off_can_be_begun_again(crowded: Path) -> None:
    with os.scandir(crowded) as entries:
        begun = [next(entries).name for _ in range(N_ENTRIES // 2)]
    with closing(os.scandir(crowded)) as entries:
        assert [next(entries).name for _ in range(N_ENTRIES // 2)] == begun
        assert sorted(begun + [entry.name for entry in islice(entries, N_ENTRIES)]) == ENTRIES


class _Entry(ctypes.Structure):
    """``struct dirent`` of glibc and musl on 64-bit machines."""

    _fields_ = [
        ("inode", ctypes.c_uint64),
        ("following", ctypes.c_int64),
        ("length", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    ]


class Listing:
    """A directory, by the calls of the C library."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.opendir.restype = ctypes.c_void_p
        self._libc.readdir.restype = ctypes.POINTER(_Entry)
        self._libc.telldir.restype = ctypes.c_long
        self._directory = ctypes.c_void_p(self._libc.opendir(os.fsencode(path)))
        assert self._directory

    def read(self, n_names: int) -> list[bytes]:
        """The next ones; fewer at the end."""
        names: list[bytes] = []
        while len(names) < n_names and (entry := self._libc.readdir(self._directory)):
            names.append(entry.contents.name)
        return names

    def tell(self) -> int:
        return int(self._libc.telldir(self._directory))

    def seek(self, position: int) -> None:
        self._libc.seekdir(self._directory, ctypes.c_long(position))

    def close(self) -> None:
        self._libc.closedir(self._directory)


def test_positions_in_a_listing_can_be_returned_to(crowded: Path) -> None:
    with closing(Listing(crowded)) as listing:
        pieces: list[tuple[int, list[bytes]]] = []
        for _ in range(N_ENTRIES // 997 + 2):
            pieces.append((listing.tell(), listing.read(997)))
        assert not pieces[-1][1]
        assert sum(len(names) for _, names in pieces) == N_ENTRIES + len((".", ".."))
        for position, names in random.Random(1).sample(pieces, 20):
            listing.seek(position)
            assert listing.read(997) == names


def test_many_can_list_it_at_once(crowded: Path) -> None:
    with ThreadPoolExecutor(8) as readers:
        assert all(found == ENTRIES for found in readers.map(listed, [crowded] * 8))


def test_its_entries_are_what_they_were(crowded: Path) -> None:
    numbers = random.Random(2).sample(range(N_ENTRIES), 2000)
    for number in numbers:
        path = crowded / f"entry-{number}"
        assert (os.readlink(path) if number % 1000 else path.read_text()) == str(number)
    assert output("find", crowded, "-type", "f").count(b"\n") == N_ENTRIES // 1000


# A file of 4 GiB


@pytest.fixture(scope="module")
def large(large_tree: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """It, open."""
    config, name = large_tree
    with Mounted.mount(config, tmp_path_factory.mktemp("mounted") / "mnt") as mounted:
        file = os.open(mounted.path / name / "large", os.O_RDONLY)
        yield file
        os.close(file)


def test_its_size(large: int) -> None:
    found = os.fstat(large)
    assert (found.st_size, found.st_blocks) == (LARGE.size, -(-LARGE.size // 512))


def test_reads_at_random_offsets(large: int) -> None:
    choose = random.Random(3)
    for _ in range(READS):
        n_bytes = choose.randrange(1, 300 * KIB)
        near = choose.choice(list(LARGE.islands)) + choose.randrange(-KIB * 200, KIB * 200)
        offset = max(0, min(choose.choice([near, choose.randrange(LARGE.size)]), LARGE.size - 1))
        assert os.pread(large, n_bytes, offset) == LARGE.at(offset, n_bytes)


def test_reads_at_its_end(large: int) -> None:
    assert os.pread(large, MIB, LARGE.size - 5) == LARGE.at(LARGE.size - 5, 5)
    assert os.pread(large, MIB, LARGE.size) == b""
    assert os.pread(large, MIB, LARGE.size + 4 * KIB) == b""
    assert os.lseek(large, -1, os.SEEK_END) == LARGE.size - 1


def test_it_can_be_mapped(large: int) -> None:
    choose = random.Random(4)
    with closing(mmap.mmap(large, 0, prot=mmap.PROT_READ)) as mapped:
        assert len(mapped) == LARGE.size
        for start in [*LARGE.islands, *(choose.randrange(LARGE.size) for _ in range(100))]:
            assert mapped[start : start + 100 * KIB] == LARGE.at(start, 100 * KIB)


def test_many_read_it_at_once(large: int) -> None:
    offsets = random.Random(5).sample(range(LARGE.size), N_READERS * 4)
    with ThreadPoolExecutor(N_READERS) as readers:
        found = readers.map(lambda offset: os.pread(large, 64 * KIB, offset), offsets)
        assert list(found) == [LARGE.at(offset, 64 * KIB) for offset in offsets]


# Trees


@pytest.fixture
def fresh(store: Path, tmp_path: Path) -> Iterator[Mounted]:
    """Of which the kernel has nothing yet."""
    with Mounted.mount(store, tmp_path / "mnt", "-l") as mounted:
        yield mounted


def test_many_read_a_tree_at_once(fresh: Mounted, store: Path, tmp_path: Path) -> None:
    tree = everything()
    [name] = add(store, materialise(tree, tmp_path / "everything"))
    files = [(fresh.path / name / os.fsdecode(path), file) for path, file in files_of(tree)]

    def read(seed: int) -> int:
        for path, file in random.Random(seed).sample(files, len(files)):
            assert path.read_bytes() == file.data
            assert os.access(path, os.X_OK) == file.executable
        return len(files)

    with ThreadPoolExecutor(N_READERS) as readers:
        assert sum(readers.map(read, range(N_READERS))) == N_READERS * len(files)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A copy, so that nothing changes it meanwhile."""
    output("cp", "-a", REAL, tmp_path / "source")
    return tmp_path / "source"


def test_a_real_tree(fresh: Mounted, store: Path, real: Path) -> None:
    [name] = add(store, real)
    assert len(names_below(real)) > 1000
    assert names_below(fresh.path / name) == names_below(real)
    assert output("diff", "-r", "--no-dereference", fresh.path / name, real) == b""


def test_many_processes_read_a_real_tree(fresh: Mounted, store: Path, real: Path) -> None:
    [name] = add(store, real)
    script = "find . -type f -print0 | sort -z | xargs -0 -P 8 -n 50 sha256sum | sort"
    assert output("sh", "-c", script, cwd=fresh.path / name) == output("sh", "-c", script, cwd=real)
