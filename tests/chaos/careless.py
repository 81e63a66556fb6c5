"""A plugin whose one combinator breaks promises, each in a way that is easily written by mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from tvix_store.around import Around, AroundBlobService, Call
from tvix_store.blob import BlobService
from tvix_store.config import BlobServiceConfig, BlobServiceRef, Context
from tvix_store.errors import Unavailable
from tvix_store.hookspecs import hookimpl

T = TypeVar("T")

_MISSES: dict[str, object] = {"has": False, "open_read": None, "chunks": None}

_tasks: set[asyncio.Task[None]] = set()


class _Careless(Around):
    def __init__(self, mistake: str) -> None:
        self._mistake = mistake

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        match self._mistake, call.method:
            case ("a failure is a miss", "has" | "open_read" | "chunks"):
                try:
                    return await operation()
                except Unavailable:
                    return _MISSES[call.method]  # type: ignore[return-value]  # on purpose
            case ("a failed put is fine", "put_many"):
                try:
                    return await operation()
                except Unavailable:
                    return None  # type: ignore[return-value]  # on purpose
            case ("a task goes on", "has"):
                _tasks.add(asyncio.create_task(asyncio.Event().wait()))  # type: ignore[arg-type]  # on purpose
            case ("nobody looks at a failure", "has"):
                asyncio.create_task(_fail())  # noqa: RUF006 - on purpose
        return await operation()


async def _fail() -> None:
    raise Unavailable("nobody will see this")


class CarelessBlobs(BlobServiceConfig):
    """Blobs of another service, with a mistake."""

    type: Literal["careless"]
    inner: BlobServiceRef
    mistake: str

    async def build(self, name: str, context: Context) -> BlobService:
        return AroundBlobService(await context.blob_service(self.inner), _Careless(self.mistake))


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [CarelessBlobs]
