"""Services whose calls are written down, and can be made to fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from tvix_store.around import Around, Call

__all__ = ["Recorder"]

T = TypeVar("T")


class Recorder(Around):
    """Put around a service, such as ``AroundBlobService(MemoryBlobService(), recorder)``.

    Attributes:
        calls: What was called, such as ``("get_many", 3)``, in the order of the beginnings.
        failure: Raised instead of making the call, while it is set.
        failing: The methods that fail; empty: all of them.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.failure: Exception | None = None
        self.failing: Collection[str] = ()

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        self.calls.append((call.method, call.n_objects))
        if self.failure is not None and (not self.failing or call.method in self.failing):
            raise self.failure
        return await operation()

    @property
    def methods(self) -> list[str]:
        """What was called, without the numbers."""
        return [method for method, _ in self.calls]
