"""How a mount ends, with real processes: unmounted from outside, by signals, in use or not, and when it is killed."""

from __future__ import annotations

import errno
import os
import random
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.fuse_mount import DEADLINE_S, Mounted, add, fuse_frontend, is_mounted, local_store, require_fuse
from e2e.fuse_readers import Reader
from e2e.http_chain import _command
from tvix_store.limits import MIB

LARGE = random.Random(6).randbytes(3 * MIB)
FOR_EVER = 3600.0


@pytest.fixture(autouse=True)
def _needs_fuse() -> None:
    require_fuse()
    if os.geteuid() != 0:
        pytest.skip("only root can unmount what is not its own, and mount over it")


@dataclass(frozen=True)
class Stored:
    """A store with a large file.

    Args:
        config: Of the store.
        name: Of the store path.
    """

    config: Path
    name: str

    @property
    def is_closed(self) -> bool:
        """Whether whoever had it open has closed it properly: SQLite then has its log no more."""
        return not self.config.with_name("metadata.sqlite-wal").exists()

    def over(self, mount_point: Path, more: str = "", **settings: object) -> Path:
        """The configuration of a mount of it."""
        config = self.config.with_name("run.toml")
        config.write_text(self.config.read_text() + fuse_frontend(mount_point, "mount", **settings) + more)
        return config


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("stored")
    tree = folder / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(LARGE)
    config = local_store(folder / "store")
    return Stored(config, *add(config, tree))


@pytest.fixture
def mounted(stored: Stored, tmp_path: Path) -> Iterator[Mounted]:
    with Mounted.mount(stored.config, tmp_path / "mnt", "--list-root") as mounted:
        yield mounted


@pytest.fixture
def file(mounted: Mounted, stored: Stored) -> Path:
    return mounted.path / stored.name / "large"


def ends_well(mounted: Mounted, stored: Stored) -> None:
    assert mounted.status() == 0
    assert not mounted.is_mounted
    assert stored.is_closed
    assert mounted.log[-1].endswith("stopped")
    assert not [line for line in mounted.log if "ERROR" in line or "Traceback" in line]


def warnings(mounted: Mounted) -> list[str]:
    return [line for line in mounted.log if "WARNING" in line]


