"""Mounting and unmounting, without anybody who serves: nothing here looks below a mount point."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from e2e.fuse_mount import DEADLINE_S, clear, is_mounted, require_fuse
from tvix_store.errors import Unavailable

pytest.importorskip("pyfuse3")

from tvix_store_fuse.mounting import Mount, _caught_stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name).resolve()


@pytest.fixture
def place(folder: Path) -> Iterator[Path]:
    require_fuse()
    if os.geteuid() != 0:
        pytest.skip("as a user, this is tested in tests/e2e/test_fuse_user.py")
    (folder / "mnt").mkdir()
    yield folder / "mnt"
    clear(folder / "mnt")


@pytest.fixture
def mount(place: Path) -> Iterator[Mount]:
    mount = Mount.mount(str(place), allow_other=False)
    try:
        yield mount
    finally:
        mount.close()


def unmounted(path: Path) -> int:
    """The errno of an attempt to unmount from outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.umount2(os.fsencode(path), 0) == 0 else ctypes.get_errno()


def test_it_is_mounted_and_unmounted(mount: Mount, place: Path) -> None:
    assert mount.is_mounted
    assert is_mounted(place)
    assert mount.unmount()
    assert not mount.is_mounted
    assert mount.unmount()
    mount.close()
    assert not is_mounted(place)


def test_the_connection_is_not_handed_on(mount: Mount, place: Path) -> None:
    assert not os.get_inheritable(mount.fd)
    mount.close()


def test_closing_it_unmounts(mount: Mount, place: Path) -> None:
    mount.close()
    assert not is_mounted(place)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(mount.fd)


def test_a_process_has_one_at_a_time(mount: Mount, place: Path) -> None:
    with pytest.raises(Unavailable, match=f"this process has mounted {place}, and can have one mount only"):
        Mount.mount(f"{place.parent}", allow_other=False)
    mount.close()
    again = Mount.mount(str(place), allow_other=False)
    assert again.is_mounted
    again.close()


def test_detaching_it_ends_the_connection(mount: Mount, place: Path) -> None:
    in_use = os.open(place, os.O_PATH)
    assert not mount.unmount()
    mount.detach()
    assert not is_mounted(place)
    with pytest.raises(OSError, match="No such device"):
        os.read(mount.fd, 1 << 20)
    mount.detach()
    os.close(in_use)


@pytest.mark.parametrize("allow_other", [False, True])
def test_how_it_is_mounted(place: Path, allow_other: bool) -> None:
    mount = Mount.mount(str(place), allow_other=allow_other)
    [line] = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines() if str(place) in line]
    mount.close()
    assert line[0] == "tvix-store"
    assert {"ro", "nosuid", "nodev", "noatime", "user_id=0", "default_permissions"} <= set(line[3].split(","))
    assert ("allow_other" in line[3]) == allow_other


def test_it_is_found_where_it_was_moved_to(mount: Mount, place: Path) -> None:
    moved = place.parent.with_name(f"{place.parent.name}-moved")
    place.parent.rename(moved)
    try:
        assert mount.is_mounted
        assert mount.unmount()
        assert not is_mounted(moved / "mnt")
    finally:
        moved.rename(place.parent)
        mount.close()


def test_what_was_mounted_there_since_is_left_alone(mount: Mount, place: Path) -> None:
    assert unmounted(place) == 0
    subprocess.run(["mount", "-t", "tmpfs", "other", place], check=True, timeout=DEADLINE_S)
    assert not mount.is_mounted
    assert mount.unmount()
    mount.detach()
    mount.close()
    assert is_mounted(place)


def test_what_was_unmounted_by_others_is_not_there_any_more(mount: Mount, place: Path) -> None:
    assert unmounted(place) == 0
    assert not mount.is_mounted
    assert not mount.is_left
    assert mount.unmount()
    mount.close()


def test_an_aborted_one_is_left(mount: Mount, place: Path) -> None:
    assert not mount.is_left
    keeping = os.open(place, os.O_PATH)
    subprocess.run(["umount", "-f", place], check=False, capture_output=True, timeout=DEADLINE_S)
    os.close(keeping)
    assert is_mounted(place)
    assert not mount.is_mounted
    assert mount.is_left
    mount.clear()
    assert not is_mounted(place)


def test_a_failure_is_what_libfuse_says(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place.rmdir()
    with pytest.raises(
        Unavailable,
        match=f"^cannot mount {place}: fuse: failed to access mountpoint {place}: No such file or directory$",
    ):
        Mount.mount(str(place), allow_other=False)
    assert capfd.readouterr().err == ""


def test_what_others_say_meanwhile_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    with _caught_stderr() as said:
        thread = threading.Thread(target=os.write, args=(2, b"from a thread\n"))
        thread.start()
        thread.join()
        os.write(2, b"fuse: it does not work\n")
        assert said() == "fuse: it does not work"
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "from a thread\nafterwards\n"
