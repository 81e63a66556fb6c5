"""The mounted store against the same trees on the same disk: cold, with the kernel's caches dropped, and warm.

The store is ``fs`` and ``sqlite``, opened by the mount itself. Its peer is a fresh copy of each tree beside it. What is
measured, disk and store in turn, after a first round that is not counted:

- ``tar c`` of ``--tree`` into a pipe, and ``find -type f`` in it;
- ``cat`` of two large files, of random bytes and of words;
- open and read of ``--files`` files of 8 KiB in one folder, by a small program that is the same for both: in the order
  of their names after it has listed the folder, in another order, and by names that it knows without listing.

Every measurement of the store has a mount of its own. For a cold one that is up, and has done nothing, when the caches
are dropped, those of the store's files as well; for a warm one the same was done twice just before: once is not enough
where the machine takes back what nobody has used for some seconds. Last the memory of the mount: idle, after walking
many files, after reading the tree.

How many requests there were is from the log, which the mount writes at its end; of warm runs, from the number of
answers that the process wrote meanwhile.

Needs root to drop caches; without that right there are no cold figures.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from _harness import TVIX_STORE, regular_files, scratch

from tvix_store.limits import KIB, MIB

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
SMALL_BYTES = 8 * KIB
TIMEOUT_S = 900
TOOLS = (["bash", "--version"], ["tar", "--version"], ["find", "--version"], ["cat", "--version"], ["wc", "--version"])
READER = """
import os, sys, time
folder, is_listed = sys.argv[1].encode(), sys.argv[2] == "listed"
names = sys.stdin.buffer.read().split()
n_bytes = 0
start = time.perf_counter()
if is_listed:
    assert len(list(os.scandir(folder))) == len(names)
for name in names:
    fd = os.open(folder + b"/" + name, os.O_RDONLY)
    n_bytes += len(os.read(fd, 65536))
    os.close(fd)
print(time.perf_counter() - start, n_bytes)
"""


# --- what lies on the disk, and in the store ------------------------------------------------------------------------


def write_large(folder: Path, n_bytes: int) -> None:
    """A file of random bytes, and one of words, which compresses to about 40 %."""
    folder.mkdir()
    source = random.Random(1)
    words = [bytes(source.choices(b"etaoinshrdlu", k=source.randint(2, 9))) + b" " for _ in range(4096)] * 16
    with (folder / "random").open("wb") as file, (folder / "words").open("wb") as text:
        for left in range(n_bytes, 0, -MIB):
            file.write(source.randbytes(min(left, MIB)))
            indexes = array("H", source.randbytes(MIB))
            text.write(b"".join(map(words.__getitem__, indexes))[: min(left, MIB)])


def write_small(folder: Path, n_files: int) -> list[str]:
    """Files of 8 KiB, half of which is random; their names."""
    folder.mkdir()
    source = random.Random(2)
    names = [f"file-{i:06}" for i in range(n_files)]
    for name in names:
        (folder / name).write_bytes(source.randbytes(SMALL_BYTES // 2).hex().encode())
    return names


def write_many(folder: Path, n_files: int) -> None:
    """As many files as there are to walk, all different, 1,000 in a folder."""
    for i in range(n_files):
        if i % 1000 == 0:
            (folder / f"{i // 1000:03}").mkdir(parents=True)
        (folder / f"{i // 1000:03}" / f"{i:06}").write_text(f"{i}\n")


class Store:
    """A store on the disk, and what was imported into it.

    Args:
        directory: Where it is, and what it needs beside it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "store.toml"
        self.config.write_text(
            f'[blobservices.root]\ntype = "fs"\npath = "{directory}/blobs"\n'
            f'[directoryservices.root]\ntype = "sqlite"\npath = "{directory}/store.sqlite"\n'
            f'[pathinfoservices.root]\ntype = "sqlite"\npath = "{directory}/store.sqlite"\n'
        )
        self.names: dict[str, str] = {}

    def take(self, folders: Sequence[Path]) -> None:
        """Import folders."""
        command = [TVIX_STORE, "import", "--config", str(self.config), *map(str, folders)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        for folder, path in zip(folders, out.split(), strict=True):
            self.names[folder.name] = Path(path).name

    def blob_bytes(self) -> int:
        """How much the contents of files take on the disk."""
        return sum(entry.stat().st_size for entry in self.directory.glob("blobs/**/*") if entry.is_file())


# --- the mount ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Mounted:
    """A mount that is up.

    Attributes:
        root: Where it is.
        pid: The process that serves it.
        requests: How many there were of each kind, once it is unmounted.
        n_pushed: Files handed to the kernel without being asked for, likewise.
    """

    root: Path
    pid: int
    requests: dict[str, int] = field(default_factory=dict)
    n_pushed: int = 0

    def status(self, key: str) -> float:
        """A figure of ``/proc/PID/status`` in MiB."""
        return _proc(self.pid, "status")[key] / 1024

    def n_writes(self) -> int:
        """How many answers and pushed files the process has written so far."""
        return _proc(self.pid, "io")["syscw"]

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proc(pid: int, name: str) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":")[::2] for line in lines)
    return {key: int(value.split()[0]) for key, value in pairs if re.match(r"\s*\d+( kB)?$", value)}


