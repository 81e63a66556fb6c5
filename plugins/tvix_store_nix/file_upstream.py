"""A binary cache in a folder of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from tvix_store.errors import DanglingReference, InvalidObject, LimitExceeded, Unavailable
from tvix_store.limits import MIB
from tvix_store.nixbase32 import shown
from tvix_store_nix.upstream import Upstream, joined

__all__ = ["FileUpstream"]

_READ_BYTES = 1 * MIB


class FileUpstream(Upstream):
    """A binary cache at a file URL.

    Args:
        name: Of the entry, for messages.
        base_url: Of the folder that ``nix-cache-info`` is in.
    """

    def __init__(self, name: str, base_url: str) -> None:
        self.name = name
        self._base_url = base_url
        self._folder = _decoded(base_url)

    def _path(self, url: str) -> Path:
        path = _decoded(joined(self._base_url, url))
        # What was encoded may have dots and slashes of its own.
        if not path.is_relative_to(self._folder) or "\0" in str(path):
            raise InvalidObject(f"URL {shown(url)} leads out of {self._folder}")
        return path

    async def read(self, name: str, max_bytes: int) -> bytes | None:
        path = self._path(name)
        try:
            data = await asyncio.to_thread(_read_start, path, max_bytes + 1)
        except FileNotFoundError:
            await asyncio.to_thread(self._check_folder)
            return None
        except OSError as exc:
            raise self._unavailable(path, exc) from exc
        if len(data) > max_bytes:
            raise LimitExceeded(f"{self.name}: {path}: longer than {max_bytes} bytes")
        return data

    def _check_folder(self) -> None:
        """A folder that is not there, as when nothing is mounted, does not say that a path is not there."""
        if not self._folder.is_dir():
            raise Unavailable(f"{self.name}: {self._folder} is no folder")

    async def stream(self, url: str, *, is_compressed: bool) -> AsyncGenerator[bytes]:
        path = self._path(url)
        try:
            file = await asyncio.to_thread(_opened, path)
        except FileNotFoundError as exc:
            raise DanglingReference(f"{path} does not exist") from exc
        except OSError as exc:
            raise self._unavailable(path, exc) from exc
        reading: asyncio.Future[bytes] | None = None
        try:
            while True:
                reading = asyncio.ensure_future(asyncio.to_thread(file.read, _READ_BYTES))
                piece = await asyncio.shield(reading)
                if not piece:
                    return
                yield piece
        except OSError as exc:
            raise self._unavailable(path, exc) from exc
        finally:
            if reading is not None and not reading.done():  # the thread goes on after a cancellation
                reading.add_done_callback(lambda done: (done.exception(), file.close()))
            else:
                file.close()

    def _unavailable(self, path: Path, exc: OSError) -> Unavailable:
        return Unavailable(f"{self.name}: {path}: {exc.strerror}")


def _decoded(url: str) -> Path:
    return Path(os.path.normpath(unquote(urlsplit(url).path)))


def _opened(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


def _read_start(path: Path, n_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n_bytes)
