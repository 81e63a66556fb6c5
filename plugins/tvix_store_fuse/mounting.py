"""Mounting, through libfuse as pyfuse3 has it, and unmounting; with one plain line for whatever is missing."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Self

import pyfuse3

from tvix_store.errors import Unavailable
from tvix_store_fuse.mount_table import MountLine, mounted_around, mounted_at, mounted_by

__all__ = ["Mount", "find_mount_point"]

logger = logging.getLogger(__name__)

_DEVICE = Path("/dev/fuse")
_DEVICE_NUMBER = os.makedev(10, 229)  # see devices.txt of Linux
_HELPER = "fusermount3"
_SOURCE = "tvix-store"
_HELPER_TIMEOUT_S = 5.0
_READ_AHEAD_KIB = 1024

# mount.h
_FORCE = 1
_DETACH = 2
_NO_FOLLOW = 8

_CAP_SYS_ADMIN = 21

_libc = ctypes.CDLL(None, use_errno=True)


class Mount:
    """A mounted filesystem that is to be served through ``fd``.

    A process has one at most, since pyfuse3 has.

    Attributes:
        path: Where it is, without symlinks.
        fd: The connection to the kernel.
    """

    _only: ClassVar[str | None] = None

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self._line = mounted_at(path)
        self._is_closed = False

    @classmethod
    def mount(cls, path: str, *, allow_other: bool) -> Self:
        """Mount at ``path``, which `find_mount_point` gave. Nothing may look below it before requests are served.

        Raises:
            Unavailable: It cannot be done; says what is missing, or what would help.
        """
        if cls._only is not None:
            raise Unavailable(
                f"cannot mount {path}: this process has mounted {cls._only}, and can have one mount only; "
                "a further one needs a process of its own"
            )
        _check_means(path)
        options = {f"fsname={_SOURCE}", "ro", "nosuid", "nodev", "noatime", "default_permissions"}
        if allow_other:
            options.add("allow_other")
        before = _connections()
        with _caught_stderr() as said:
            try:
                pyfuse3.init(pyfuse3.Operations(), path, options)
            except RuntimeError as exc:
                raise Unavailable(f"cannot mount {path}: {said() or exc}{_hint(said())}") from exc
        found = _connections() - before
        if len(found) != 1:
            pyfuse3.close()
            raise Unavailable(f"cannot mount {path}: the connection to the kernel cannot be found")
        cls._only = path
        return cls(path, found.pop())

    def raise_read_ahead(self) -> None:
        """Have the kernel read files ahead in pieces of up to 1 MiB, if we may say so; 128 KiB otherwise.

        To be called after the session is initialised.
        """
        if self._line is None:
            return
        try:
            Path(f"/sys/class/bdi/{self._line.device}/read_ahead_kb").write_text(f"{_READ_AHEAD_KIB}")
        except OSError as exc:
            logger.debug("%s: the kernel reads ahead as it does by default: %s", self.path, exc)

    @property
    def is_mounted(self) -> bool:
        """Whether it is to be seen still: not unmounted, aborted, nor hidden by what was mounted over it."""
        # Its numbers alone do not tell: they are given to the next mount once it is unmounted.
        return self._is_connected() and self._place() is not None

    @property
    def is_left(self) -> bool:
        """Whether the connection is gone and the mount is not. May wait for whoever serves what is there now."""
        place = self._place()
        if place is None or self._is_connected():
            return False
        try:
            os.statvfs(place)  # which asks; attributes are remembered
        except OSError as exc:
            return exc.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        return False

    def unmount(self) -> bool:
        """Unmount if nobody uses it; whether it is gone from its place. May wait for requests to be served."""
        return not self.is_mounted or self._unmount(0)

    def detach(self) -> None:
        """Take it from its place at once, in use or not. What is open there can be read no more."""
        if self.is_mounted:
            self._abort()
            self.clear()
        elif self._is_connected() and self._in_table() is not None:
            self._warn_left()

    def clear(self) -> None:
        """Take what is left from its place: to be called when `is_left`."""
        if not self._unmount(_FORCE | _DETACH, "-z"):
            self._warn_left()

    def close(self) -> None:
        """Give up the connection, and detach what is still served through it."""
        if not self._is_closed:
            self.detach()
            self._is_closed = True
            pyfuse3.close(unmount=False)
            type(self)._only = None

    def _in_table(self) -> MountLine | None:
        return None if self._line is None else mounted_by(self._line.number, self._line.device)

    def _place(self) -> str | None:
        """Where it is now, as a directory around it may have been renamed; ``None`` if it is not to be seen."""
        mine = self._in_table()
        if mine is None or mine != mounted_at(mine.path):
            return None
        return mine.path

    def _warn_left(self) -> None:
        logger.warning("%s: could not be detached; clear it with: %s", self.path, _clearing(self._in_table()))

    def _unmount(self, flags: int, *helper_flags: str) -> bool:
        """Whether it worked."""
        place = self._place()
        if place is None:
            return False
        for allowed in dict.fromkeys((flags, flags & ~_FORCE)):  # the root of a user namespace may not force
            if _libc.umount2(os.fsencode(place), allowed | _NO_FOLLOW) == 0:
                return True
            if ctypes.get_errno() != errno.EPERM:
                return False
        # In a session of its own: Ctrl-C goes to all processes of ours.
        command = [_HELPER, "-u", *helper_flags, "--", place]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, start_new_session=True, timeout=_HELPER_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            logger.warning("%s: cannot unmount: %s", self.path, exc)
            return False
        return done.returncode == 0

    def _abort(self) -> None:
        """Fail what waits for us, if we may. A thread that pushes would wait for it, and keep the process alive."""
        if self._line is not None:
            _, _, number = self._line.device.partition(":")
            with suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{number}/abort").write_text("1")

    def _is_connected(self) -> bool:
        if self._is_closed:
            return False
        poll = select.poll()
        poll.register(self.fd, 0)
        return not any(event & select.POLLERR for _, event in poll.poll(0))


def find_mount_point(path: Path) -> str:
    """The mount point without symlinks. May wait for a filesystem that it is in.

    Raises:
        Unavailable: Nothing can be mounted there.
    """
    where = os.path.realpath(path)
    try:
        os.statvfs(where)  # which asks, where there is somebody to ask; attributes are remembered
        mode = os.stat(where).st_mode
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            raise Unavailable(
                f"cannot mount {path}: a mount whose process was killed is still there; "
                f"clear it with: {_clearing(mounted_around(where))}"
            ) from exc
        _refuse_mounted(path, where)  # also by somebody else, which is why we may not look
        raise Unavailable(f"cannot mount {path}: {_reason(exc)}") from exc
    if not stat.S_ISDIR(mode):
        raise Unavailable(f"cannot mount {path}: not a directory")
    _refuse_mounted(path, where)
    return where


def _refuse_mounted(path: Path, where: str) -> None:
    line = mounted_at(where)
    if line is None or line.source != _SOURCE:
        return
    # Nobody else can find out whether it is served.
    hint = "" if _is_ours(line) else f", by another user; if its process was killed, clear it with: {_clearing(line)}"
    raise Unavailable(f"cannot mount {path}: a store is mounted there already{hint}")


def _is_ours(line: MountLine) -> bool:
    return f"user_id={os.geteuid()}" in line.options


def _clearing(line: MountLine | None) -> str:
    """The command that takes a mount away."""
    if line is None:
        return "umount"
    path = shlex.quote(line.path)
    if os.geteuid() == 0:
        return f"umount {path}"
    return f"{_HELPER} -u {path}" if _is_ours(line) else f"sudo umount {path}"


def _check_means(where: str) -> None:
    """Check that what is needed to mount is there; libfuse does not say what helps.

    Raises:
        Unavailable: Something is not; says what, and where it comes from.
    """
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        raise Unavailable(f"cannot mount {where}: {_DEVICE}: {_reason(exc)} ({_device_hint(exc)})") from exc
    if _is_set("CapEff", _CAP_SYS_ADMIN):
        return
    if not _is_set("CapBnd", _CAP_SYS_ADMIN):
        raise Unavailable(
            f"cannot mount {where}: no process here may mount, not even as root: CAP_SYS_ADMIN was dropped "
            "(a container needs --cap-add SYS_ADMIN)"
        )
    helper = shutil.which(_HELPER)
    if helper is None:
        raise Unavailable(
            f"cannot mount {where}: {_HELPER} is missing, which mounts for those who may not "
            "(Debian and Ubuntu: apt-get install fuse3)"
        )
    if not os.stat(helper).st_mode & stat.S_ISUID and not _has_capabilities(helper):
        raise Unavailable(
            f"cannot mount {where}: {helper} is not set-uid root, so that only root can mount "
            f"(as root: chmod u+s {helper})"
        )
    if _is_set("NoNewPrivs", 0):
        raise Unavailable(
            f"cannot mount {where}: this process may not gain privileges, so that {helper} cannot mount for it "
            "(a service needs NoNewPrivileges=no, a container no --security-opt no-new-privileges)"
        )


def _device_hint(exc: OSError) -> str:
    if not isinstance(exc, PermissionError):
        return "load the kernel module: modprobe fuse; a container needs --device /dev/fuse"
    if os.geteuid() == 0:
        return "a container needs --device /dev/fuse"
    return f"as root: chmod a+rw {_DEVICE}"


def _is_set(field: str, bit: int) -> bool:
    """Whether a bit is set in what ``/proc/self/status`` says of us."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return bool(int(value, 16) >> bit & 1)
    return False


