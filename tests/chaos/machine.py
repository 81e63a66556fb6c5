"""Random operations on a store whose leaves fail, crash and come back, at random."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from chaos.chains import Chain
from chaos.client import DELETIONS, OPERATIONS
from chaos.ledger import Wrong
from chaos.process import Process
from tvix_store.errors import CorruptObject, DanglingReference, Unavailable
from tvix_store_fault.faults import FaultRates

__all__ = ["ChaosMachine", "Tally"]

TROUBLES: Mapping[str, FaultRates] = {
    "errors": FaultRates(error_rate=0.2),
    "lost answers": FaultRates(error_after_rate=0.2),
    "both": FaultRates(error_rate=0.1, error_after_rate=0.1),
    "full": FaultRates(out_of_space_rate=0.5),
    "wrong bytes": FaultRates(corrupt_rate=0.2),
    "early ends": FaultRates(truncate_rate=0.2),
    "short reads": FaultRates(short_read_rate=0.3),
    "late": FaultRates(max_latency_s=0.0005),
    "hanging": FaultRates(hang_rate=0.05),
    "everything": FaultRates(0.05, 0.05, 0.05, 0.01, 0.05, 0.05, 0.05),
}

_FOLDERS = "/dev/shm" if os.path.isdir("/dev/shm") else None  # in memory, since no power is cut here

_MAX_S = 60.0  # what takes longer hangs for ever

_WHICH = st.integers(0, 2**14 - 1)
_OPERATION = st.tuples(st.sampled_from(OPERATIONS), _WHICH)
_LEAF = st.integers(0, 7)


async def _in_time(operation: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(_MAX_S):
        await operation


class Tally:
    """How much was done."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.n_checks = 0  # operations that look at everything at once, beside those that were chosen
        self.failure: Exception | None = None  # the first, with what had been done by then

    @property
    def n_operations(self) -> int:
        return self.operations.total()