@contextlib.contextmanager
def mounted(store: Store) -> Iterator[Mounted]:
    """Mount the store, in a process of its own; unmounts it and reads what it has to say."""
    root = store.directory / "mnt"
    root.mkdir(exist_ok=True)
    log = store.directory / "mount.log"
    command = [TVIX_STORE, "--log-level", "debug", "mount", "--config", str(store.config), str(root)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, stdout=subprocess.DEVNULL)
    try:
        mount = Mounted(root, process.pid)
        while b"ready" not in log.read_bytes():
            if process.poll() is not None:
                raise SystemExit(f"the mount has ended: {log.read_text(encoding='utf-8')}")
            time.sleep(0.02)
        yield mount
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        said = re.search(r"requests: (.*); files pushed: (\d+)", log.read_text(encoding="utf-8"))
        assert said is not None
        for one in said[1].split(", "):
            name, count = one.rsplit(" ", 1)
            mount.requests[name] = int(count)
        mount.n_pushed = int(said[2])
    finally:
        if process.poll() is None:
            process.kill()
            # Forced, since a file that was being pushed when it was read keeps even a killed process for ever.
            subprocess.run(["umount", "-f", str(root)], check=False)
            subprocess.run(["umount", "-l", str(root)], check=False, stderr=subprocess.DEVNULL)
            process.wait()


# --- what is done on both sides -------------------------------------------------------------------------------------


def shell(script: str, folder: Path) -> tuple[float, str]:
    """Seconds that a script takes in a folder, and what it prints."""
    start = time.perf_counter()
    out = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=folder, check=True, capture_output=True, timeout=TIMEOUT_S
    ).stdout
    return time.perf_counter() - start, out.decode()


def tar(folder: Path) -> float:
    """Seconds that ``tar`` takes; not straight into /dev/null, into which it would write nothing."""
    return shell("tar c . | cat >/dev/null", folder)[0]


def find(n_files: int, folder: Path) -> float:
    """Seconds that ``find`` takes."""
    seconds, out = shell("find . -type f | wc -l", folder)
    assert int(out) == n_files, out
    return seconds


def cat(name: str, folder: Path) -> float:
    """Seconds that ``cat`` takes."""
    return shell(f"cat {name} >/dev/null", folder)[0]


def read_small(names: Sequence[str], is_listed: bool, folder: Path) -> float:
    """Seconds in which the small program opens and reads files."""
    command = [sys.executable, "-S", "-I", "-c", READER, str(folder), "listed" if is_listed else "known"]
    answer = subprocess.run(
        command, input="\n".join(names), check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S
    ).stdout.split()
    assert int(answer[1]) == len(names) * SMALL_BYTES
    return float(answer[0])


