"""NARs and narinfos over HTTP against Debian's nginx, which serves the same NARs and narinfos as static files.

The store is ``fs`` and ``sqlite`` with paths made of the largest folders below some trees, about ``--mib`` in all, and
``--narinfos`` more path infos. Both servers run by themselves, nginx with one process as ours is, unless
``--workers`` are more. What is measured:

- all NARs, one after the other, by 1, 4 and 16 connections at once, each of which takes all of them and begins with
  another one, three times from a server that has just been started: rendered, rendered and copied, from the copies;
- the peak of resident memory meanwhile;
- requests for narinfos per second, by wrk: one, and all in turn.

Needs nginx and wrk. The page cache is warmed first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

from _harness import TVIX_STORE, scratch

from tvix_store.cli.import_ import import_path
from tvix_store.composition import Composition
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import PathInfo
from tvix_store.registry import Registry
from tvix_store.signing import SecretKey
from tvix_store.store_config import StoreConfig
from tvix_store.store_path import StorePath

CONNECTIONS = (1, 4, 16)
CLIENT = """
import socket, sys
buffer = bytearray(1 << 20)
for host, port, path in (line.split() for line in sys.stdin):
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\\r\\nHost: cache\\r\\nConnection: close\\r\\n\\r\\n".encode())
        n_bytes = 0
        while n := connection.recv_into(buffer):
            n_bytes += n
    print(n_bytes, flush=True)
"""


# --- the store ------------------------------------------------------------------------------------------------------


def folders(trees: Sequence[str], n_bytes: int, at_most: int = 8) -> list[Path]:
    """The largest folders directly below ``trees`` that have ``n_bytes`` together, or a little more."""
    sizes: list[tuple[int, Path]] = []
    for tree in trees:
        for path in Path(tree).iterdir():
            if path.is_dir() and not path.is_symlink():
                out = subprocess.run(["du", "-sbx", path], capture_output=True, text=True, check=False).stdout
                sizes.append((int(out.split()[0]), path))
    sizes.sort(reverse=True)
    chosen: list[Path] = []
    total = 0
    for size, path in sizes:
        if total + size <= 1.2 * n_bytes and len(chosen) < at_most:
            chosen.append(path)
            total += size
    return chosen


async def fill(directory: Path, paths: Sequence[Path], n_narinfos: int) -> None:
    """Import the paths, and write what nginx is to serve: the same NARs and narinfos."""
    registry = Registry.load()
    config = StoreConfig.from_urls(*urls(directory), registry, "benchmark")
    key = SecretKey.generate("bench-1")
    www = directory / "www"
    (www / "nar").mkdir(parents=True)
    async with Composition(config, registry) as composition:
        services = await composition.services()
        infos = [await import_path(services, path, path.name, lambda *, files, n_bytes: None) for path in paths]
        for info in infos:
            tree = await load_tree(info.node, services.directories)
            with (www / "nar" / f"{info.nar_sha256.hex()}.nar").open("wb") as file:
                async with aclosing(render_nar(tree, services.blobs)) as pieces:
                    async for piece in pieces:
                        file.write(piece)
        references = tuple(store_path(f"reference-{i}") for i in range(8))
        for i in range(n_narinfos):
            info = PathInfo(
                store_path=store_path(f"path-{i}"),
                node=infos[0].node,
                nar_size=infos[0].nar_size,
                nar_sha256=infos[0].nar_sha256,
                references=references,
                deriver=references[0],
            )
            infos.append(info.with_signatures(key.sign(info)))
        await services.path_infos.put_many(infos[len(paths) :])
    for info in infos:
        narinfo = NarInfo(info, f"nar/{info.nar_sha256.hex()}.nar", "none")
        (www / f"{info.store_path.hash_part}.narinfo").write_bytes(narinfo.render())


def store_path(name: str) -> StorePath:
    """A path of that name."""
    return StorePath(hashlib.sha256(name.encode()).digest()[:20], name)


def urls(directory: Path) -> tuple[str, str, str]:
    """Of the services."""
    database = f"sqlite://{directory}/store.sqlite"
    return f"fs://{directory}/blobs", database, database


# --- the servers ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def store(directory: Path, name: str, settings: str = "", workers: int = 1) -> Iterator[tuple[str, int]]:
    """Our server; its URL and process."""
    port = free_port()
    config = directory / f"{name}.toml"
    entries = "".join(
        f"[{kind}services.root]\n{entry}\n"
        for kind, entry in (
            ("blob", f'type = "fs"\npath = "{directory}/blobs"'),
            ("directory", f'type = "sqlite"\npath = "{directory}/store.sqlite"'),
            ("pathinfo", f'type = "sqlite"\npath = "{directory}/store.sqlite"'),
        )
    )
    frontend = f'[frontends.http]\ntype = "http"\nlisten = "127.0.0.1:{port}"\nworkers = {workers}\n'
    config.write_text(f"{entries}{frontend}{settings}")
    with process(TVIX_STORE, "run", str(config), port=port, listeners=workers) as pid:
        yield f"http://127.0.0.1:{port}", pid


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[tuple[str, int]]:
    """Debian's nginx with one process; its URL and process."""
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(
        f"worker_processes 1; daemon off; master_process off; error_log stderr; pid {directory}/nginx.pid;\n"
        "events { worker_connections 512; }\n"
        "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n"
        "  open_file_cache max=20000 inactive=600s; open_file_cache_valid 600s;\n"
        f"  server {{ listen 127.0.0.1:{port}; root {directory}/www; }} }}\n"
    )
    with process("/usr/sbin/nginx", "-p", str(directory), "-c", str(config), port=port) as pid:
        yield f"http://127.0.0.1:{port}", pid