class ChaosMachine(RuleBasedStateMachine):
    """Drives one chain.

    Args:
        chain: Which.
        runner: Of the loop that it runs in.
        tally: Counts what is done.
    """

    def __init__(self, chain: Chain, runner: asyncio.Runner, tally: Tally) -> None:
        super().__init__()
        self._chain = chain
        self._runner = runner
        self._tally = tally
        self._folder = tempfile.TemporaryDirectory(dir=_FOLDERS)
        self._process: Process | None = None
        self._history: list[str] = []
        self._has_failed = False

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self._process = Process(self._chain, self._folder.name, seed, self._runner)
        self._call(f"begin with {seed}", self._process.begin())

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def _call(self, step: str, operation: Coroutine[Any, Any, None]) -> None:
        """Do something, and keep the first failure: the same steps need not lead to it again, where threads are."""
        if step:
            self._history.append(step)
        try:
            self.process.call(_in_time(operation))
        except Exception as exc:
            self._has_failed = True
            if self._tally.failure is None:
                self._tally.failure = exc
                exc.add_note("after these steps:\n  " + "\n  ".join(self._history))
            raise

    # Operations

    @rule(operations=st.lists(_OPERATION, min_size=10, max_size=60))
    def one_by_one(self, operations: Sequence[tuple[str, int]]) -> None:
        for operation in operations:
            self._call("", self._all([operation]))

    @rule(operations=st.lists(_OPERATION, min_size=2, max_size=8))
    def at_once(self, operations: Sequence[tuple[str, int]]) -> None:
        self._call(f"{len(operations)} at once", self._all(operations))

    @rule(operation=st.sampled_from(DELETIONS), which=_WHICH)
    def delete(self, operation: str, which: int) -> None:
        self._call("", self._all([(operation, which)]))

    @rule(operations=st.lists(_OPERATION, min_size=1, max_size=3), n_turns=st.integers(0, 40))
    def cancelled(self, operations: Sequence[tuple[str, int]], n_turns: int) -> None:
        self._call(f"{len(operations)} at once, cancelled after {n_turns} turns", self._cancelled(operations, n_turns))

    async def _all(self, operations: Sequence[tuple[str, int]]) -> None:
        """All of them at once."""
        if not self.process.may_hang and len(operations) == 1:
            await self._attempt(*operations[0])
            return
        is_patient = self._chain.times_out and operations[0][1] % 256 == 255
        await self._driven([self._attempt(*operation) for operation in operations], is_patient)

    async def _driven(self, attempts: Sequence[Coroutine[Any, Any, None]], is_patient: bool = False) -> None:
        """If one hangs all are cancelled, as somebody does who loses patience."""
        tasks = [asyncio.create_task(attempt) for attempt in attempts]
        if self.process.may_hang and not is_patient:
            self.process.hanging.clear()
            hanging = asyncio.create_task(self.process.hanging.wait())
            everything = asyncio.ensure_future(asyncio.wait(tasks))
            both: list[asyncio.Future[Any]] = [everything, hanging]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if hanging.done():
                self._tally.events["lost patience"] += 1
            hanging.cancel()
            await asyncio.wait([hanging])
            for task in tasks:
                task.cancel()
            await everything
        await self._ended(tasks)

    async def _cancelled(self, operations: Sequence[tuple[str, int]], n_turns: int) -> None:
        tasks = [asyncio.create_task(self._attempt(*operation)) for operation in operations]
        for _ in range(n_turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await self._ended(tasks)

    async def _ended(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                self._tally.events["cancelled"] += 1
            elif result is not None:
                raise result

    async def _attempt(self, operation: str, which: int) -> None:
        """One operation, which may fail only if something fails on purpose."""
        self._tally.operations[operation] += 1
        process = self.process
        may_fail, may_be_corrupt = process.may_fail, process.may_be_corrupt
        try:
            await process.client.do(operation, which)
        except Unavailable as exc:
            if not may_fail:
                raise Wrong(f"{operation} failed, though nothing does on purpose: {exc}") from exc
            self._tally.events[type(exc).__name__] += 1
            self._history.append(f"{operation} {which}: {exc}")
        except DanglingReference as exc:
            raise Wrong(f"{operation}: {exc}") from exc
        except CorruptObject as exc:
            if not may_be_corrupt:
                raise Wrong(f"{operation} found damage, though nothing damages on purpose: {exc}") from exc
            self._tally.events["CorruptObject"] += 1
            self._history.append(f"{operation} {which}: {exc}")
        except Wrong:
            self._history.append(f"{operation} {which}: wrong")
            raise
        except asyncio.CancelledError:
            self._history.append(f"{operation} {which}: cancelled")
            raise
        else:
            self._history.append(f"{operation} {which}")

    # What goes wrong

    def _leaf(self, leaf: int) -> str:
        return self.process.leaves[leaf % len(self.process.leaves)]

    @rule(leaf=_LEAF)
    def crash(self, leaf: int) -> None:
        """One leaf, with its blobs, directories and path infos."""
        self._tally.events["crash"] += 1
        self._history.append(f"crash of {self._leaf(leaf)}")
        self.process.note_trouble()
        for faults in self.process.faults_of(self._leaf(leaf)):
            faults.crash()

    @rule(leaf=_LEAF)
    def heal(self, leaf: int) -> None:
        """One leaf."""
        self._history.append(f"{self._leaf(leaf)} is well")
        for faults in self.process.faults_of(self._leaf(leaf)):
            faults.heal()
            faults.rates = FaultRates()

    @rule(leaf=_LEAF, kind=st.integers(0, 2), trouble=st.sampled_from(list(TROUBLES)))
    def trouble(self, leaf: int, kind: int, trouble: str) -> None:
        """One kind of one leaf begins to fail."""
        self._tally.events[trouble] += 1
        self._history.append(f"{self._leaf(leaf)} of kind {kind}: {trouble}")
        self.process.note_trouble()
        faulty = list(self.process.faults_of(self._leaf(leaf)))
        faulty[kind % len(faulty)].rates = TROUBLES[trouble]

    @rule(really=st.booleans())  # it takes as long as twenty operations
    def restart(self, really: bool) -> None:
        if not really:
            return
        self._tally.events["restart"] += 1
        self._call("restart", self.process.restart())

    @rule(leaf=_LEAF, which=_WHICH, heals=st.booleans())
    def crash_while_writing(self, leaf: int, which: int, heals: bool) -> None:
        """A blob whose upload is under way when a leaf crashes."""
        self._tally.operations["crash while writing"] += 1
        self.process.note_trouble()
        faulty = list(self.process.faults_of(self._leaf(leaf)))

        def crash() -> None:
            for faults in faulty:
                faults.crash()
                if heals:
                    faults.heal()

        self._call(
            f"crash of {self._leaf(leaf)} while blob {which} is written, heals: {heals}",
            self._driven([self._write(which, crash)]),
        )

    async def _write(self, which: int, crash: Callable[[], None]) -> None:
        may_be_corrupt = self.process.may_be_corrupt
        try:
            await self.process.client.write_blob(which, meanwhile=crash)
        except Unavailable:
            self._tally.events["Unavailable"] += 1
        except CorruptObject:
            if not may_be_corrupt:
                raise
            self._tally.events["CorruptObject"] += 1

    @rule(looks=st.sampled_from([False, False, False, True]))
    def all_is_well_again(self, looks: bool) -> None:
        """Nothing fails from now on; everything that was acknowledged is there."""
        self._call("all is well", self._look() if looks else self.process.heal())

    async def _look(self) -> None:
        await self.process.heal()
        self._tally.n_checks += await self.process.client.look_at_everything()

    def teardown(self) -> None:
        try:
            if self._process is not None and not self._has_failed:
                self._call("all is well at the end", self._look())
        finally:
            if self._process is not None:
                self._call("end", self._process.end())
            self._folder.cleanup()
