"""A mount of a store in another process that is killed, stopped, and comes back."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from chaos.daemon import Daemon
from e2e.fuse_mount import Mounted, add, require_fuse
from e2e.fuse_readers import Reader, far_store, over_far, until
from tvix_store.limits import MIB

T = TypeVar("T")

LARGE = random.Random(6).randbytes(3 * MIB)
N_FILES = 300
FOR_EVER = 3600.0
ABSENT = "0" * 32 + "-absent"


@pytest.fixture(autouse=True)
def _needs_fuse() -> None:
    require_fuse()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("source") / "tree"
    (tree / "many").mkdir(parents=True)
    (tree / "read").mkdir()
    (tree / "large").write_bytes(LARGE)
    (tree / "read" / "before").write_text("cached")
    for number in range(N_FILES):
        (tree / "many" / f"{number:03}").write_text(f"file {number}")
    return tree


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Chain:
    """A mount, the far store that it shows, and the store path in it."""

    def __init__(self, stack: ExitStack, folder: Path, tree: Path, timeout_s: float) -> None:
        self._stack = stack
        self._config = far_store(folder / "far")
        [name] = add(self._config, tree)
        self.far = stack.enter_context(Daemon(self._config))
        # Nothing is fetched ahead, so that it is known what the kernel has.
        config = over_far(
            folder / "far", folder / "mnt", timeout_s=timeout_s, prefetch_bytes=0, negative_s=0.0, list_root=True
        )
        self.mounted = stack.enter_context(Mounted.run(config, folder / "mnt"))
        self.root = self.mounted.path
        self.path = self.root / name
        self.large = self.path / "large"
        self.before = self.path / "read" / "before"
        self.large.stat()
        assert self.before.read_text() == "cached"

    def come_back(self) -> None:
        self.far = self._stack.enter_context(Daemon(self._config))

    def end(self) -> None:
        """Nothing that has happened keeps it from ending well."""
        self.mounted.interrupt()
        assert self.mounted.status() == 0
        assert not self.mounted.is_mounted


@pytest.fixture
def chain(stack: ExitStack, tmp_path: Path, tree: Path) -> Chain:
    """A far store that may be silent for ever."""
    return Chain(stack, tmp_path, tree, FOR_EVER)


@pytest.fixture
def hasty(stack: ExitStack, tmp_path: Path, tree: Path) -> Chain:
    """One that is not waited for."""
    return Chain(stack, tmp_path, tree, 0.2)


def outcome(call: Callable[[], T]) -> T | int:
    """What it gives, or the errno."""
    try:
        return call()
    except OSError as exc:
        return exc.errno or 0


# It is killed.


def test_what_cannot_be_fetched_is_an_io_error_and_never_absent(chain: Chain) -> None:
    chain.far.kill()
    for call in (
        chain.large.read_bytes,
        lambda: os.listdir(chain.path / "many"),
        (chain.path / "many" / "nothing").stat,
        lambda: os.listdir(chain.root),
        (chain.root / ABSENT).stat,
    ):
        assert outcome(call) == errno.EIO
    assert "far.sock" in chain.mounted.logged("WARNING")
    chain.end()


def test_what_was_read_before_stays_readable(chain: Chain) -> None:
    chain.far.kill()
    assert chain.before.read_text() == "cached"
    assert os.listdir(chain.path) == sorted(["large", "many", "read"])
    chain.end()


def test_many_failures_are_few_lines(chain: Chain) -> None:
    paths = sorted((chain.path / "many").iterdir())
    since = len(chain.mounted.log)
    chain.far.kill()
    assert [outcome(path.read_bytes) for path in paths] == [errno.EIO] * N_FILES
    chain.end()
    lines = [line for line in chain.mounted.log[since:] if "WARNING" in line]
    left_out = [int(found[1]) for line in lines if (found := re.search(r"and (\d+) more of the kind", line))]
    assert len(lines) < N_FILES / 10
    assert len(lines) - 1 + sum(left_out) >= N_FILES


def test_it_goes_on_when_the_store_is_back(chain: Chain) -> None:
    chain.far.kill()
    assert outcome(chain.large.read_bytes) == errno.EIO
    assert outcome((chain.path / "many" / "007").read_text) == errno.EIO
    chain.come_back()

    until(lambda: outcome(chain.large.read_bytes) != errno.EIO)
    assert chain.large.read_bytes() == LARGE
    assert (chain.path / "many" / "007").read_text() == "file 7"
    assert outcome((chain.root / ABSENT).stat) == errno.ENOENT
    chain.end()


def test_a_read_that_was_under_way_fails(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        chain.far.kill()
        assert reader.status() == errno.EIO
    chain.end()


# It is silent.


def test_whoever_asks_a_silent_store_is_told_in_time(hasty: Chain) -> None:
    hasty.far.pause()
    with Reader(hasty.large) as reader, Reader(hasty.path / "many", "list") as lister:
        assert reader.status() == errno.EIO
        assert lister.status() == errno.EIO
    assert outcome((hasty.root / ABSENT).stat) == errno.EIO
    assert "no answer within 0.2 s" in hasty.mounted.logged("WARNING")
    hasty.end()


def test_others_are_served_meanwhile(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        assert chain.before.read_text() == "cached"
        os.statvfs(chain.root)  # which is not remembered: it is asked
        chain.far.go_on()
        assert reader.read_on() == (0, LARGE)
    chain.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("what", ["read", "list"])
def test_who_is_killed_while_waiting_goes_away(chain: Chain, what: str, number: signal.Signals) -> None:
    chain.far.pause()
    with Reader(chain.large if what == "read" else chain.path / "many", what) as reader:
        reader.until_it_waits()
        reader.process.send_signal(number)
        assert reader.status() == -number
    chain.far.go_on()
    assert chain.large.read_bytes() == LARGE
    assert len(os.listdir(chain.path / "many")) == N_FILES
    chain.end()


def test_it_ends_while_the_store_is_silent(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        reader.process.kill()
        reader.status()
    chain.end()


# A read is in flight.


def test_a_read_in_flight_is_in_use(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        assert "busy" in chain.mounted.unmount().stderr
        chain.far.go_on()
        assert reader.read_on() == (0, LARGE)
    assert chain.mounted.unmount().returncode == 0
    assert chain.mounted.status() == 0


def test_a_lazy_unmount_lets_it_finish(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        assert chain.mounted.unmount("-l").returncode == 0
        assert not chain.mounted.is_mounted
        chain.far.go_on()
        assert reader.read_on() == (0, LARGE)
    assert chain.mounted.status() == 0


def test_a_forced_unmount_fails_it(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        chain.mounted.unmount("-f")
        assert reader.status() in (errno.ECONNABORTED, errno.ENOTCONN, errno.EIO)
    assert chain.mounted.status() == 0
    assert not chain.mounted.is_mounted


def test_a_signal_waits_for_it(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        chain.mounted.interrupt()
        assert f"({reader.process.pid})" in chain.mounted.logged("in use by")
        chain.far.go_on()
        assert reader.read_on() == (0, LARGE)
    assert chain.mounted.status() == 0


def test_a_second_signal_fails_it(chain: Chain) -> None:
    chain.far.pause()
    with Reader(chain.large) as reader:
        reader.until_it_waits()
        chain.mounted.interrupt()
        chain.mounted.logged("in use by")
        chain.mounted.interrupt()
        assert chain.mounted.status() == 130
        assert reader.status() in (errno.ECONNABORTED, errno.ENOTCONN, errno.EIO)
    assert not chain.mounted.is_mounted
