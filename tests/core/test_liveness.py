"""Names that die with their process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tvix_store.errors import Unavailable
from tvix_store.liveness import Liveness

CHILD = Path(__file__).parent / "sqlite" / "child.py"
TOKENS = ("0123456789abcdef", "fedcba9876543210")


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return str(tmp_path / "store.sqlite-upload")


@pytest.fixture
def liveness(prefix: str) -> Iterator[Liveness]:
    liveness = Liveness(prefix)
    yield liveness
    liveness.close()


@pytest.fixture
def other(prefix: str) -> Iterator[Liveness]:
    other = Liveness(prefix)
    yield other
    other.close()


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def test_a_name_lives_until_it_is_finished(liveness: Liveness) -> None:
    one, two = liveness.start(), liveness.start()
    liveness.finish(one)
    liveness.finish(one)
    assert [liveness.is_alive(name) for name in (one, two)] == [False, True]
    assert liveness.start() not in (one, two)


def test_the_lock_is_called_after_the_token(tmp_path: Path, liveness: Liveness) -> None:
    assert names(tmp_path) == []
    token, number = liveness.start().split(":")
    assert number == "1"
    assert names(tmp_path) == [f"store.sqlite-upload-{token}"]
    liveness.close()
    assert names(tmp_path) == []


def test_others_see_it_alive_until_all_is_closed(liveness: Liveness, other: Liveness) -> None:
    name = liveness.start()
    other.remove_dead_locks()
    assert other.is_alive(name)
    liveness.finish(name)
    assert other.is_alive(name)
    liveness.close()
    assert not other.is_alive(name)
    assert not liveness.is_alive(name)


def test_names_of_a_killed_process_are_dead(tmp_path: Path, prefix: str, liveness: Liveness) -> None:
    command = [sys.executable, str(CHILD), "name-and-wait", prefix]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert liveness.is_alive(name)
        process.kill()
        process.wait()
        assert names(tmp_path) != []
        assert not liveness.is_alive(name)
        assert names(tmp_path) == []


def test_dead_locks_are_removed_and_no_others(tmp_path: Path, prefix: str, liveness: Liveness) -> None:
    dead, alive = (Path(f"{prefix}-{token}") for token in TOKENS)
    strangers = [Path(f"{prefix}-of-another-{TOKENS[0]}"), Path(f"{prefix}-notes")]
    for path in (dead, alive, *strangers):
        path.touch(0o600)
    descriptor = os.open(alive, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    liveness.remove_dead_locks()
    os.close(descriptor)
    assert names(tmp_path) == sorted(path.name for path in (alive, *strangers))


def test_what_is_no_name_is_dead_and_no_file_is_touched(tmp_path: Path, prefix: str, liveness: Liveness) -> None:
    (tmp_path / "store.sqlite-upload-x").mkdir()
    (tmp_path / "precious").touch()
    assert not any(liveness.is_alive(name) for name in ("", ":1", "x/../precious:1", f"{TOKENS[0]}:1"))
    assert names(tmp_path) == ["precious", "store.sqlite-upload-x"]


def test_where_no_lock_can_be_had_there_are_no_names(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the lock cannot be had"):
        Liveness(str(tmp_path / "missing" / "store")).start()


def test_after_closing_there_are_no_names(tmp_path: Path, liveness: Liveness) -> None:
    liveness.close()
    liveness.close()
    with pytest.raises(Unavailable, match="given up"):
        liveness.start()
    assert names(tmp_path) == []
