"""Doing the same in several replicas, of which some may fail."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from tvix_store.errors import InvalidObject, OutOfSpace, StoreError, Unavailable, Unsupported
from tvix_store.resource import task_group

__all__ = ["Quorum"]

logger = logging.getLogger(__name__)

M = TypeVar("M")
R = TypeVar("R")


class Quorum:
    """Calls that count as done once enough replicas have done them. All are waited for.

    Args:
        name: Of the entry, for messages.
        min_writes: How many are enough.

    Attributes:
        failed_writes: How often each replica failed at what the others did.
    """

    def __init__(self, name: str, min_writes: int) -> None:
        self._name = name
        self.min_writes = min_writes
        self.failed_writes: Counter[str] = Counter()
        self._failing: set[str] = set()  # told of in the log

    async def each(
        self,
        members: Mapping[str, M],
        what: str,
        call: Callable[[M], Awaitable[R]],
        failures: dict[str, StoreError] | None = None,
    ) -> dict[str, R]:
        """Make a call to each member at the same time.

        Args:
            members: By name.
            what: Is done, for messages.
            call: The call.
            failures: Of members that dropped out before; those of this call are added.

        Returns:
            What those gave that succeeded, in the order of ``members``.

        Raises:
            InvalidObject: One of them says so of the object; the others are given up.
            Unavailable: Too few succeeded; OutOfSpace or Unsupported if that is why all of the others failed.
        """
        failures = {} if failures is None else failures
        results: dict[str, R] = {}

        async def attempt(name: str, member: M) -> None:
            try:
                results[name] = await call(member)
                if name in self._failing:
                    self._failing.discard(name)
                    logger.info("%s: replica %s takes writes again", self._name, name)
            except InvalidObject:
                raise
            except StoreError as exc:
                failures[name] = exc
                self.failed_writes[name] += 1
                if name not in self._failing:  # one that is down fails at every put
                    self._failing.add(name)
                    logger.warning("%s: %s: replica %s failed: %s", self._name, what, name, exc)

        async with task_group() as group:
            for name, member in members.items():
                group.create_task(attempt(name, member))
        if len(results) < self.min_writes:
            raise self._too_few(what, failures)
        return {name: results[name] for name in members if name in results}

    def _too_few(self, what: str, failures: Mapping[str, StoreError]) -> StoreError:
        reasons = "; ".join(f"{name}: {failure}" for name, failure in failures.items())
        kind: type[StoreError] = Unavailable
        for special in (OutOfSpace, Unsupported):
            if all(isinstance(failure, special) for failure in failures.values()):
                kind = special
        error = kind(f"{self._name}: {what}: fewer than {self.min_writes} replicas succeeded: {reasons}")
        error.__cause__ = next(iter(failures.values()))
        return error
