"""Where a frontend listens: the forms of the address, and taking it in a way that fails with one plain line.

The functions raise OSError with a text that is fit for a user; frontends name the address.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from tvix_store.errors import ConfigError

__all__ = ["ListenAddress", "UnixSocketOptions", "bind", "bind_tcp", "parse_listen", "socket_file"]

_ATTEMPTS = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on.

    Args:
        text: As it was written.
        kind: How to read the rest.
        hosts: IP addresses without brackets; ``tcp`` only.
        port: 0 lets the system choose; ``tcp`` only.
        path: Of the socket, or the abstract name.
    """

    text: str
    kind: Literal["tcp", "unix", "abstract"]
    hosts: tuple[str, ...] = ()
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.kind != "tcp" or all(ipaddress.ip_address(host).is_loopback for host in self.hosts)

    @property
    def url_host(self) -> str:
        """The host as it is written in a URL; ``tcp`` only."""
        host = "localhost" if len(self.hosts) > 1 else self.hosts[0]
        return f"[{host}]" if ":" in host else host


def parse_listen(text: str) -> ListenAddress:
    """Read ``127.0.0.1:8000``, ``[::1]:8000``, ``localhost:8000``, ``/path``, ``./path`` or ``@name``.

    Raises:
        ConfigError: It is none of these.
    """
    if text.startswith(("/", "./")):
        return ListenAddress(text, "unix", path=text)
    if text.startswith("@"):
        if len(text) == 1:
            raise ConfigError(f"listen address {text!r}: the name of the abstract socket is empty")
        return ListenAddress(text, "abstract", path=text[1:])
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise ConfigError(f"listen address {text!r}: expected HOST:PORT, [IPV6]:PORT, /path, ./path or @name")
    if host == "localhost":
        return ListenAddress(text, "tcp", ("::1", "127.0.0.1"), int(port))
    try:
        if host.startswith("[") and host.endswith("]"):
            ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv6Address(host[1:-1])
        else:
            ip = ipaddress.IPv4Address(host)
    except ValueError as exc:
        raise ConfigError(
            f"listen address {text!r}: {host!r} is not an IP address; write IPv6 in brackets, names are not looked up "
            "(but for localhost)"
        ) from exc
    return ListenAddress(text, "tcp", (str(ip),), int(port))


@dataclass(frozen=True, slots=True)
class UnixSocketOptions:
    """What becomes of a socket file.

    Args:
        unlink: Remove one that nobody listens on.
        mode: Permissions; ``None`` leaves them to the umask.
        uid: Its owner; ``None`` for ours.
        gid: Its group; ``None`` for ours.
    """

    unlink: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def bind(family: int, address: tuple[str, int] | str, *, reuse_port: bool = False) -> socket.socket:
    """A stream socket with that address.

    Raises:
        OSError: The address cannot be had.
    """
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except BaseException as exc:
        bound.close()
        if str(exc).startswith("AF_UNIX path too long"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from exc
        raise
    return bound


def bind_tcp(address: ListenAddress, *, reuse_port: bool = False) -> list[socket.socket]:
    """Sockets for those hosts of the address that this machine has, at least one, all with one port.

    Args:
        address: A ``tcp`` one.
        reuse_port: Whether others may listen on the same port, and we where they do.

    Raises:
        OSError: The address cannot be had.
    """
    for _ in range(_ATTEMPTS):
        port = address.port
        failure = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        with ExitStack() as stack:
            sockets: list[socket.socket] = []
            for host in address.hosts:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                try:
                    bound = stack.enter_context(bind(family, (host, port), reuse_port=reuse_port))
                except OSError as exc:
                    failure = exc
                    if exc.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        continue
                    if exc.errno == errno.EADDRINUSE and sockets and not address.port:
                        sockets = []
                        break  # the port was free on one host only
                    raise
                sockets.append(bound)
                port = bound.getsockname()[1]
            if sockets:
                stack.pop_all()
                return sockets
        if failure.errno != errno.EADDRINUSE:
            break
    raise failure


@contextmanager
def socket_file(path: Path, options: UnixSocketOptions, make: Callable[[], T]) -> Iterator[T]:
    """See that nothing is at ``path``, have ``make`` listen there, and remove the file in the end if it is still that.

    Raises:
        OSError: There is something that must not be removed, or ``make`` raised this.
    """
    _make_room(path, options)
    umask = os.umask(0o777 & ~options.mode) if options.mode is not None else None
    try:
        made = make()
    finally:
        if umask is not None:
            os.umask(umask)
    status = path.stat()
    try:
        if options.uid is not None or options.gid is not None:
            os.chown(path, -1 if options.uid is None else options.uid, -1 if options.gid is None else options.gid)
        if options.mode is not None:
            path.chmod(options.mode)
        yield made
    finally:
        try:
            now = path.lstat()
            if (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino):
                path.unlink()
        except FileNotFoundError:
            pass


def _make_room(path: Path, options: UnixSocketOptions) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            pass  # nobody listens any more
        else:
            raise OSError(errno.EADDRINUSE, "somebody listens on that socket")
    if not options.unlink:
        raise OSError(errno.EADDRINUSE, "a stale socket is there; unix_listen_unlink would remove it")
    path.unlink()
