"""An upload to one or two sides of a cache: what those of a blob and of a closure have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Generic, TypeVar

from tvix_store.errors import StoreError, Unavailable
from tvix_store.resource import AsyncResource, task_group
from tvix_store_cache.remembered import Remembered

__all__ = ["SidesUpload", "opened"]

U = TypeVar("U", bound=AsyncResource)


async def opened(uploads: Iterable[Awaitable[U]]) -> Sequence[U]:
    """All of these; if one cannot be opened, those before it are closed."""
    async with AsyncExitStack() as stack:
        found: list[U] = []
        for upload in uploads:
            found.append(resource := await upload)
            stack.push_async_callback(resource.aclose)
        stack.pop_all()
    return found


class SidesUpload(AsyncResource, Generic[U]):
    """Does the same at each side. What fails once has failed for good.

    Args:
        name: Of the cache.
        what: Is uploaded, for messages.
        uploads: In the order in which they are finished; closed with this.
        absent: Forgets what was uploaded.
    """

    def __init__(self, name: str, what: str, uploads: Sequence[U], absent: Remembered) -> None:
        self._name = name
        self._what = what
        self._uploads = uploads
        self._absent = absent
        self._failure: StoreError | None = None

    def _begin(self) -> None:
        """Go on, unless something failed; what is cancelled has failed, too.

        Raises:
            StoreError: What did.
        """
        if self._failure is not None:
            raise self._failure
        self._failure = Unavailable(f"{self._name}: the upload of {self._what} was interrupted")

    async def _at_each(self, step: Callable[[U], Awaitable[None]]) -> None:
        """Take a step at each side, at the same time."""
        self._begin()
        try:
            if len(self._uploads) == 1:
                await step(self._uploads[0])
            else:
                async with task_group() as group:
                    for upload in self._uploads:
                        group.create_task(_taken(step, upload))
        except StoreError as exc:
            self._failure = exc
            raise
        self._failure = None

    async def aclose(self) -> None:
        async with AsyncExitStack() as stack:
            for upload in self._uploads:
                stack.push_async_callback(upload.aclose)


async def _taken(step: Callable[[U], Awaitable[None]], upload: U) -> None:
    await step(upload)
