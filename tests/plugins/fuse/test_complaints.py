"""How often failures are written into the log."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.errors import CorruptObject, Unavailable
from tvix_store_fuse.complaints import Complaints

READ = 15


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def complaints(clock: Clock) -> Complaints:
    return Complaints("/mnt", clock)


def test_the_first_is_told_at_once(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.failed(Unavailable("far: gone"), READ)
    assert caplog.messages == ["/mnt: far: gone"]
    assert caplog.records[0].levelno == logging.WARNING


def test_one_line_a_second(complaints: Complaints, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):  # two and a half seconds
        complaints.failed(Unavailable(f"{number}"), READ)
        clock.now += 0.125
    assert caplog.messages == ["/mnt: 0", "/mnt: 8 (and 7 more of the kind)", "/mnt: 16 (and 7 more of the kind)"]


def test_what_was_left_out_is_told_at_the_end(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        complaints.failed(Unavailable("gone"), READ)
    complaints.tell_rest()
    complaints.tell_rest()
    assert caplog.messages == ["/mnt: gone", "/mnt: Unavailable (and 2 more of the kind)"]


def test_nothing_is_told_when_nothing_was_left_out(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.failed(Unavailable("gone"), READ)
    complaints.tell_rest()
    assert len(caplog.messages) == 1


def test_another_kind_is_told_between(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        complaints.failed(Unavailable("gone"), READ)
    complaints.failed(CorruptObject("damaged"), READ)
    assert caplog.messages == ["/mnt: gone", "/mnt: damaged"]


def test_a_bug_is_an_error_with_its_traceback(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.failed(KeyError("wrong"), READ)
    complaints.failed(KeyError("again"), READ)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.message == "/mnt: request 15 failed"


@given(st.lists(st.tuples(st.sampled_from([Unavailable, CorruptObject, KeyError]), st.floats(0, 3))))
def test_each_failure_is_counted_once(failures: list[tuple[type[Exception], float]]) -> None:
    clock, told, left_out = Clock(), 0, 0
    complaints = Complaints("/mnt", clock)

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal told, left_out
            message = record.getMessage()
            told += "what" in message or "failed" in message
            if "(and " in message:
                left_out += int(message.rpartition("(and ")[2].split()[0])

    logger, handler = logging.getLogger("tvix_store_fuse.complaints"), Counting()
    logger.addHandler(handler)
    try:
        for class_, seconds in failures:
            complaints.failed(class_("what"), READ)
            clock.now += seconds
        complaints.tell_rest()
    finally:
        logger.removeHandler(handler)
    assert told + left_out == len(failures)
