"""How a program ends that has a frontend which may end by itself, with real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.test_workers import LARGE_BYTES, Workers, begun_downloads, configuration, free_port
from fakes.told import END, FAIL, install_told

MOUNT = '[frontends.mount]\ntype = "told"\n'
KEPT = '[frontends.kept]\ntype = "told"\nkeeps = true\n'
ONCE_MORE = "SIGTERM: finishing what is under way; once more to end at once"
ENDED = "mount has ended: finishing what is under way"


@pytest.fixture(autouse=True)
def _told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", install_told(tmp_path / "site"))


def started(folder: Path, more: str, workers: int = 1, type_: str = "http") -> Workers:
    path = configuration(
        folder, f"127.0.0.1:{free_port()}", workers=workers, type_=type_, more=f"drain_s = 3600.0\n{more}"
    )
    server = Workers(path)
    server.url = server.logged("main listens on").rpartition("listens on ")[2]
    return server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Workers]:
    """A binary cache by two processes, and a frontend that is told what to do."""
    with started(tmp_path, MOUNT, workers=2) as server:
        yield server


def all_arrive(server: Workers, told: int, *, then: str, again: int | None = None) -> int:
    """Tell it something while each process has a response under way; the status it ends with once all are read."""
    with ExitStack() as stack:
        downloads = begun_downloads(server, stack)
        os.kill(server.pid, told)
        server.logged(then)
        if again is not None:
            os.kill(server.pid, again)
            server.logged(ONCE_MORE)
        for response in downloads.values():
            assert len(response.read()) > LARGE_BYTES
        return server.status()


def test_the_end_of_one_lets_the_others_finish(server: Workers) -> None:
    assert all_arrive(server, END, then=ENDED) == 0
    assert sum("has ended" in line for line in server.log) == 1
    assert sum(line.endswith(": stopped") for line in server.log) == 2
    assert not [line for line in server.log if "WARNING" in line]


def test_a_signal_after_that_is_the_first(server: Workers) -> None:
    assert all_arrive(server, END, then=ENDED, again=signal.SIGTERM) == 0


def test_the_failure_of_one_lets_the_others_finish(server: Workers) -> None:
    assert all_arrive(server, FAIL, then="finishing what is under way") == 1
    assert "error: mount was told to fail" in server.log
    assert not [line for line in server.log if "has ended" in line]


def test_a_signal_after_a_failure_does_not_cut_them_off(server: Workers) -> None:
    assert all_arrive(server, FAIL, then="finishing what is under way", again=signal.SIGTERM) == 1


def test_a_grpc_server_ends_with_it(tmp_path: Path) -> None:
    with started(tmp_path, MOUNT, type_="grpc") as server:
        assert server.stop(END) == 0
        assert server.log[-1].endswith("stopped")


def test_who_ends_at_once_gives_back_what_would_stay(tmp_path: Path) -> None:
    with started(tmp_path, KEPT + MOUNT) as server, ExitStack() as stack:
        begun_downloads(server, stack)
        os.kill(server.pid, signal.SIGTERM)
        server.logged(ONCE_MORE)
        os.kill(server.pid, signal.SIGTERM)
        assert server.status() == 128 + signal.SIGTERM
        assert [line for line in server.log if line.endswith("kept may have left something behind")]
        assert [line for line in server.log if line.endswith("mount is abandoned")]


def test_two_signals_at_the_same_moment_are_two(tmp_path: Path) -> None:
    with started(tmp_path, KEPT + MOUNT) as server, ExitStack() as stack:
        begun_downloads(server, stack)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            os.kill(server.pid, number)
        assert server.status() in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_who_finishes_has_nothing_to_give_back(tmp_path: Path) -> None:
    with started(tmp_path, MOUNT) as server:
        assert server.stop() == 0
        assert not [line for line in server.log if "abandoned" in line]