def _has_capabilities(program: str) -> bool:
    try:
        return bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False


def _hint(said: str) -> str:
    """What libfuse leaves out."""
    if "user_allow_other" in said:
        return " (as root: add that line to it)"
    if said.endswith(os.strerror(errno.EPERM)):
        return (
            " (a container needs --cap-add SYS_ADMIN and may need --security-opt apparmor=unconfined, "
            "a user namespace a mount namespace of its own)"
        )
    return ""


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()


def _connections() -> set[int]:
    """Our open connections to the kernel."""
    found: set[int] = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them
            if os.fstat(int(name)).st_rdev == _DEVICE_NUMBER:
                found.add(int(name))
    return found


@contextmanager
def _caught_stderr() -> Iterator[Callable[[], str]]:
    """Catch what libfuse says of its failures, which it does on stderr only. Yields what gives its first line so far.

    What other threads write meanwhile is passed on afterwards.
    """
    with tempfile.TemporaryFile() as caught:
        stderr = os.dup(2)

        def lines() -> list[bytes]:
            return os.pread(caught.fileno(), 65536, 0).splitlines(keepends=True)

        try:
            os.dup2(caught.fileno(), 2)
            yield lambda: next((line.decode("utf-8", "replace").strip() for line in lines() if _is_libfuse(line)), "")
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            others = b"".join(line for line in lines() if not _is_libfuse(line))
            if others:
                os.write(2, others)


def _is_libfuse(line: bytes) -> bool:
    return line.startswith((b"fuse: ", b"fusermount", b"mount: "))
