"""What get, has and put batches cost while a pack store grows, from 100,000 objects to 5 million.

The objects are small and synthetic, so that the index is what grows. A batch is 1,024 objects: new ones for put; for
has and get some that were put together, as those of a tree are, from a random place of the store; and for "get,
scattered" some from 128 places, each in a frame of its own. ``--plot FILE`` draws an SVG.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from _harness import scratch

from tvix_store.digest import B3Digest, HashedBlob
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.store import PackStore

BATCH = 1024
OBJECT_BYTES = 256
MEASURED = 40
CHECKPOINTS = (100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000)
COLOURS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2")

Figures = dict[str, list[tuple[int, float]]]


def batch(number: int) -> list[HashedBlob]:
    """The objects of a batch, always the same ones; half of each compresses."""
    source = random.Random(number)
    half = bytes(OBJECT_BYTES // 2)
    return [HashedBlob(source.randbytes(OBJECT_BYTES // 2) + half) for _ in range(BATCH)]


def digests(number: int) -> list[B3Digest]:
    """Their digests."""
    return [blob.digest for blob in batch(number)]


async def milliseconds(call: Callable[[], Awaitable[object]]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    await call()
    return (time.perf_counter() - start) * 1000


async def grow(path: Path, most: int) -> Figures:
    """Fill a store, and measure at each checkpoint; medians in milliseconds a batch."""
    figures: Figures = {"put": [], "has": [], "get": [], "get, scattered": []}
    source = random.Random(1)
    async with FsBlobService("bench", await PackStore.open("bench", str(path))) as service:
        n_batches = 0
        for checkpoint in (point for point in CHECKPOINTS if point <= most):
            while (n_batches + MEASURED) * BATCH < checkpoint:
                await asyncio.gather(*(service.put_many(batch(n_batches + ahead)) for ahead in range(2)))
                n_batches += 2
            times: dict[str, list[float]] = {name: [] for name in figures}
            for _ in range(MEASURED):
                new = batch(n_batches)
                times["put"].append(await milliseconds(lambda new=new: service.put_many(new)))  # type: ignore[misc]
                n_batches += 1
            for _ in range(MEASURED):
                some = digests(source.randrange(n_batches))
                times["has"].append(await milliseconds(lambda some=some: service.has_many(some)))  # type: ignore[misc]
                some = digests(source.randrange(n_batches))
                times["get"].append(await milliseconds(lambda some=some: service.get_many(some)))  # type: ignore[misc]
            for _ in range(MEASURED // 8):
                numbers = [source.randrange(n_batches) for _ in range(128)]
                some = [digest for number in numbers for digest in source.sample(digests(number), BATCH // 128)]
                taken = await milliseconds(lambda some=some: service.get_many(some))  # type: ignore[misc]
                times["get, scattered"].append(taken)
            for name, measured in times.items():
                figures[name].append((n_batches * BATCH, statistics.median(measured)))
            stats = await service.stats()
            index_bytes = dict(stats.details)["index bytes"]
            print(
                f"{n_batches * BATCH:>9} objects: "
                + ", ".join(f"{name} {series[-1][1]:.1f} ms" for name, series in figures.items())
                + f"; index {int(index_bytes) / stats.objects:.0f} bytes an object",
                flush=True,
            )
    return figures


def plot(figures: Figures) -> str:
    """An SVG with the number of objects on a logarithmic axis, and milliseconds a batch."""
    left, top, width, height = 60, 40, 560, 280
    greatest = max(value for series in figures.values() for _, value in series) * 1.1
    counts = [count for count, _ in figures["put"]]
    span = max(1, counts[-1] / counts[0])

    def x(count: int) -> float:
        return left + width * math.log(count / counts[0]) / math.log(span)

    def y(value: float) -> float:
        return top + height * (1 - value / greatest)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 140} {top + height + 60}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">Milliseconds a batch of {BATCH} objects, by objects stored</text>',
    ]
    for step in range(6):
        value = greatest * step / 5
        lines.append(f'<path d="M{left} {y(value):.1f}h{width}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for count in counts:
        label = f"{count / 1e6:.1f} M"
        lines.append(f'<text x="{x(count):.1f}" y="{top + height + 20}" text-anchor="middle">{label}</text>')
    for colour, (name, series) in zip(COLOURS, figures.items(), strict=True):
        points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in series)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        last, value = series[-1]
        lines.append(f'<text x="{x(last) + 8:.1f}" y="{y(value) + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=CHECKPOINTS[-1], help="where to stop (default: %(default)s)")
    parser.add_argument("--plot", type=Path, help="an SVG file to write")
    options = parser.parse_args()
    with scratch() as directory:
        figures = asyncio.run(grow(directory / "store", options.objects))
    for name, series in figures.items():
        more, dearer = series[-1][0] / series[0][0], series[-1][1] / series[0][1]
        print(f"{name}: {dearer:.2f} times the cost at {more:.0f} times as many")
    print(f"{len(os.sched_getaffinity(0))} cores")
    if options.plot is not None:
        options.plot.write_text(plot(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