@contextlib.contextmanager
def process(*command: str, port: int, listeners: int = 1) -> Iterator[int]:
    """Run a server until it is not wanted any more; its process, once so many listen."""
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if count_listeners(port) == listeners:
                break
            if running.poll() is not None:
                raise SystemExit(f"{command[0]} has ended")
            time.sleep(0.05)
        yield running.pid
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait()


def count_listeners(port: int) -> int:
    """How many sockets listen on a port of 127.0.0.1."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "0A" for row in rows)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


# --- the clients ----------------------------------------------------------------------------------------------------


def nar_paths(directory: Path, url: str, infos: Sequence[bytes], *, is_ours: bool) -> list[str]:
    """Where the NARs are, from the narinfos."""
    if not is_ours:
        return [f"/{NarInfo.parse(data).url}" for data in infos]
    import urllib.request

    found = []
    for data in infos:
        path = NarInfo.parse(data).metadata.store_path
        with urllib.request.urlopen(f"{url}/{path.hash_part}.narinfo") as response:
            found.append(f"/{NarInfo.parse(response.read()).url}")
    return found


def download(url: str, paths: Sequence[str], connections: int) -> tuple[float, int]:
    """Seconds until so many clients have taken all the paths, and how many bytes that were."""
    parts = urlsplit(url)
    clients = [
        subprocess.Popen([sys.executable, "-S", "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(connections)
    ]
    totals: list[int] = []

    def talk(index: int) -> None:
        order = [*paths[index % len(paths) :], *paths[: index % len(paths)]]
        out, _ = clients[index].communicate("".join(f"{parts.hostname} {parts.port} {path}\n" for path in order))
        totals.append(sum(map(int, out.split())))

    threads = [threading.Thread(target=talk, args=(index,)) for index in range(connections)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, sum(totals)


def requests_per_second(url: str, names: Sequence[str], directory: Path, connections: int = 16) -> float:
    """What wrk gets of narinfos, in turn."""
    script = directory / "wrk.lua"
    paths = ", ".join(f'"/{name}.narinfo"' for name in names)
    script.write_text(
        f"local paths = {{{paths}}}\nlocal requests = {{}}\nlocal i = 0\n"
        "init = function() for k, p in ipairs(paths) do requests[k] = wrk.format('GET', p) end end\n"
        "request = function() i = i % #requests + 1; return requests[i] end\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", "-d3s", "-s", str(script), url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out:
        raise SystemExit(out)
    return float(next(line.split()[1] for line in out.splitlines() if line.startswith("Requests/sec")))


def with_workers(pid: int) -> list[int]:
    """A process and those that it has started."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(int(child) for path in children for child in path.read_text(encoding="utf-8").split())]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its workers so far."""
    stats = [Path(f"/proc/{one}/stat").read_text(encoding="utf-8") for one in with_workers(pid)]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return sum(int(of_one[11]) + int(of_one[12]) for of_one in fields) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> int:
    """Peak of resident memory since ``reset_peak``; with workers, the sum of their peaks."""
    kib = 0
    for one in with_workers(pid):
        lines = Path(f"/proc/{one}/status").read_text(encoding="utf-8").splitlines()
        kib += int(dict(line.split(":", 1) for line in lines)["VmHWM"].removesuffix("kB"))
    return kib // 1024


