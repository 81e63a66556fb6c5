"""Mounting as somebody who is not root, and what is said when something is missing; it takes root to act for others."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from e2e.fuse_mount import DEADLINE_S, Mounted, add, clear, local_store, require_fuse, required
from e2e.http_chain import _command

OWNER, OTHER = 65534, 65533
CONTENT = "hello"
HELPER = "/usr/bin/fusermount3"
HELPER_CONFIG = "/etc/fuse.conf"
NOBODY_MAY_READ_CODE = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
"""So that somebody without rights can run a Python that is below /root. It gives no right that has to do with mounts:
writing needs another one, and who may look into a mount is not asked by its rights. No program that is set-uid keeps
it."""


@pytest.fixture(autouse=True)
def _needs_fuse() -> None:
    require_fuse()
    required("fusermount3", "fuse3")
    required("setpriv", "util-linux")
    if os.geteuid() != 0:
        pytest.skip("only root can act for other users")


def as_user(number: int, *more: str) -> list[str]:
    """What runs a program as somebody else."""
    user = [f"--reuid={number}", f"--regid={number}", "--clear-groups"]
    return ["setpriv", *user, *NOBODY_MAY_READ_CODE, *more]


def where(*mounts: str) -> list[str]:
    """What runs a program where these ``mount`` commands were carried out; nobody else sees what they do."""
    return ["unshare", "--mount", "sh", "-ec", "\n".join([*mounts, 'exec "$@"']), "sh"]


def in_place_of(path: str, what: Path | str) -> str:
    return f"mount --bind {shlex.quote(str(what))} {path}"


@dataclass(frozen=True)
class Home:
    """What belongs to somebody.

    Args:
        config: Of a store.
        name: Of the store path in it, a file.
        mount_point: A directory.
    """

    config: Path
    name: str
    mount_point: Path

    @classmethod
    @contextmanager
    def of(cls, owner: int) -> Iterator[Home]:
        with folder_for_all() as folder:
            (folder / "file").write_text(CONTENT)
            config = local_store(folder / "store")
            [path] = add(config, folder / "file")
            (folder / "mnt").mkdir()
            for found in (folder, *folder.rglob("*")):
                os.chown(found, owner, owner)
            try:
                yield cls(config, path, folder / "mnt")
            finally:
                clear(folder / "mnt")

    @property
    def file(self) -> Path:
        return self.mount_point / self.name

    def mounted(self, prefix: Sequence[str], *flags: str) -> Mounted:
        return Mounted(self.mount_point, ["mount", "--config", self.config, *flags, self.mount_point], prefix=prefix)

    def told(self, prefix: Sequence[str], *flags: str) -> str:
        """The one line that is printed when nothing can be mounted there."""
        command = [*prefix, _command(), "mount", "--store", "memory://", *flags, str(self.mount_point)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert result.returncode == 1, result.stderr
        [line] = result.stderr.splitlines()
        return line.removeprefix(f"error: cannot mount {self.mount_point}: ")


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that everybody may look into, unlike those of pytest."""
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def shared() -> Iterator[Home]:
    with Home.of(OWNER) as home:
        yield home


@pytest.fixture
def home(shared: Home) -> Iterator[Home]:
    shared.mount_point.chmod(0o755)
    yield shared
    clear(shared.mount_point)


@pytest.fixture
def instead() -> Iterator[Path]:
    """A folder for what is to be put in the place of something else."""
    with folder_for_all() as folder:
        yield folder


def output(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=DEADLINE_S).stdout


def errors(*command: object) -> str:
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert result.returncode != 0
    return result.stderr


# With all that is needed.


@pytest.fixture
def mounted(home: Home) -> Iterator[Mounted]:
    with home.mounted(as_user(OWNER)) as mounted:
        yield mounted


def ends_well(mounted: Mounted) -> None:
    assert mounted.status() == 0
    assert not mounted.is_mounted
    assert mounted.log[-1].endswith("stopped")
    assert not [line for line in mounted.log if "WARNING" in line or "ERROR" in line]