def fails(config: Path, mount_point: Path) -> str:
    """What a mount prints that cannot be."""
    command = [_command(), "mount", "--config", str(config), str(mount_point)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    return line.removeprefix("error: ")


# Nobody uses it.


@pytest.mark.parametrize("command", ["umount", "umount -l", "umount -f", "fusermount3 -u", "fusermount3 -uz"])
def test_unmounting_it_from_outside_ends_the_program(mounted: Mounted, stored: Stored, command: str) -> None:
    assert os.listdir(mounted.path) == [stored.name]
    subprocess.run([*command.split(), mounted.path], check=True, timeout=DEADLINE_S)
    ends_well(mounted, stored)
    assert not warnings(mounted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts_it(mounted: Mounted, stored: Stored, number: int) -> None:
    mounted.send(number)
    ends_well(mounted, stored)
    assert not warnings(mounted)


def test_ctrl_c_in_a_terminal_unmounts_it(mounted: Mounted, stored: Stored, file: Path) -> None:
    assert file.read_bytes() == LARGE
    mounted.interrupt()
    ends_well(mounted, stored)
    assert not warnings(mounted)


# Somebody uses it.


def test_what_is_open_is_served_after_a_lazy_unmount(mounted: Mounted, stored: Stored, file: Path) -> None:
    with Reader(file, "hold") as reader:
        assert mounted.unmount("-l").returncode == 0
        assert not mounted.is_mounted
        assert mounted.process.poll() is None
        assert reader.read_on() == (0, LARGE)
    ends_well(mounted, stored)


def test_a_signal_after_a_lazy_unmount_waits_too(mounted: Mounted, stored: Stored, file: Path) -> None:
    with Reader(file, "hold") as reader:
        assert mounted.unmount("-l").returncode == 0
        mounted.interrupt()
        mounted.logged("in use by somebody")
        assert reader.read_on() == (0, LARGE)
    ends_well(mounted, stored)


def test_what_is_in_use_is_not_unmounted(mounted: Mounted, stored: Stored, file: Path) -> None:
    with Reader(file, "hold") as reader:
        assert "busy" in mounted.unmount().stderr
        assert reader.read_on() == (0, LARGE)
    assert mounted.unmount().returncode == 0
    ends_well(mounted, stored)


def test_ctrl_c_names_who_has_a_file_open_and_waits(mounted: Mounted, stored: Stored, file: Path) -> None:
    with Reader(file, "hold") as reader:
        mounted.interrupt()
        line = mounted.logged("in use by")
        assert f"({reader.process.pid}); waiting for at most 60 s, a second signal detaches it at once" in line
        assert reader.read_on() == (0, LARGE)
    ends_well(mounted, stored)
    assert len(warnings(mounted)) == 1


def test_whose_working_directory_is_in_it_is_waited_for(mounted: Mounted, stored: Stored) -> None:
    with subprocess.Popen(["sleep", "3600"], cwd=mounted.path / stored.name) as sleeping:
        mounted.send(signal.SIGTERM)
        assert f"in use by sleep ({sleeping.pid})" in mounted.logged("in use by")
        assert os.listdir(mounted.path) == [stored.name]
        sleeping.kill()
    ends_well(mounted, stored)


def test_what_is_mapped_is_in_use(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    config = local_store(tmp_path / "store")
    [name] = add(config, program)
    with Mounted.mount(config, tmp_path / "mnt") as mounted:
        with subprocess.Popen([mounted.path / name, "3600"]) as running:
            mounted.interrupt()
            assert f"({running.pid})" in mounted.logged("in use by")
            running.kill()
        assert mounted.status() == 0


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_detaches_it(mounted: Mounted, file: Path, second: signal.Signals) -> None:
    with Reader(file, "hold") as reader:
        mounted.interrupt()
        mounted.logged("in use by")
        mounted.send(second)
        assert mounted.status() == 128 + second
        assert not mounted.is_mounted
        assert mounted.log[-1].endswith("was in use, and is detached: what is open there can be read no more")
        assert reader.status() == errno.ENOTCONN


def test_impatience_leaves_nothing_behind(mounted: Mounted, file: Path) -> None:
    with Reader(file, "hold"):
        while mounted.process.poll() is None:
            mounted.interrupt()
            with suppress(subprocess.TimeoutExpired):  # not too many, or Python's own handler of signals hangs
                mounted.process.wait(0.02)
        assert mounted.status() == 130
        assert not mounted.is_mounted


@pytest.mark.parametrize("busy_s", [0.0, 0.1])
def test_what_is_in_use_for_too_long_is_detached(stored: Stored, tmp_path: Path, busy_s: float) -> None:
    config = stored.over(tmp_path / "mnt", busy_s=busy_s)
    file = tmp_path / "mnt" / stored.name / "large"
    with Mounted.run(config, tmp_path / "mnt") as mounted, Reader(file, "hold") as reader:
        mounted.interrupt()
        ends_well(mounted, stored)
        assert "still in use, and is detached: what is open there can be read no more" in warnings(mounted)[-1]
        assert reader.status() == errno.ENOTCONN


def test_an_aborted_connection_ends_it(mounted: Mounted, stored: Stored, file: Path) -> None:
    with Reader(file, "hold") as reader:
        mounted.unmount("-f")
        ends_well(mounted, stored)
        assert "the connection was aborted, as by umount -f" in warnings(mounted)[0]
        assert reader.status() == errno.ENOTCONN


def test_what_is_mounted_over_it_is_left_alone(stored: Stored, tmp_path: Path) -> None:
    with Mounted.run(stored.over(tmp_path / "mnt", busy_s=0.1), tmp_path / "mnt") as mounted:
        subprocess.run(["mount", "-t", "tmpfs", "over", mounted.path], check=True, timeout=DEADLINE_S)
        mounted.interrupt()
        assert mounted.status() == 0
        assert f"could not be detached; clear it with: umount {mounted.path}" in mounted.log[-2]
        assert "over" in Path("/proc/self/mounts").read_text().splitlines()[-1].split()


def test_what_it_was_mounted_over_is_left_alone(stored: Stored, tmp_path: Path) -> None:
    below = tmp_path / "mnt"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", below], check=True, timeout=DEADLINE_S)
    with Mounted.run(stored.over(below, busy_s=0.1), below) as mounted:
        with Reader(mounted.path / stored.name / "large", "hold"):
            assert mounted.unmount("-l").returncode == 0
            mounted.interrupt()
            assert mounted.status() == 0
        assert mounted.is_mounted  # the other one


# It is killed, or mounted twice.


def test_a_stale_mount_is_reported_with_what_clears_it(mounted: Mounted, stored: Stored, file: Path) -> None:
    file.stat()  # the kernel remembers that, and would go on saying it
    mounted.send(signal.SIGKILL)
    assert mounted.status() == -signal.SIGKILL
    assert not stored.is_closed
    told = fails(stored.config, mounted.path)
    assert told.startswith(f"cannot mount {mounted.path}: a mount whose process was killed is still there; clear it")
    subprocess.run(shlex.split(told.rpartition(": ")[2]), check=True, timeout=DEADLINE_S)
    with Mounted.mount(stored.config, mounted.path) as again:
        assert file.read_bytes() == LARGE
        assert again.unmount().returncode == 0
        ends_well(again, stored)


def test_the_command_names_the_mount_that_is_dead(mounted: Mounted, stored: Stored, file: Path) -> None:
    mounted.send(signal.SIGKILL)
    mounted.status()
    assert fails(stored.config, file.parent).endswith(f"clear it with: umount {mounted.path}")


def test_what_has_to_be_quoted_is(stored: Stored, tmp_path: Path) -> None:
    with Mounted.mount(stored.config, tmp_path / "it's") as mounted:
        assert os.listdir(mounted.path / stored.name) == ["large"]
        mounted.send(signal.SIGKILL)
        mounted.status()
        told = fails(stored.config, mounted.path)
        subprocess.run(shlex.split(told.rpartition("with: ")[2]), check=True, timeout=DEADLINE_S)


def test_a_mount_is_not_mounted_over(mounted: Mounted, stored: Stored) -> None:
    assert fails(stored.config, mounted.path) == f"cannot mount {mounted.path}: a store is mounted there already"
    assert os.listdir(mounted.path) == [stored.name]


def test_one_process_has_one_mount(stored: Stored, tmp_path: Path) -> None:
    config = stored.over(tmp_path / "mnt", fuse_frontend(tmp_path / "second", "second"))
    result = subprocess.run(
        [_command(), "run", config], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert result.returncode == 2
    assert "one process can hold one mount" in result.stderr


# It does not even begin.


def missing(path: Path) -> str:
    return "no such file or directory"


def a_file(path: Path) -> str:
    path.touch()
    return "not a directory"


def below_a_file(path: Path) -> str:
    path.parent.rmdir()
    path.parent.touch()
    return "not a directory"


def a_loop(path: Path) -> str:
    path.symlink_to(path)
    return "too many levels of symbolic links"


@pytest.mark.parametrize("make", [missing, a_file, below_a_file, a_loop])
def test_where_nothing_can_be_mounted(stored: Stored, tmp_path: Path, make: Callable[[Path], str]) -> None:
    mount_point = tmp_path / "around" / "mnt"
    mount_point.parent.mkdir()
    reason = make(mount_point)
    assert fails(stored.config, mount_point) == f"cannot mount {mount_point}: {reason}"
    assert stored.is_closed


def test_a_failed_mount_ends_the_other_frontends(stored: Stored, tmp_path: Path) -> None:
    sock = tmp_path / "sock"
    config = stored.over(tmp_path / "nowhere", f'[frontends.other]\ntype = "grpc"\nlisten = "{sock}"\n')
    result = subprocess.run(
        [_command(), "run", config], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"error: cannot mount {tmp_path}/nowhere: no such file or directory"
    assert "ready, serving" not in result.stderr
    assert not sock.exists()
    assert stored.is_closed


def test_a_mount_point_that_does_not_answer_can_be_given_up(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Mounted.mount(stored.config, tmp_path / "other") as other:
        other.send(signal.SIGSTOP)
        more = f'[frontends.first]\ntype = "grpc"\nlisten = "{tmp_path}/sock"\n'
        config = stored.over(other.path / stored.name, more)
        with subprocess.Popen([_command(), "run", config], stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                assert "first listens on" in process.stderr.readline()
                process.terminate()
                _, log = process.communicate(timeout=DEADLINE_S)
            finally:
                process.kill()
        assert process.returncode == 0
        assert log.splitlines()[-1].endswith("stopped")
        other.send(signal.SIGCONT)


# It is one of several frontends.


@pytest.fixture
def several(stored: Stored, tmp_path: Path) -> Iterator[Mounted]:
    more = f'[frontends.other]\ntype = "grpc"\nlisten = "{tmp_path}/sock"\n'
    more += '[frontends.cache]\ntype = "http"\nlisten = "127.0.0.1:0"\n'
    with Mounted.run(stored.over(tmp_path / "mnt", more), tmp_path / "mnt") as mounted:
        yield mounted


def test_a_signal_ends_all(several: Mounted, stored: Stored, tmp_path: Path) -> None:
    several.send(signal.SIGTERM)
    ends_well(several, stored)
    assert not (tmp_path / "sock").exists()


def test_unmounting_ends_all(several: Mounted, stored: Stored, tmp_path: Path) -> None:
    assert several.unmount().returncode == 0
    ends_well(several, stored)
    assert [line for line in several.log if "mount has ended: finishing what is under way" in line]
    assert not (tmp_path / "sock").exists()


def test_all_go_on_while_it_is_in_use(several: Mounted, stored: Stored) -> None:
    with Reader(several.path / stored.name / "large", "hold") as reader:
        several.send(signal.SIGTERM)
        several.logged("in use by")
        assert reader.read_on() == (0, LARGE)
    ends_well(several, stored)


def test_it_can_be_used_when_the_service_manager_is_told(stored: Stored, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(f"{tmp_path}/notify")
        notify.settimeout(DEADLINE_S)
        told = {**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/notify"}
        (tmp_path / "mnt").mkdir()
        command = [_command(), "run", str(stored.over(tmp_path / "mnt"))]
        with subprocess.Popen(command, env=told, stderr=subprocess.DEVNULL) as process:
            assert notify.recv(100) == b"READY=1"
            assert is_mounted(tmp_path / "mnt")
            assert (tmp_path / "mnt" / stored.name / "large").read_bytes() == LARGE
            process.terminate()
            assert notify.recv(100) == b"STOPPING=1"
        assert process.returncode == 0
