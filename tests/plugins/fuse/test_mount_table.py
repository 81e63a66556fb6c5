"""The mount table, and who uses a path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.fuse_mount import DEADLINE_S
from tvix_store_fuse.mount_table import MountLine, mounted_around, mounted_at, users

LINE = "44 27 0:40 / /m ro,nosuid,nodev,noatime shared:1 master:2 - fuse tvix-store ro,user_id=7,group_id=8"


# The mount table.


def test_a_line_of_the_mount_table() -> None:
    options = ["ro", "user_id=7", "group_id=8"]
    assert MountLine.parse(LINE) == MountLine(44, "0:40", "/m", "tvix-store", options)


def test_a_line_without_optional_fields() -> None:
    assert MountLine.parse(LINE.replace(" shared:1 master:2", "")) == MountLine.parse(LINE)


@given(st.text(st.sampled_from("/a \t\n\\0123456789#-")))
def test_what_is_escaped_in_a_path(path: str) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in path)  # as seq_path of Linux does
    assert MountLine.parse(LINE.replace("/m ", f"/{escaped} ")).path == f"/{path}"


def test_the_root_is_mounted() -> None:
    root = mounted_at("/")
    assert root is not None
    assert root.device == f"{os.major(os.stat('/').st_dev)}:{os.minor(os.stat('/').st_dev)}"


def test_what_is_around_a_path() -> None:
    around = mounted_around("/proc/self/status")
    assert around is not None
    assert around.path == "/proc"
    assert mounted_around("/process") == mounted_at("/")


def test_nothing_is_mounted_at_an_ordinary_directory(tmp_path: Path) -> None:
    assert mounted_at(str(tmp_path)) is None


# Who uses a path; it need not be a mount for that.


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name).resolve()


def started(program: str, **popen: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-c", f"{program}\nprint(flush=True)\ninput()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen)  # type: ignore[call-overload]
    assert process.stdout.readline() == b"\n"
    return process  # type: ignore[no-any-return]


def ended(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.communicate(b"\n", timeout=DEADLINE_S)


MAP = "import mmap; file = open({!r}); kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); file.close()"


@pytest.mark.parametrize("program", ["file = open({!r})", MAP])
def test_who_has_a_file_open_or_mapped(folder: Path, program: str) -> None:
    (folder / "file").write_text("something")
    process = started(program.format(f"{folder}/file"))
    name = Path(f"/proc/{process.pid}/comm").read_text().strip()
    assert users(str(folder)) == f"{name} ({process.pid})"
    ended(process)
    assert users(str(folder)) == ""


def test_who_is_in_it(folder: Path) -> None:
    process = started("", cwd=folder)
    assert f"({process.pid})" in users(str(folder))
    ended(process)


def test_the_process_itself_is_no_user(folder: Path) -> None:
    with (folder / "file").open("w"):
        assert users(str(folder)) == ""


def test_a_neighbour_is_no_user(folder: Path) -> None:
    (folder / "one").mkdir()
    (folder / "one-more").mkdir()
    process = started("", cwd=folder / "one-more")
    assert users(f"{folder}/one") == ""
    ended(process)


@pytest.mark.parametrize(("n_users", "more"), [(5, ""), (6, " and 1 more"), (8, " and 3 more")])
def test_five_are_named(folder: Path, n_users: int, more: str) -> None:
    processes = [subprocess.Popen(["sleep", "3600"], cwd=folder) for _ in range(n_users)]
    told = users(str(folder))
    assert told.count("sleep (") == 5
    assert told.count(", ") == 4
    assert told.endswith(f"){more}")
    for process in processes:
        process.kill()
        process.wait(DEADLINE_S)
