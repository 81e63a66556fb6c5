"""Taking the daemon's address.

gRPC binds sockets itself, but says little when it cannot and replaces a Unix socket that is in use. So the address
is tried here first.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tvix_store import listen
from tvix_store.errors import ConfigError, Unavailable
from tvix_store.listen import ListenAddress, UnixSocketOptions, bind, bind_tcp, socket_file

__all__ = ["ListenAddress", "UnixSocketOptions", "listening", "parse_listen"]

_INHERITED = ("inetd", "stdio", "-")
_INHERITED_PREFIXES = ("sd-listen", "sd_listen")


def parse_listen(text: str) -> ListenAddress:
    """Read an address, as ``tvix_store.listen.parse_listen``.

    Raises:
        ConfigError: It is none, or stands for a socket that the process inherits.
    """
    if text.lower() in _INHERITED or text.lower().startswith(_INHERITED_PREFIXES):
        raise ConfigError(
            f"listen address {text!r}: an inherited socket cannot be served, grpcio has no way to adopt a file "
            "descriptor; listen on an address or a Unix socket instead"
        )
    return listen.parse_listen(text)


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
                bind(socket.AF_UNIX, "\0" + address.path).close()
                add_port(f"unix-abstract:{quote(address.path)}")
                yield f"grpc+unix:@{address.path}"
            case "unix":
                path = Path(address.path).absolute()
                with socket_file(path, unix, lambda: _listen_unix(path, add_port)):
                    yield f"grpc+unix:{path}"
    except OSError as exc:
        raise Unavailable(f"cannot listen on {address.text}: {(exc.strerror or str(exc)).lower()}") from exc


def _listen_tcp(address: ListenAddress, add_port: Callable[[str], int], reuse_port: bool) -> str:
    sockets = bind_tcp(address, reuse_port=reuse_port)
    names = [bound.getsockname() for bound in sockets]
    for bound in sockets:
        bound.close()
    for host, port, *_ in names:
        _add(add_port, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return f"grpc+http://{address.url_host}:{names[0][1]}"


def _listen_unix(path: Path, add_port: Callable[[str], int]) -> None:
    bind(socket.AF_UNIX, str(path)).close()
    path.unlink()
    _add(add_port, f"unix:{quote(str(path))}")


def _add(add_port: Callable[[str], int], name: str) -> None:
    try:
        add_port(name)
    except RuntimeError as exc:  # somebody took it in between
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from exc
