"""Taking the frontend's address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tvix_store.errors import Unavailable
from tvix_store.listen import ListenAddress, UnixSocketOptions, bind, bind_tcp, parse_listen, socket_file

__all__ = ["ListenAddress", "UnixSocketOptions", "listening", "parse_listen"]

_BACKLOG = 1024


@contextmanager
def listening(
    address: ListenAddress, unix: UnixSocketOptions, *, reuse_port: bool = False
) -> Iterator[tuple[list[socket.socket], str]]:
    """Listen on ``address``; on exit the sockets are closed, and a socket file that was made is removed.

    Args:
        address: Where to listen.
        unix: For socket files.
        reuse_port: Whether others may listen on the same port, and we where they do.

    Yields:
        The sockets, and the URL that clients give for them.

    Raises:
        Unavailable: The address cannot be had.
    """
    with ExitStack() as stack:
        try:
            match address.kind:
                case "tcp":
                    sockets = bind_tcp(address, reuse_port=reuse_port)
                    url = f"http://{address.url_host}:{sockets[0].getsockname()[1]}"
                case "abstract":
                    sockets = [bind(socket.AF_UNIX, "\0" + address.path)]
                    url = f"http+unix:@{address.path}"
                case "unix":
                    path = Path(address.path).absolute()
                    made = socket_file(path, unix, lambda: bind(socket.AF_UNIX, str(path)))
                    sockets = [stack.enter_context(made)]
                    url = f"http+unix:{path}"
            for bound in sockets:
                stack.callback(bound.close)
                bound.listen(_BACKLOG)
                bound.setblocking(False)
        except OSError as exc:
            raise Unavailable(f"cannot listen on {address.text}: {(exc.strerror or str(exc)).lower()}") from exc
        yield sockets, url
