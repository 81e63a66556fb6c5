"""A relay between two programs that counts what goes over it, and can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

__all__ = ["Wire"]

_PIECE_BYTES = 1 << 16


class Wire:
    """Passes connections on, byte by byte.

    Attributes:
        address: Where it listens, as ``host:port``.
        n_down: How many bytes have come back from the far end.
        n_up: How many bytes have gone there.
        n_connections: How many there have been.
    """

    def __init__(self, far: str) -> None:
        """Listen on a port of the loopback interface; ``far`` is the ``host:port`` to pass connections on to."""
        host, _, port = far.rpartition(":")
        self._far = host.strip("[]"), int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.n_down = self.n_up = self.n_connections = 0
        self._counting = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def n_bytes(self) -> int:
        """How many bytes have gone over it, either way."""
        return self.n_down + self.n_up

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.n_connections += 1
            try:
                far = socket.create_connection(self._far)
            except OSError:  # as if we were not there, either
                near.close()
                continue
            self._sockets += [near, far]
            for take in (self._pass_up, self._pass_down):
                self._threads.append(threading.Thread(target=take, args=(near, far), daemon=True))
                self._threads[-1].start()

    def _pass_up(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while piece := near.recv(_PIECE_BYTES):
                with self._counting:
                    self.n_up += len(piece)
                far.sendall(piece)
        _shut(far)

    def _pass_down(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while piece := far.recv(_PIECE_BYTES):
                with self._counting:
                    self.n_down += len(piece)
                near.sendall(piece)
        _shut(near)

    def cut(self) -> None:
        """Break all connections, and take no more."""
        _shut(self._listener)
        self._listener.close()
        self._threads[0].join()
        for end in self._sockets:
            _shut(end)
        for thread in self._threads[1:]:
            thread.join()
        for end in self._sockets:
            end.close()
        self._sockets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()


def _shut(end: socket.socket) -> None:
    with suppress(OSError):  # it is shut already
        end.shutdown(socket.SHUT_RDWR)
