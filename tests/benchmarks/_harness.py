"""What the benchmarks share: runs in turn, medians, and a table of ratios to the floor of the same run."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

TVIX_STORE = str(Path(sys.executable).with_name("tvix-store"))


def arguments(description: str) -> argparse.Namespace:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tree", default="/usr/share", help="tree to work on (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each contestant (default: %(default)s)")
    return parser.parse_args()


def compare(contestants: Mapping[str, Callable[[], float]], runs: int, n_bytes: int = 0) -> None:
    """Run the contestants in turn, once to warm up, and print medians with ratios to the first.

    Args:
        contestants: Name to a function that does the work and returns the seconds it took.
        runs: How often each is counted.
        n_bytes: How much content one run moves, for a throughput column.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(runs + 1):
        for name, contestant in contestants.items():
            taken = contestant()
            if round_:
                seconds[name].append(taken)
    floor_name = next(iter(contestants))
    floor = seconds[floor_name]
    print(f"{'':44} {'median':>9} {'min':>8} {'max':>8} {'ratio':>7}" + ("    MiB/s" if n_bytes else ""))
    for name, runs_of_one in seconds.items():
        ratio = statistics.median(mine / base for mine, base in zip(runs_of_one, floor, strict=True))
        median = statistics.median(runs_of_one)
        rate = f" {n_bytes / median / 2**20:8.0f}" if n_bytes else ""
        print(f"{name:44} {median:8.2f}s {min(runs_of_one):7.2f}s {max(runs_of_one):7.2f}s {ratio:6.2f}x{rate}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak resident memory of this process: {peak} MiB; {len(os.sched_getaffinity(0))} cores")


@contextlib.contextmanager
def daemon(document: str, directory: Path) -> Iterator[str]:
    """A store in a process of its own, on a Unix socket; its URL.

    Args:
        document: The configuration, without frontends.
        directory: Where its files go.
    """
    socket = directory / "socket"
    config = directory / "config.toml"
    config.write_text(f'{document}\n[frontends.grpc]\ntype = "grpc"\nlisten = "{socket}"\n')
    process = subprocess.Popen([TVIX_STORE, "run", str(config)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready" in line:
                break
        else:
            raise SystemExit("the daemon did not start")
        yield f"grpc+unix://{socket}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory, on the disk that temporary files are on."""
    with tempfile.TemporaryDirectory(prefix="tvix-store-bench-") as directory:
        yield Path(directory)


def regular_files(tree: str) -> list[str]:
    """The regular files below ``tree``."""
    paths = (os.path.join(directory, name) for directory, _, names in os.walk(tree) for name in sorted(names))
    return [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
