"""The mount root: which store paths are there, and what the flags of ``mount`` make of it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from e2e.fuse_mount import DEADLINE_S, Mounted, add, fuse_frontend, local_store
from e2e.test_fuse_tree import output, refusal

pytestmark = pytest.mark.usefixtures("needs_fuse")

MANY = 1000
"""More than are listed with one call of the kernel."""


def file(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"called {name}")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a store with nothing in it."""
    return local_store(tmp_path / "store")


@pytest.fixture(scope="module")
def unlisted(needs_fuse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A mount whose root is not to be listed, and whose files have no attributes; and the name of a path in it."""
    folder = tmp_path_factory.mktemp("unlisted")
    config = local_store(folder / "store")
    [name] = add(config, file(folder, "thing"))
    with Mounted.mount(config, folder / "mnt", "--no-show-xattr") as mounted:
        yield mounted.path, name


def test_a_root_that_is_not_to_be_listed(unlisted: tuple[Path, str]) -> None:
    root, name = unlisted
    assert refusal(lambda: os.listdir(root)) == "EPERM"
    assert (root / name).read_text() == "called thing"
    assert refusal(lambda: os.listdir(root)) == "EPERM"


def test_its_attributes(unlisted: tuple[Path, str]) -> None:
    found = unlisted[0].stat()
    assert stat.filemode(found.st_mode) == "dr-xr-xr-x"
    assert (found.st_ino, found.st_nlink, found.st_mtime, found.st_uid) == (1, 1, 1, 0)


def test_a_wrong_name_with_a_right_hash_is_absent(unlisted: tuple[Path, str]) -> None:
    root, name = unlisted
    hash_part, _, _ = name.partition("-")
    for wrong in (f"{hash_part}-other", hash_part, f"{hash_part}-", f"{name}x", name.upper()):
        assert refusal((root / wrong).stat) == "ENOENT"
    assert (root / name).is_file()


@pytest.mark.parametrize("name", [b".git", b"autorun.inf", b"\xff\xfe", b"n" * 255, b"e" * 32 + b"-caf\xc3\xa9"])
def test_what_cannot_be_a_store_path_is_absent(unlisted: tuple[Path, str], name: bytes) -> None:
    assert refusal(lambda: os.stat(os.fsencode(unlisted[0]) + b"/" + name)) == "ENOENT"


def test_attributes_can_be_left_out(unlisted: tuple[Path, str]) -> None:
    path = unlisted[0] / unlisted[1]
    for _ in range(2):  # the second time the kernel answers by itself
        assert refusal(lambda: os.getxattr(path, "user.tvix.castore.blob.digest")) == "ENOTSUP"
        assert refusal(lambda: os.listxattr(path)) == "ENOTSUP"


def test_a_path_that_is_added_later_is_found(config: Path, tmp_path: Path) -> None:
    added = add(local_store(tmp_path / "other"), thing := file(tmp_path, "thing"))
    config.write_text(config.read_text() + fuse_frontend(tmp_path / "mnt", negative_s=0.0))
    with Mounted.run(config, tmp_path / "mnt") as mounted:
        path = mounted.path / added[0]
        assert refusal(path.stat) == "ENOENT"
        assert add(config, thing) == added
        assert path.read_text() == "called thing"


def test_absence_is_believed_for_as_long_as_is_configured(config: Path, tmp_path: Path) -> None:
    [name] = add(local_store(tmp_path / "other"), thing := file(tmp_path, "thing"))
    config.write_text(config.read_text() + fuse_frontend(tmp_path / "mnt", negative_s=3600.0))
    with Mounted.run(config, tmp_path / "mnt") as mounted:
        assert refusal((mounted.path / name).stat) == "ENOENT"
        add(config, thing)
        assert refusal((mounted.path / name).stat) == "ENOENT"


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline


def test_a_listing_shows_what_is_added_later(config: Path, tmp_path: Path) -> None:
    first = add(config, file(tmp_path, "first"))
    with Mounted.mount(config, tmp_path / "mnt", "--list-root") as mounted:
        assert os.listdir(mounted.path) == first
        both = {*first, *add(config, file(tmp_path, "second"))}
        until(lambda: set(os.listdir(mounted.path)) == both)


def test_an_empty_store(config: Path, tmp_path: Path) -> None:
    with Mounted.mount(config, tmp_path / "mnt", "-l") as mounted:
        assert output("ls", "-a", mounted.path) == b".\n..\n"


def test_many_store_paths_are_listed_once_each_while_more_come(config: Path, tmp_path: Path) -> None:
    names = {*add(config, *(file(tmp_path / "many", f"path-{number}") for number in range(MANY)))}
    assert len(names) == MANY
    with Mounted.mount(config, tmp_path / "mnt", "-l") as mounted, closing(os.scandir(mounted.path)) as entries:
        found = [next(entries).name for _ in range(3)]
        (late,) = add(config, file(tmp_path, "late"))
        found += [entry.name for entry in entries]
        assert sorted(set(found) - {late}) == sorted(names)
        assert len(found) == len(set(found))


def test_a_directory_a_file_and_a_symlink_can_be_store_paths(config: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("anywhere")
    added = add(config, tmp_path / "folder", file(tmp_path / "files", "file"), tmp_path / "link")
    with Mounted.mount(config, tmp_path / "mnt", "-l") as mounted:
        kinds = {name: stat.filemode((mounted.path / name).lstat().st_mode)[0] for name in added}
        assert list(kinds.values()) == ["d", "-", "l"]
        printed = output("find", mounted.path, "-mindepth", 1, "-printf", r"%P %y\n").decode().splitlines()
        assert sorted(printed) == sorted(f"{name} {kind.replace('-', 'f')}" for name, kind in kinds.items())
