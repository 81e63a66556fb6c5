"""NARs into the pack store, against their floor and against an import of the same tree.

The floor reads the NAR from a file and takes its SHA-256, its BLAKE3 and zstd -3 of its frames of 256 KiB, the three
in threads beside each other. ``nar import`` and ``import`` run as processes, into a new store each time; "again" is
the second one into the same store. Seconds are of the clock, or with ``--cpu`` of all cores together, which other
work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zstandard
from _harness import TVIX_STORE, compare, scratch
from blake3 import blake3

FRAME_BYTES = 256 * 1024
READ_BYTES = 1024 * 1024
PORTIONS_AT_ONCE = 16

Clock = Callable[[], float]


def cpu_clock() -> float:
    """Seconds that this process and those it waited for have spent on all cores."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def floor(nar: Path, clock: Clock) -> float:
    """Read, hash twice and compress."""
    sha256, hasher, compressor = hashlib.sha256(), blake3(), zstandard.ZstdCompressor(level=3)

    def update_sha256(portions: Sequence[bytes]) -> None:
        for portion in portions:
            sha256.update(portion)

    def update_blake3(portions: Sequence[bytes]) -> None:
        for portion in portions:
            hasher.update(portion)

    def compress(portions: Sequence[bytes]) -> None:
        for portion in portions:
            for frame in frames(portion):
                compressor.compress(frame)

    start = clock()
    with ThreadPoolExecutor(3) as threads, nar.open("rb", buffering=0) as file:
        while portions := [portion for _ in range(PORTIONS_AT_ONCE) if (portion := file.read(READ_BYTES))]:
            calls = [threads.submit(work, portions) for work in (update_sha256, update_blake3, compress)]
            for call in calls:
                call.result()
    return clock() - start


def frames(portion: bytes) -> Iterator[bytes]:
    """What a portion is cut into."""
    for start in range(0, len(portion), FRAME_BYTES):
        yield portion[start : start + FRAME_BYTES]


def program(clock: Clock, *arguments: object, again: bool = False) -> float:
    """``tvix-store`` with these arguments and a new store; with ``again``, the second time with the same one."""
    with scratch() as directory:
        url = f"sqlite://{directory}/store.sqlite"
        stores = ("--directory-service-addr", url, "--path-info-service-addr", url)
        blobs = ("--blob-service-addr", f"fs://{directory}/blobs")
        for _ in range(1 + again):
            start = clock()
            command = [TVIX_STORE, *map(str, arguments), *blobs, *stores]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            taken = clock() - start
    return taken


def main() -> None:
    """Compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", default="/usr/share", help="tree to work on (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each contestant (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="count the seconds of all cores")
    options = parser.parse_args()
    clock = cpu_clock if options.cpu else time.perf_counter
    with scratch() as directory:
        nar, packed = directory / "tree.nar", directory / "tree.nar.zst"
        with nar.open("wb") as file:
            subprocess.run(["nix-store", "--dump", options.tree], check=True, stdout=file)
        with packed.open("wb") as file, nar.open("rb") as source:
            zstandard.ZstdCompressor(level=3).copy_stream(source, file)
        print(f"{options.tree}: a NAR of {nar.stat().st_size / 2**20:.0f} MiB")
        ingest = ("nar", "import", "--name", "tree")
        contestants = {
            "floor: read, SHA-256, BLAKE3, zstd": lambda: floor(nar, clock),
            "nar import": lambda: program(clock, *ingest, nar),
            "nar import of .zst": lambda: program(clock, *ingest, packed),
            "import of the tree": lambda: program(clock, "import", "--name", "tree", options.tree),
            "nar import, again": lambda: program(clock, *ingest, nar, again=True),
            "import of the tree, again": lambda: program(clock, "import", "--name", "tree", options.tree, again=True),
        }
        compare(contestants, options.runs, nar.stat().st_size)


if __name__ == "__main__":
    main()
