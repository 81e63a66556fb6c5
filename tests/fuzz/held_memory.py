"""What is held in memory after many examples, against what is held after fewer of them."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["growth_of", "n_objects", "n_open_files", "resident_bytes", "traced_bytes", "tracing"]


@contextmanager
def tracing() -> Iterator[None]:
    """Count what Python objects take, from here on."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def traced_bytes() -> int:
    """What the Python objects made since tracing began take that something still refers to."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def growth_of(run: Callable[[], object], n_rounds: int) -> int:
    """How many bytes more are held after ``3 * n_rounds`` calls than after ``n_rounds``, which fill what is kept."""
    with tracing():
        for _ in range(n_rounds):
            run()
        before = traced_bytes()
        for _ in range(2 * n_rounds):
            run()
        return traced_bytes() - before


def resident_bytes() -> int:
    """What the process has in memory, with what libraries allocate past Python."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def n_objects() -> int:
    """How many containers and instances there are."""
    gc.collect()
    return len(gc.get_objects())


def n_open_files() -> int:
    """Files, sockets and the like that the process has open."""
    return len(os.listdir("/proc/self/fd"))
