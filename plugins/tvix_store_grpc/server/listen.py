"""Where the daemon listens: the forms of the address, and taking it in a way that fails with one plain line.

gRPC binds sockets itself, but says little when it cannot and replaces a Unix socket that is in use. So the address
is tried here first.
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
from typing import Literal
from urllib.parse import quote

from tvix_store.errors import ConfigError, Unavailable

__all__ = ["ListenAddress", "UnixSocketOptions", "listening", "parse_listen"]

_INHERITED = ("inetd", "stdio", "-")
_INHERITED_PREFIXES = ("sd-listen", "sd_listen")
_ATTEMPTS = 10


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
    if text.lower() in _INHERITED or text.lower().startswith(_INHERITED_PREFIXES):
        raise ConfigError(
            f"listen address {text!r}: an inherited socket cannot be served, grpcio has no way to adopt a file "
            "descriptor; listen on an address or a Unix socket instead"
        )
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
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


@contextmanager
def listening(
    address: ListenAddress, add_port: Callable[[str], int], unix: UnixSocketOptions, *, reuse_port: bool = False
) -> Iterator[str]:
    """Bind ``address``; on exit, a socket file that was made is removed.

    Args:
        address: Where to listen.
        add_port: Binds a gRPC address; answers the port.
        unix: For socket files.
        reuse_port: Whether others may listen on the same port, and we where they do.

    Yields:
        The URL that clients give for it.

    Raises:
        Unavailable: The address cannot be had.
    """
    try:
        match address.kind:
            case "tcp":
                yield _listen_tcp(address, add_port, reuse_port)
            case "abstract":
                _try_bind(socket.AF_UNIX, "\0" + address.path)
                add_port(f"unix-abstract:{quote(address.path)}")
                yield f"grpc+unix:@{address.path}"
            case "unix":
                with _unix_socket(Path(address.path).absolute(), add_port, unix) as path:
                    yield f"grpc+unix:{path}"
    except OSError as exc:
        raise Unavailable(f"cannot listen on {address.text}: {(exc.strerror or str(exc)).lower()}") from exc


def _listen_tcp(address: ListenAddress, add_port: Callable[[str], int], reuse_port: bool) -> str:
    hosts, port = _free_port(address, reuse_port)
    names = [f"[{host}]" if ":" in host else host for host in hosts]
    for name in names:
        try:
            port = add_port(f"{name}:{port}")
        except RuntimeError as exc:  # somebody took it in between
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from exc
    return f"grpc+http://{'localhost' if len(address.hosts) > 1 else names[0]}:{port}"


def _free_port(address: ListenAddress, reuse_port: bool) -> tuple[list[str], int]:
    """Those hosts of the address that this machine has, and a port that all of them can have."""
    for _ in range(_ATTEMPTS):
        hosts: list[str] = []
        port = address.port
        failure = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        with ExitStack() as sockets:
            for host in address.hosts:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                try:
                    bound = sockets.enter_context(_bound(family, (host, port), reuse_port))
                except OSError as exc:
                    failure = exc
                    if exc.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        continue
                    if exc.errno == errno.EADDRINUSE and hosts and not address.port:
                        hosts = []
                        break  # the port was free on one host only
                    raise
                hosts.append(host)
                port = bound.getsockname()[1]
        if hosts:
            return hosts, port
        if failure.errno != errno.EADDRINUSE:
            break
    raise failure


def _bound(family: int, address: tuple[str, int] | str, reuse_port: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def _try_bind(family: int, address: tuple[str, int] | str) -> None:
    try:
        _bound(family, address).close()
    except OSError as exc:
        if str(exc).startswith("AF_UNIX path too long"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from exc
        raise


@contextmanager
def _unix_socket(path: Path, add_port: Callable[[str], int], options: UnixSocketOptions) -> Iterator[Path]:
    _make_room(path, options)
    _try_bind(socket.AF_UNIX, str(path))
    path.unlink()
    umask = os.umask(0o777 & ~options.mode) if options.mode is not None else None
    try:
        add_port(f"unix:{quote(str(path))}")
    except RuntimeError as exc:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from exc
    finally:
        if umask is not None:
            os.umask(umask)
    made = path.stat()
    try:
        if options.uid is not None or options.gid is not None:
            uid = -1 if options.uid is None else options.uid
            os.chown(path, uid, -1 if options.gid is None else options.gid)
        if options.mode is not None:
            path.chmod(options.mode)
        yield path
    finally:
        try:
            now = path.lstat()
            if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                path.unlink()
        except FileNotFoundError:
            pass


def _make_room(path: Path, options: UnixSocketOptions) -> None:
    """See that nothing is at ``path``, or raise OSError."""
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
