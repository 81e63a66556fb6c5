"""The pack store on whole trees: first and second import, NAR render, size on disk and memory, each against its floor.

Floors use as many threads as there are cores, and the same files in the same run:

- import: read every file, BLAKE3, zstd -3 of the distinct ones in frames of 256 KiB;
- second import: read every file and BLAKE3;
- NAR: ``nix-store --dump`` of the trees;
- size: the distinct files, each under zstd -3 by itself.

What is measured of the store runs in a process of its own each time, whose peak of resident memory is printed as well.
An import stores directories and path infos in sqlite, too, with every durability at ``commit``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import zstandard
from _harness import regular_files, scratch
from blake3 import blake3

from tvix_store.cli.import_ import import_path
from tvix_store.cli.memory import collect_seldom, limit_arenas
from tvix_store.composition import Composition
from tvix_store.frontend import Services
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

FRAME_BYTES = 256 * 1024
READ_BYTES = 1024 * 1024
CORES = len(os.sched_getaffinity(0))
NAME = "tree"

# --- floors ---------------------------------------------------------------------------------------------------------

_local = threading.local()


def _pieces(path: str) -> Iterator[memoryview]:
    """The contents of a file, in a buffer that is used again."""
    buffer: bytearray = getattr(_local, "buffer", None) or bytearray(READ_BYTES)
    _local.buffer = buffer
    view = memoryview(buffer)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while n_bytes := os.readv(descriptor, [buffer]):
            yield view[:n_bytes]
    finally:
        os.close(descriptor)


def _hash(paths: Sequence[str]) -> None:
    for path in paths:
        hasher = blake3()
        for piece in _pieces(path):
            hasher.update(piece)
        hasher.digest()


def _compress(paths: Sequence[str], seen: set[bytes]) -> None:
    compressor = zstandard.ZstdCompressor(level=3)
    frame: list[bytes] = []
    n_bytes = 0
    for path in paths:
        hasher = blake3()
        pieces = []
        for piece in _pieces(path):
            hasher.update(piece)
            pieces += [bytes(piece[start : start + FRAME_BYTES]) for start in range(0, len(piece), FRAME_BYTES)]
        digest = hasher.digest()
        if digest in seen:
            continue
        seen.add(digest)
        for data in pieces:
            if n_bytes + len(data) > FRAME_BYTES:
                compressor.compress(b"".join(frame))
                frame, n_bytes = [], 0
            frame.append(data)
            n_bytes += len(data)
    compressor.compress(b"".join(frame))


def _portions(paths: Sequence[str]) -> list[Sequence[str]]:
    return [paths[start : start + 200] for start in range(0, len(paths), 200)]


def floor_of_import(paths: Sequence[str]) -> float:
    """Seconds of the floor of a first import."""
    start = time.perf_counter()
    seen: set[bytes] = set()
    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(lambda portion: _compress(portion, seen), _portions(paths)))
    return time.perf_counter() - start


def floor_of_second_import(paths: Sequence[str]) -> float:
    """Seconds of the floor of a second import."""
    start = time.perf_counter()
    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(_hash, _portions(paths)))
    return time.perf_counter() - start


def nix_dump(trees: Sequence[str]) -> float:
    """Seconds that ``nix-store --dump`` takes."""
    start = time.perf_counter()
    for tree in trees:
        subprocess.run(["nix-store", "--dump", tree], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def floor_of_size(paths: Sequence[str]) -> tuple[int, int]:
    """Bytes of the distinct files, and of each of them under zstd -3."""
    seen: set[bytes] = set()

    def sizes(portion: Sequence[str]) -> tuple[int, int]:
        compressor = zstandard.ZstdCompressor(level=3)
        raw = stored = 0
        for path in portion:
            data = Path(path).read_bytes()
            digest = blake3(data).digest()
            if digest not in seen:
                seen.add(digest)
                raw += len(data)
                stored += len(compressor.compress(data))
        return raw, stored

    with ThreadPoolExecutor(CORES) as threads:
        measured = list(threads.map(sizes, _portions(paths)))
    return sum(raw for raw, _ in measured), sum(stored for _, stored in measured)


# --- the store, in a process of its own -----------------------------------------------------------------------------


async def _import(services: Services, trees: Sequence[str]) -> None:
    for tree in trees:
        await import_path(services, Path(tree), f"{NAME}-{tree.strip('/').replace('/', '-')}", _advance)


def _advance(*, files: int, n_bytes: int) -> None:
    pass


async def _render(services: Services) -> None:
    with await asyncio.to_thread(open, os.devnull, "wb", buffering=0) as sink:
        async for path_info in services.path_infos.list():
            tree = await load_tree(path_info.node, services.directories)
            async with aclosing(render_nar(tree, services.blobs)) as pieces:
                async for piece in pieces:
                    sink.write(piece)


async def _work(what: str, directory: str, trees: Sequence[str]) -> float:
    registry = Registry.load()
    database = f"sqlite://{directory}/store.sqlite"
    config = StoreConfig.from_urls(f"fs://{directory}/blobs", database, database, registry, "benchmark")
    async with Composition(config, registry) as composition:
        services = await composition.services()
        start = time.perf_counter()
        await (_render(services) if what == "render" else _import(services, trees))
        return time.perf_counter() - start


def child(what: str, directory: str, trees: Sequence[str]) -> None:
    """Do one thing with the store, and print seconds and peak memory."""
    limit_arenas()  # as the program does
    collect_seldom()
    seconds = asyncio.run(_work(what, directory, trees))
    # Not ru_maxrss, which begins with that of the parent.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    peak = int(status["VmHWM"].removesuffix("kB")) // 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


def measured(what: str, directory: Path, trees: Sequence[str]) -> tuple[float, int]:
    """Seconds and peak memory in MiB of a process that does one thing with the store."""
    command = [sys.executable, __file__, "--child", what, "--directory", str(directory), *trees]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer["seconds"], answer["peak_mib"]


# --- the comparison -------------------------------------------------------------------------------------------------


def compare(trees: Sequence[str], runs: int) -> None:
    """Run everything ``runs`` times, floors and store in turn, and print medians and ratios."""
    paths = [path for tree in trees for path in regular_files(tree)]
    n_bytes = sum(os.path.getsize(path) for path in paths)
    print(f"{', '.join(trees)}: {len(paths)} files, {n_bytes / 2**20:.0f} MiB; {CORES} cores", flush=True)
    floor_of_second_import(paths)  # so that all of it is in the page cache
    rows: dict[str, list[tuple[float, float, int]]] = {"import": [], "second import": [], "NAR": []}
    for _ in range(runs):
        with scratch() as directory:
            rows["import"].append((floor_of_import(paths), *measured("import", directory, trees)))
            rows["second import"].append((floor_of_second_import(paths), *measured("import", directory, trees)))
            rows["NAR"].append((nix_dump(trees), *measured("render", directory, trees)))
            stored = sum(entry.stat().st_size for entry in directory.rglob("blobs/**/*") if entry.is_file())
    print(f"{'':16} {'floor':>8} {'store':>8} {'ratio':>6} {'peak':>8}")
    for name, measurements in rows.items():
        floor, store = (statistics.median(column) for column in list(zip(*measurements, strict=True))[:2])
        ratio = statistics.median(mine / base for base, mine, _ in measurements)
        peak = max(peak for _, _, peak in measurements)
        print(f"{name:16} {floor:7.2f}s {store:7.2f}s {ratio:6.2f} {peak:4} MiB")
    raw, compressed = floor_of_size(paths)
    print(
        f"size: {stored / 2**20:.1f} MiB with the index, {stored / compressed:.3f} times "
        f"the distinct files under zstd -3 each ({compressed / 2**20:.1f} of {raw / 2**20:.0f} MiB)"
    )


def main() -> None:
    """Compare, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", default=["/usr/share", "/usr/lib"], help="what to import")
    parser.add_argument("--runs", type=int, default=3, help="how often everything is run (default: %(default)s)")
    parser.add_argument("--child", choices=["import", "render"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.directory, options.trees)
    else:
        compare(options.trees, options.runs)


if __name__ == "__main__":
    main()
