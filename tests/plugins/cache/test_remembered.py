"""What is remembered of answers, and for how long."""

from __future__ import annotations

import pytest

from tvix_store.errors import CorruptObject
from tvix_store_cache.answers import Answers
from tvix_store_cache.remembered import Remembered


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def learn(memory: Remembered, *keys: bytes) -> None:
    with memory.look() as look:
        look.remember(keys)


def test_a_key_is_remembered_for_its_time() -> None:
    clock = Clock()
    memory = Remembered(10, 5, clock)
    learn(memory, b"a")
    clock.now += 9
    assert b"a" in memory
    clock.now += 1
    assert b"a" not in memory
    assert len(memory) == 0


def test_the_time_begins_again_with_each_answer() -> None:
    clock = Clock()
    memory = Remembered(10, 5, clock)
    learn(memory, b"a")
    clock.now += 9
    learn(memory, b"a")
    clock.now += 9
    assert b"a" in memory


def test_nothing_is_remembered_for_no_time() -> None:
    memory = Remembered(0, 5)
    learn(memory, b"a")
    assert len(memory) == 0


def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    memory = Remembered(10, 2, Clock())
    learn(memory, b"a", b"b")
    learn(memory, b"a", b"c")
    assert [key for key in (b"a", b"b", b"c") if key in memory] == [b"a", b"c"]


def test_what_is_forgotten_during_a_look_is_not_remembered_by_it() -> None:
    memory = Remembered(10, 5, Clock())
    with memory.look() as look, memory.look() as other:
        memory.forget([b"a"])
        look.remember([b"a", b"b"])
        other.remember([b"a"])
    assert (b"a" in memory, b"b" in memory) == (False, True)
    learn(memory, b"a")
    assert b"a" in memory


def test_a_look_during_which_all_was_forgotten_remembers_nothing() -> None:
    memory = Remembered(10, 5, Clock())
    with memory.look() as look:
        memory.clear()
        look.remember([b"a"])
    assert b"a" not in memory


def test_a_put_that_fails_makes_nothing_present_and_nothing_absent() -> None:
    answers = Answers(Remembered(10, 5, Clock()), Remembered(10, 5, Clock()))
    with answers.asking() as asking:
        asking.learn([b"a"], [False])
    with pytest.raises(OSError, match="torn"), answers.putting([b"a"]):
        raise OSError("torn")
    assert (b"a" in answers.present, b"a" in answers.absent) == (False, False)


def test_an_absent_answer_takes_a_present_one_back() -> None:
    answers = Answers(Remembered(10, 5, Clock()), Remembered(0, 5, Clock()))
    with answers.asking() as asking:
        asking.learn([b"a"], [True])
    with answers.asking() as asking:
        asking.learn([b"a"], [False])
    assert b"a" not in answers.present


def test_damage_takes_all_that_is_present_back() -> None:
    answers = Answers(Remembered(10, 5, Clock()), Remembered(10, 5, Clock()))
    with answers.asking() as asking:
        asking.learn([b"a"], [True])
    with pytest.raises(CorruptObject), answers.asking():
        raise CorruptObject("damaged")
    assert b"a" not in answers.present