def test_a_user_reads_and_unmounts(mounted: Mounted, home: Home) -> None:
    assert output(*as_user(OWNER), "cat", home.file) == CONTENT
    output(*as_user(OWNER), "fusermount3", "-u", mounted.path)
    ends_well(mounted)


def test_ctrl_c_unmounts(mounted: Mounted) -> None:
    mounted.interrupt()
    ends_well(mounted)


def test_sigterm_unmounts(mounted: Mounted) -> None:
    mounted.send(signal.SIGTERM)
    ends_well(mounted)


@pytest.fixture
def holding(mounted: Mounted, home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who has a file open."""
    with subprocess.Popen(
        [*as_user(OWNER), "sh", "-c", f"exec 3<{home.file}; echo open; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == b"open\n"
        yield holding
        holding.kill()


def test_what_is_in_use_is_waited_for(mounted: Mounted, holding: subprocess.Popen[bytes]) -> None:
    mounted.interrupt()
    assert f"in use by cat ({holding.pid})" in mounted.logged("in use by")
    holding.kill()
    assert mounted.status() == 0
    assert not mounted.is_mounted


def test_the_second_signal_detaches_it(mounted: Mounted, holding: subprocess.Popen[bytes]) -> None:
    mounted.interrupt()
    mounted.logged("in use by")
    mounted.interrupt()
    assert mounted.status() == 130
    assert not mounted.is_mounted
    assert mounted.log[-1].endswith("was in use, and is detached: what is open there can be read no more")


def test_a_lazy_unmount(mounted: Mounted, holding: subprocess.Popen[bytes]) -> None:
    output(*as_user(OWNER), "fusermount3", "-uz", mounted.path)
    assert not mounted.is_mounted
    assert mounted.process.poll() is None
    holding.kill()
    ends_well(mounted)


def test_a_stale_mount_is_cleared_by_the_command_that_is_told(mounted: Mounted, home: Home) -> None:
    mounted.send(signal.SIGKILL)
    mounted.status()
    told = home.told(as_user(OWNER))
    command = told.rpartition("clear it with: ")[2]
    assert command == f"fusermount3 -u {home.mount_point}"
    output(*as_user(OWNER), *command.split())
    with home.mounted(as_user(OWNER)):
        assert output(*as_user(OWNER), "cat", home.file) == CONTENT


def test_nobody_else_may_look(mounted: Mounted, home: Home) -> None:
    assert "Permission denied" in errors(*as_user(OTHER), "cat", home.file)
    with pytest.raises(PermissionError):
        home.file.read_text()


def test_nobody_else_may_mount_over_it(mounted: Mounted, home: Home) -> None:
    already = "a store is mounted there already, by another user; if its process was killed, clear it with: "
    assert home.told(as_user(OTHER)) == f"{already}sudo umount {home.mount_point}"
    assert home.told([]) == f"{already}umount {home.mount_point}"


def test_others_may_look_if_they_are_let_to(home: Home, instead: Path) -> None:
    (instead / "fuse.conf").write_text("user_allow_other\n")
    allowing = where(in_place_of(HELPER_CONFIG, instead / "fuse.conf"))
    with home.mounted([*allowing, *as_user(OWNER)], "--allow-other") as mounted:
        there = ["nsenter", f"--target={mounted.process.pid}", "--mount"]
        assert output(*there, *as_user(OTHER), "cat", home.file) == CONTENT
        assert output(*there, "cat", home.file) == CONTENT
        mounted.send(signal.SIGTERM)
        assert mounted.status() == 0


def test_root_lets_others_look_without_asking(home: Home) -> None:
    with home.mounted([], "--allow-other") as mounted:
        assert output(*as_user(OTHER), "cat", home.file) == CONTENT
        assert output(*as_user(OWNER), "stat", "-c", "%u:%g %a", home.file) == "0:0 444\n"
        mounted.send(signal.SIGTERM)
        ends_well(mounted)


def test_root_in_a_user_namespace_mounts() -> None:
    with Home.of(0) as home, home.mounted(["unshare", "--map-root-user", "--mount"]) as mounted:
        there = ["nsenter", f"--target={mounted.process.pid}", "--mount", "--user"]
        assert output(*there, "cat", home.file) == CONTENT
        mounted.send(signal.SIGTERM)
        assert mounted.status() == 0


# Without something.


def test_allow_other_without_its_line(home: Home, instead: Path) -> None:
    (instead / "fuse.conf").write_text("#user_allow_other\n")
    prefix = [*where(in_place_of(HELPER_CONFIG, instead / "fuse.conf")), *as_user(OWNER)]
    assert home.told(prefix, "--allow-other") == (
        "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf "
        "(as root: add that line to it)"
    )


def test_without_fusermount3(home: Home) -> None:
    prefix = [*where(in_place_of(HELPER, "/dev/null")), *as_user(OWNER)]
    assert home.told(prefix).startswith("fusermount3 is missing")
    assert "apt-get install fuse3" in home.told(prefix)


def test_root_does_without_fusermount3(home: Home) -> None:
    with home.mounted(where(in_place_of(HELPER, "/dev/null"))) as mounted:
        mounted.send(signal.SIGTERM)
        ends_well(mounted)


def test_with_a_fusermount3_that_may_do_nothing(home: Home, instead: Path) -> None:
    shutil.copyfile(HELPER, instead / "helper")
    (instead / "helper").chmod(0o755)
    told = home.told([*where(in_place_of(HELPER, instead / "helper")), *as_user(OWNER)])
    assert told == f"{HELPER} is not set-uid root, so that only root can mount (as root: chmod u+s {HELPER})"


def test_without_the_device(home: Home, instead: Path) -> None:
    (instead / "dev").mkdir()
    (instead / "dev" / "null").touch()
    prefix = where(in_place_of(f"{instead}/dev/null", "/dev/null"), f"mount --rbind {instead}/dev /dev")
    for user in ([], as_user(OWNER)):
        told = home.told([*prefix, *user])
        assert told.startswith(
            "/dev/fuse: no such file or directory (load the kernel module: modprobe fuse; a container"
        )


def made_device(folder: Path, minor: int, mode: int) -> str:
    path = folder / "fuse"
    os.mknod(path, 0o020000 | mode, os.makedev(10, minor))
    path.chmod(mode)
    return in_place_of("/dev/fuse", path)


def test_without_permission_for_the_device(home: Home, instead: Path) -> None:
    prefix = [*where(made_device(instead, 229, 0o600)), *as_user(OWNER)]
    assert home.told(prefix) == "/dev/fuse: permission denied (as root: chmod a+rw /dev/fuse)"


def test_without_the_kernel_module(home: Home, instead: Path) -> None:
    prefix = [*where(made_device(instead, 250, 0o666)), *as_user(OWNER)]
    assert home.told(prefix).startswith("/dev/fuse: no such device (load the kernel module: modprobe fuse;")


def test_without_permission_for_the_mount_point(home: Home) -> None:
    told = home.told(as_user(OTHER))
    assert told == f"fusermount3: user has no write access to mountpoint {home.mount_point}"


def test_a_mount_point_that_everybody_may_write_to(home: Home) -> None:
    home.mount_point.chmod(0o1777)
    assert home.told(as_user(OTHER)) == f"fusermount3: mountpoint {home.mount_point} not owned by user"


@pytest.mark.parametrize("user", [[], as_user(OWNER)])
def test_where_nobody_may_mount(home: Home, user: Sequence[str]) -> None:
    told = home.told(["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *user])
    assert told.startswith("no process here may mount, not even as root: CAP_SYS_ADMIN was dropped (a container needs")


def test_where_nobody_may_gain_privileges(home: Home) -> None:
    told = home.told(as_user(OWNER, "--no-new-privs"))
    assert told.startswith(
        f"this process may not gain privileges, so that {HELPER} cannot mount for it (a service needs"
    )


def test_in_a_user_namespace_alone(home: Home) -> None:
    told = home.told(["unshare", "--map-root-user"])
    assert told.startswith("fusermount3: mount failed: Operation not permitted (a container needs")
    assert told.endswith("a user namespace a mount namespace of its own)")
