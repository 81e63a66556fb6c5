"""``serve``, with frontends of its own; ``tests/e2e/test_ends.py`` has processes and signals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

import pytest

from tvix_store.cli.run import serve
from tvix_store.config import Context, FrontendConfig, Kind
from tvix_store.errors import Unavailable
from tvix_store.frontend import Frontend
from tvix_store.registry import Registry
from tvix_store.store_config import SERVICE_KINDS, StoreConfig

pytestmark = pytest.mark.anyio

REGISTRY = Registry.load()


class Scripted(Frontend):
    """Serves nobody, and notes what becomes of it.

    Args:
        failure: What it raises when ``end`` is set; ``None``: it ends by itself then.
        returns: When cancelled, it returns at last, as if it had not been.
    """

    def __init__(self, failure: Exception | None = None, *, returns: bool = False) -> None:
        self.started = asyncio.Event()
        self.end = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.may_finish = asyncio.Event()
        self.finished = asyncio.Event()
        self._failure = failure
        self._returns = returns

    async def serve(self, ready: Callable[[str], None]) -> None:
        ready("nobody")
        self.started.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.may_finish.wait()
            self.finished.set()
            if not self._returns:
                raise
        if self._failure is not None:
            raise self._failure


async def serving(**frontends: Scripted) -> asyncio.Task[None]:
    """``serve`` with these, once all of them do, over stores in memory."""

    def entry(frontend: Frontend) -> FrontendConfig:
        class ScriptedConfig(FrontendConfig):
            type: Literal["scripted"]

            async def build(self, name: str, context: Context) -> Frontend:
                return frontend

        return ScriptedConfig(type="scripted")

    entries = {
        kind: {"root": REGISTRY.model(kind, "memory").model_validate({"type": "memory"})} for kind in SERVICE_KINDS
    }
    by_name = {name: entry(frontend) for name, frontend in frontends.items()}
    task = asyncio.create_task(serve(StoreConfig("test", {**entries, Kind.FRONTEND: by_name}), REGISTRY))
    for frontend in frontends.values():
        await frontend.started.wait()
    return task


async def test_when_one_ends_the_others_finish(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ending, other = Scripted(), Scripted()
    task = await serving(ending=ending, other=other)
    ending.end.set()
    await other.cancelled.wait()
    assert not task.done()
    other.may_finish.set()
    await task
    assert other.finished.is_set()
    assert [line for line in caplog.messages if "ha" in line] == ["ending has ended: finishing what is under way"]


async def test_the_last_one_ends_the_program() -> None:
    ending = Scripted()
    task = await serving(ending=ending)
    ending.end.set()
    await task


async def test_when_one_fails_the_others_finish(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    failing, other = Scripted(Unavailable("gone")), Scripted(returns=True)
    task = await serving(failing=failing, other=other)
    failing.end.set()
    await other.cancelled.wait()
    other.may_finish.set()
    with pytest.raises(Unavailable, match="gone"):
        await task
    assert other.finished.is_set()
    assert not [line for line in caplog.messages if "has ended" in line]


@pytest.mark.parametrize("failure", [None, Unavailable("gone")])
async def test_nobody_is_told_twice(failure: Exception | None) -> None:
    """A frontend that was told to end has ended, and another is still at it."""
    first, quick, slow = Scripted(failure), Scripted(returns=True), Scripted()
    task = await serving(first=first, quick=quick, slow=slow)
    first.end.set()
    await slow.cancelled.wait()
    quick.may_finish.set()
    await quick.finished.wait()
    for _ in range(10):  # for whoever would hear of its end
        await asyncio.sleep(0)
    slow.may_finish.set()
    await asyncio.wait([task])
    assert slow.finished.is_set()
    assert task.exception() is failure


async def test_to_abandon_does_nothing_unless_a_frontend_has_it() -> None:
    Scripted().abandon()
