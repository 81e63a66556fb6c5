"""The ``os`` that the pack store sees, with something in between: to record what it does to files, or to end midway."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tvix_store_fs import layout, pack

CHANGING = ("open", "posix_fallocate", "pwritev", "pwrite", "ftruncate", "fdatasync", "fsync", "unlink", "replace")
"""The calls that change files, or make changes durable."""

Watcher = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]
"""Given the name of a call, the call and its arguments; carries it out."""


class WatchedOs:
    """As the module ``os``, but ``watcher`` carries out the calls that change files."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CHANGING:
            return real
        return lambda *arguments: self._watcher(name, real, arguments)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Within it, the modules of the pack store that write files by themselves call ``watcher``."""
    watched: Any = WatchedOs(watcher)
    setattr(pack, "os", watched)  # noqa: B010
    setattr(layout, "os", watched)  # noqa: B010
    try:
        yield
    finally:
        setattr(pack, "os", os)  # noqa: B010
        setattr(layout, "os", os)  # noqa: B010
