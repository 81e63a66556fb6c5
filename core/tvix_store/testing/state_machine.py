"""How a state machine of hypothesis, which is synchronous, gets hold of a service, which is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tvix_store.errors import Unsupported

__all__ = ["Factory", "ServiceMachine", "run_machine"]

S = TypeVar("S")
R = TypeVar("R")

Factory = Callable[[], AbstractAsyncContextManager[S]]


def run_machine(machine: Callable[[], RuleBasedStateMachine], max_examples: int, max_steps: int) -> None:
    """Run ``max_examples`` machines for up to ``max_steps`` operations each; fail with the shortest that fails."""
    run_state_machine_as_test(
        cast(type[RuleBasedStateMachine], machine),  # any factory of machines will do
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=max_steps,
            deadline=None,
            report_multiple_bugs=False,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=list(HealthCheck),
        ),
    )


class _HeldOpen(Generic[S]):
    """A service held open by one task of a loop of its own, which runs what synchronous code asks for.

    One task, because what a service opens may have to be closed by the task that opened it.
    """

    def __init__(self, factory: Factory[S]) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._calls: asyncio.Queue[tuple[Awaitable[Any], asyncio.Future[Any]] | None] = asyncio.Queue()
        opened: asyncio.Future[S] = self._loop.create_future()
        self._task = self._loop.create_task(self._hold(factory, opened))
        try:
            self.service = self._loop.run_until_complete(opened)
        except BaseException:
            self._runner.close()
            raise

    async def _hold(self, factory: Factory[S], opened: asyncio.Future[S]) -> None:
        try:
            async with factory() as service:
                opened.set_result(service)
                while (call := await self._calls.get()) is not None:
                    operation, answer = call
                    try:
                        answer.set_result(await operation)
                    except Exception as exc:
                        answer.set_exception(exc)
        except Exception as exc:
            if opened.done():
                raise
            opened.set_exception(exc)

    def call(self, operation: Coroutine[Any, Any, R]) -> R:
        answer: asyncio.Future[R] = self._loop.create_future()
        self._calls.put_nowait((operation, answer))
        return self._loop.run_until_complete(answer)

    def close(self) -> None:
        self._calls.put_nowait(None)
        try:
            self._loop.run_until_complete(self._task)
        finally:
            self._runner.close()


class ServiceMachine(RuleBasedStateMachine, Generic[S]):
    """A state machine that has a service."""

    def __init__(self, factory: Factory[S]) -> None:
        super().__init__()
        self._held: _HeldOpen[S] = _HeldOpen(factory)
        self.service = self._held.service

    def call(self, operation: Coroutine[Any, Any, R]) -> R:
        """The result of ``operation``, run in the loop of the service."""
        return self._held.call(operation)

    def listed(self, listing: Callable[[], AsyncIterator[R]], stated: bool) -> list[R] | None:
        """All that is listed; ``None`` if that is refused, as it has to be if it is not ``stated``."""

        async def collect() -> list[R] | None:
            try:
                found = [found async for found in listing()]
            except Unsupported:
                assert not stated, "list is refused, though capabilities stated it"
                return None
            assert stated, "list works, though capabilities did not state it before the call"
            return found

        return self.call(collect())

    def deleted(self, delete: Coroutine[Any, Any, None], stated: bool) -> bool:
        """Whether ``delete`` did what it does; it is refused if it is not ``stated``."""
        try:
            self.call(delete)
        except Unsupported:
            assert not stated, "delete is refused, though capabilities stated it"
            return False
        assert stated, "delete works, though capabilities did not state it before the call"
        return True

    def teardown(self) -> None:
        """Close the service."""
        self._held.close()
