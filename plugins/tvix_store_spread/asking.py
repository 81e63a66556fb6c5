"""Asking several services one after the other, in batches: who has it, who said that it is absent, who failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from tvix_store.errors import CorruptObject, InvalidObject, StoreError
from tvix_store.resource import task_group

__all__ = ["Asking", "Noticed", "in_their_order", "unnoticed"]

S = TypeVar("S")
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

Noticed = Callable[[K, Sequence[int]], None]
"""Is told of an object that was found, and of the members that lack it or may do so, by their positions."""


def unnoticed(key: object, lacking: Sequence[int]) -> None:
    """A ``Noticed`` for those to whom it makes no difference."""


def in_their_order(key: object) -> int:
    """Every object is asked for from the first member on."""
    return 0


class _Answers(Generic[K, T]):
    """What is known so far."""

    def __init__(self) -> None:
        self.found: dict[K, tuple[int, T]] = {}
        self.lacking: dict[K, list[int]] = {}
        self.failures: dict[K, StoreError] = {}

    def take(self, member: int, keys: Sequence[K], answers: Sequence[T | None]) -> None:
        for key, answer in zip(keys, answers, strict=True):
            if answer is None:
                self.lacking.setdefault(key, []).append(member)
            else:
                self.found[key] = member, answer

    def fail(self, member: int, keys: Sequence[K], error: StoreError) -> None:
        for key in keys:
            self.failures.setdefault(key, error)
        if isinstance(error, CorruptObject):  # core had it forget what is corrupt; it may lack others of a batch, too
            for key in keys:
                self.lacking.setdefault(key, []).append(member)

    def result(self, key: K) -> tuple[int, T] | None:
        """The member that has it and what it gave.

        Raises:
            StoreError: Nobody has it, and somebody could not say.
        """
        if key in self.found:
            return self.found[key]
        if key in self.failures:
            raise self.failures[key]
        return None


class Asking(Generic[S, K]):
    """Services that are asked in turn; the next is asked for what the ones before do not have.

    Args:
        members: The services.
        skips_errors: Whether the next is asked, too, for what one failed at. An error is raised in the end if nobody
            has the object: it might be where the error was. InvalidObject is about the question, and raised at once.
        start: With which member to begin for an object; the others follow in their order, around the end.
        noticed: Told of what was found where others lack it.
    """

    def __init__(
        self,
        members: Sequence[S],
        *,
        skips_errors: bool,
        start: Callable[[K], int] = in_their_order,
        noticed: Noticed[K] = unnoticed,
    ) -> None:
        self.members = members
        self.skips_errors = skips_errors
        self.start = start
        self.noticed = noticed

    def order(self, start: int) -> Sequence[int]:
        """Every member once, from ``start`` on."""
        return [(start + step) % len(self.members) for step in range(len(self.members))]

    async def first(self, key: K, ask: Callable[[S], Awaitable[T | None]]) -> T | None:
        """The answer of the first member that has the object; ``None`` if all say that it is absent."""
        found = await self.first_with_member(key, ask)
        return None if found is None else found[1]

    async def first_with_member(self, key: K, ask: Callable[[S], Awaitable[T | None]]) -> tuple[int, T] | None:
        """The same, with the member's position."""

        async def ask_one(member: S, keys: Sequence[K]) -> Sequence[T | None]:
            return [await ask(member)]

        return (await self._in_turn([key], ask_one)).result(key)

    async def many(
        self, keys: Sequence[K], ask: Callable[[S, Sequence[K]], Awaitable[Sequence[T | None]]]
    ) -> Sequence[T | None]:
        """The same for each of ``keys``, in their order: one batch for each member that has to be asked."""
        answers = await self._in_turn(keys, ask)
        results = [answers.result(key) for key in keys]
        return [None if result is None else result[1] for result in results]

    async def _in_turn(
        self, keys: Sequence[K], ask: Callable[[S, Sequence[K]], Awaitable[Sequence[T | None]]]
    ) -> _Answers[K, T]:
        answers: _Answers[K, T] = _Answers()
        starts = {key: self.start(key) for key in keys}

        async def ask_member(member: int, batch: Sequence[K]) -> None:
            try:
                answers.take(member, batch, await ask(self.members[member], batch))
            except InvalidObject:
                raise
            except StoreError as exc:
                if not self.skips_errors:
                    raise
                answers.fail(member, batch, exc)

        for step in range(len(self.members)):
            batches: dict[int, list[K]] = {}
            for key, start in starts.items():
                if key not in answers.found:
                    batches.setdefault((start + step) % len(self.members), []).append(key)
            if len(batches) == 1:
                ((member, batch),) = batches.items()
                await ask_member(member, batch)
            elif batches:
                async with task_group() as group:
                    for member, batch in batches.items():
                        group.create_task(ask_member(member, batch))
        for key, lacking in answers.lacking.items():
            if key in answers.found:
                self.noticed(key, lacking)
        return answers