def reset_peak(pid: int) -> None:
    """Have the peak begin with what is in memory now."""
    for one in with_workers(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5", encoding="utf-8")


# --- the comparison -------------------------------------------------------------------------------------------------


def compare_nars(directory: Path, infos: Sequence[bytes], runs: int, settings: str, workers: int) -> None:
    """All NARs, by so many connections, three times from each server."""
    print(f"{'NARs':22} {'nginx':>12} {'store':>12} {'speed':>7} {'CPU':>9} {'peak':>9}")
    with nginx(directory) as (peer, _):
        theirs_paths = nar_paths(directory, peer, infos, is_ours=False)
        for connections in CONNECTIONS:
            figures: dict[str, list[tuple[float, float, float, float]]] = {"first": [], "second": [], "third": []}
            for _ in range(runs):
                with store(directory, "nars", settings, workers) as (ours, pid):
                    our_paths = nar_paths(directory, ours, infos, is_ours=True)
                    for column in figures.values():
                        their_seconds, n_bytes = download(peer, theirs_paths, connections)
                        reset_peak(pid)
                        before = cpu_seconds(pid)
                        our_seconds, our_bytes = download(ours, our_paths, connections)
                        cpu = (cpu_seconds(pid) - before) / our_bytes * 2**30
                        assert abs(our_bytes - n_bytes) < 0.001 * n_bytes
                        rates = n_bytes / their_seconds / 2**20, our_bytes / our_seconds / 2**20
                        column.append((*rates, cpu, peak_mib(pid)))
            for label, column in figures.items():
                theirs, mine, cpu, _ = (statistics.median(values) for values in zip(*column, strict=True))
                ratio = statistics.median(ours / theirs for theirs, ours, _, _ in column)
                print(
                    f"{connections:2} connections, {label}   {theirs:6.0f} MiB/s {mine:6.0f} MiB/s {ratio:6.2f}x"
                    f" {cpu:4.1f} s/GiB {max(peak for *_, peak in column):5.0f} MiB",
                    flush=True,
                )


def compare_narinfos(directory: Path, names: Sequence[str], runs: int, workers: int) -> None:
    """Requests for narinfos per second."""
    print(f"{'narinfos':34} {'nginx':>9} {'store':>9} {'ratio':>6}")
    cases = (
        ("one", names[:1], ""),
        (f"{len(names)} in turn", names, ""),
        (f"{len(names)} in turn, none from memory", names, "narinfo_cache_s = 0.0\n"),
    )
    with nginx(directory) as (peer, _):
        for index, (label, asked, settings) in enumerate(cases):
            with store(directory, f"narinfos-{index}", settings, workers) as (ours, _):
                rates = [
                    (requests_per_second(peer, asked, directory), requests_per_second(ours, asked, directory))
                    for _ in range(runs)
                ]
            theirs, mine = (statistics.median(column) for column in zip(*rates, strict=True))
            ratio = statistics.median(ours / peer for peer, ours in rates)
            print(f"{label:34} {theirs:9.0f} {mine:9.0f} {ratio:5.2f}x", flush=True)


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", default=["/usr/lib"], help="what to import folders of (default: /usr/lib)")
    parser.add_argument("--mib", type=int, default=1024, help="how much to import (default: %(default)s)")
    parser.add_argument("--narinfos", type=int, default=1000, help="how many more (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs (default: %(default)s)")
    parser.add_argument("--only", choices=["nars", "narinfos"], help="measure only these")
    parser.add_argument("--settings", default="", help="keys of the frontend while NARs are measured, with ; between")
    parser.add_argument("--workers", type=int, default=1, help="processes of the store (default: %(default)s)")
    options = parser.parse_args()
    with scratch() as directory:
        paths = folders(options.trees, options.mib * 2**20)
        asyncio.run(fill(directory, paths, options.narinfos))
        narinfos = {path.stem: path.read_bytes() for path in (directory / "www").glob("*.narinfo")}
        infos = [data for data in narinfos.values() if NarInfo.parse(data).metadata.ca is not None]
        sizes = [NarInfo.parse(data).metadata.nar_size for data in infos]
        print(f"{len(sizes)} NARs, {sum(sizes) / 2**20:.0f} MiB; {len(os.sched_getaffinity(0))} cores", flush=True)
        if options.only != "narinfos":
            compare_nars(directory, infos, options.runs, options.settings.replace(";", "\n"), options.workers)
        if options.only != "nars":
            compare_narinfos(directory, list(narinfos), options.runs, options.workers)


if __name__ == "__main__":
    main()