@dataclass(frozen=True, slots=True)
class Case:
    """Something that is measured.

    Attributes:
        name: What it is.
        folder: What it is done with.
        work: Does it in that folder, wherever that is; the seconds it took.
        amount: Of what is gone through: MiB, or files.
        unit: Which of them.
        n_files: How many files.
        cold_aim: Most times the seconds on disk that it should take; ``None``: there is no aim.
        warm_aim: Likewise.
    """

    name: str
    folder: str
    work: Callable[[Path], float]
    amount: float
    unit: str
    n_files: int
    cold_aim: float | None = None
    warm_aim: float | None = None


_WARMING = 2


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a case showed."""

    disk_s: float
    store_s: float
    cpu_s: float
    n_requests: int
    details: str


def drop_caches() -> None:
    """Have the kernel forget all files, but not the programs that both sides need.

    Raises:
        OSError: That is not allowed.
    """
    os.sync()
    DROP_CACHES.write_text("3", encoding="utf-8")
    for tool in [*TOOLS, [sys.executable, "-S", "-I", "-c", "pass"]]:
        subprocess.run(tool, check=True, stdout=subprocess.DEVNULL)


def may_drop_caches() -> bool:
    """Whether there can be cold figures."""
    try:
        drop_caches()
    except OSError as exc:
        print(f"the kernel's caches cannot be dropped ({exc.strerror}): no cold figures", flush=True)
        return False
    return True


def run(case: Case, store: Store, disk: Path, *, is_cold: bool) -> Run:
    """Do something on the disk and in a new mount."""

    def prepare(folder: Path) -> None:
        if is_cold:
            drop_caches()
        else:
            for _ in range(_WARMING):
                case.work(folder)

    prepare(disk / case.folder)
    disk_s = case.work(disk / case.folder)
    with mounted(store) as mount:
        folder = mount.root / store.names[case.folder]
        prepare(folder)
        cpu, n_writes = mount.cpu_seconds(), mount.n_writes()
        store_s = case.work(folder)
        cpu, n_writes = mount.cpu_seconds() - cpu, mount.n_writes() - n_writes
    if not is_cold:
        return Run(disk_s, store_s, cpu, n_writes, "")
    counts = {name: count for name, count in mount.requests.items() if name not in ("INIT", "DESTROY")}
    details = ", ".join(f"{name} {count}" for name, count in counts.items()) + f"; {mount.n_pushed} files pushed"
    return Run(disk_s, store_s, cpu, sum(counts.values()), details)


# --- the comparison -------------------------------------------------------------------------------------------------


def compare(cases: Sequence[Case], store: Store, disk: Path, runs: int, temperatures: Sequence[str]) -> None:
    """Run everything ``runs`` times and once more, and print medians and ratios."""
    print(f"{'':36} {'disk':>15} {'store':>15} {'ratio':>7} {'aim':>6} {'held':>5} {'CPU':>7} {'requests':>9}   a file")
    details: dict[str, str] = {}
    for case in cases:
        for temperature in temperatures:
            is_cold = temperature == "cold"
            measured = [run(case, store, disk, is_cold=is_cold) for _ in range(runs + 1)][1:]
            ratio = statistics.median(one.store_s / one.disk_s for one in measured)
            theirs = case.amount / statistics.median(one.disk_s for one in measured)
            mine = case.amount / statistics.median(one.store_s for one in measured)
            cpu = statistics.median(one.cpu_s for one in measured)
            n_requests = statistics.median(one.n_requests for one in measured)
            aim = case.cold_aim if is_cold else case.warm_aim
            wanted = "" if aim is None else f"{aim:.2f}x"
            held = "" if aim is None else "yes" if ratio <= aim else "no"
            label = f"{case.name}, {temperature}"
            print(
                f"{label:36} {theirs:7.0f} {case.unit:7} {mine:7.0f} {case.unit:7} {ratio:6.2f}x {wanted:>6} {held:>5}"
                f" {cpu:6.2f}s {n_requests:9.0f} {n_requests / case.n_files:8.3f}",
                flush=True,
            )
            if is_cold:
                details[label] = measured[-1].details
    if details:
        print("requests of the last cold run:")
        for label, text in details.items():
            print(f"  {label}: {text}")


def print_memory(store: Store, n_walked: int) -> None:
    """Resident memory of the process that serves a mount: idle, after a walk, after everything was read."""
    labels: Mapping[str, tuple[str, Callable[[Path], object]]] = {
        "idle": ("tree", lambda folder: None),
        f"find and stat of {n_walked} files": ("many", lambda folder: shell("find . -printf '%s\\n' | wc -l", folder)),
        "tar of the tree": ("tree", tar),
    }
    print(f"{'memory of the mount':36} {'resident':>12} {'peak':>12}")
    for label, (name, work) in labels.items():
        with mounted(store) as mount:
            work(mount.root / store.names[name])
            resident, peak = mount.status("VmRSS"), mount.status("VmHWM")
        print(f"{label:36} {resident:8.0f} MiB {peak:8.0f} MiB", flush=True)


def measured_cases(disk: Path, names: Sequence[str], large_mib: int) -> list[Case]:
    """What is compared."""
    files = regular_files(str(disk / "tree"))
    tree_mib = sum(os.path.getsize(path) for path in files) / MIB
    tree = Case("tar c", "tree", tar, tree_mib, "MiB/s", len(files), 2.0, 1.2)
    walk = replace(
        tree,
        name="find -type f",
        work=partial(find, len(files)),
        amount=len(files),
        unit="files/s",
        cold_aim=None,
        warm_aim=None,
    )
    shuffled = random.Random(3).sample(names, len(names))
    large = [
        Case(f"cat of {large_mib} MiB, {name}", "large", partial(cat, name), large_mib, "MiB/s", 1, 2.0)
        for name in ("random", "words")
    ]
    small = [
        Case(f"{SMALL_BYTES // KIB} KiB files, {label}", "small", work, len(names), "files/s", len(names))
        for label, work in (
            ("in order", partial(read_small, names, True)),
            ("random order", partial(read_small, shuffled, True)),
            ("not listed", partial(read_small, names, False)),
        )
    ]
    return [tree, walk, *large, *small]


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", default="/usr/share", help="tree to work on (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=1024, help="size of each large file (default: %(default)s)")
    parser.add_argument("--files", type=int, default=10_000, help="how many small files (default: %(default)s)")
    parser.add_argument("--walked", type=int, default=100_000, help="files walked for memory (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has this in its name; or: memory")
    parser.add_argument("--quick", action="store_true", help="little of everything, once: to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.tree = str(Path(__file__).parents[2] / "core")
        options.runs, options.mib, options.files, options.walked = 1, 8, 500, 2000
    with scratch() as directory:
        disk = directory / "disk"
        disk.mkdir()
        # Several names of one file would be one file in the archive of the disk, and several in that of the store.
        subprocess.run(["cp", "-a", "--no-preserve=links", options.tree, str(disk / "tree")], check=True)
        write_large(disk / "large", options.mib * MIB)
        names = write_small(disk / "small", options.files)
        write_many(disk / "many", options.walked)
        store = Store(directory)
        store.take([disk / name for name in ("tree", "large", "small", "many")])
        cases = measured_cases(disk, names, options.mib)
        print(
            f"{options.tree}: {cases[0].n_files} files, {cases[0].amount:.0f} MiB; everything in the store takes "
            f"{store.blob_bytes() / MIB:.0f} MiB; {len(os.sched_getaffinity(0))} cores",
            flush=True,
        )
        chosen = [case for case in cases if options.only in case.name]
        temperatures = ["cold", "warm"] if may_drop_caches() else ["warm"]
        if chosen:
            compare(chosen, store, disk, options.runs, temperatures)
        if options.only in ("", "memory"):
            print_memory(store, options.walked)


if __name__ == "__main__":
    main()
