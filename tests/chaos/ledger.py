"""What was acknowledged, and what follows from it for what a store may answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum

__all__ = ["Ledger", "State", "Wrong"]


class Wrong(AssertionError):
    """A promise that was broken."""


class State(Enum):
    """What is known of one object."""

    ABSENT = "absent"
    """Nobody ever tried to put it."""

    MAYBE = "maybe"
    """A put of it was begun and has not ended well, or it was deleted: it may be there, as a whole, or not."""

    KEPT = "kept"
    """A put of it returned: it is there."""


class Ledger:
    """The states of all objects, by a key of any kind."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def state(self, key: str) -> State:
        return self._states.get(key, State.ABSENT)

    def states(self, keys: Iterable[str]) -> Mapping[str, State]:
        """What is known before a call; to be compared with its answer, since others may put meanwhile."""
        return {key: self.state(key) for key in keys}

    @contextmanager
    def putting(self, keys: Iterable[str]) -> Iterator[None]:
        """While they are put: kept if that ends well."""
        keys = list(keys)
        for key in keys:
            self._states[key] = State.MAYBE if self.state(key) is State.ABSENT else self.state(key)
        yield
        for key in keys:
            self._states[key] = State.KEPT

    def deleting(self, keys: Iterable[str]) -> None:
        """They are about to be deleted."""
        for key in keys:
            if self.state(key) is State.KEPT:
                self._states[key] = State.MAYBE

    def check(self, before: Mapping[str, State], key: str, is_there: bool) -> None:
        """Compare an answer with what was known before the question, and is known now."""
        if not is_there and before[key] is State.KEPT:
            raise Wrong(f"{key} was acknowledged, and is said to be absent")
        if is_there and self.state(key) is State.ABSENT:
            raise Wrong(f"{key} was never put, and is said to be there")
