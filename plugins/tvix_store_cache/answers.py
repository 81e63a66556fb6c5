"""What a service said of what it has and what it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tvix_store.errors import CorruptObject
from tvix_store_cache.remembered import Look, Remembered

__all__ = ["Answers", "Asking"]


class Asking:
    """A question on its way."""

    def __init__(self, answers: Answers, present: Look, absent: Look) -> None:
        self._answers = answers
        self._present = present
        self._absent = absent

    def learn(self, keys: Iterable[bytes], hits: Iterable[bool]) -> None:
        """Which of these are there, for as long as either is remembered."""
        there: list[bytes] = []
        gone: list[bytes] = []
        for key, hit in zip(keys, hits, strict=True):
            (there if hit else gone).append(key)
        self._answers.present.forget(gone)
        self._present.remember(there)
        self._absent.remember(gone)


class Answers:
    """What was said, as far as nothing is known to have changed since.

    Args:
        present: Remembers what is there.
        absent: Remembers what is not.
    """

    def __init__(self, present: Remembered, absent: Remembered) -> None:
        self.present = present
        self.absent = absent

    @contextmanager
    def asking(self) -> Iterator[Asking]:
        """Around a question. What is corrupt is forgotten by the service, and may have been part of other objects."""
        with self.present.look() as present, self.absent.look() as absent:
            try:
                yield Asking(self, present, absent)
            except CorruptObject:
                self.lost()
                raise

    @contextmanager
    def putting(self, keys: Iterable[bytes]) -> Iterator[None]:
        """Around a put of these: they are there afterwards, and may be there if it fails."""
        keys = list(keys)
        with self.present.look() as look:
            try:
                yield
            finally:
                self.absent.forget(keys)
            look.remember(keys)

    def put_something(self) -> None:
        """Something was put, or may have been, and nobody knows under which key."""
        self.absent.clear()

    def lost(self) -> None:
        """Something is gone, and others that were part of it may be."""
        self.present.clear()
