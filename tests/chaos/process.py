"""A program with a composition, which ends and begins again over the same leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from functools import cache
from typing import Any, TypeVar

from chaos import careless, standing
from chaos.chains import Chain
from chaos.client import Client
from chaos.ledger import Ledger, Wrong
from tvix_store.composition import Composition
from tvix_store.errors import Unavailable
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store_fault.blob import FaultBlobService
from tvix_store_fault.directory import FaultDirectoryService
from tvix_store_fault.faults import FaultRates, Faults
from tvix_store_fault.path_info import FaultPathInfoService

__all__ = ["Process"]

T = TypeVar("T")

_MAX_TRIES = 1000


@cache
def registry() -> Registry:
    """The plugins that are installed, and those of the tests."""
    plugins = Registry.load()
    plugins.add(standing)
    plugins.add(careless)
    return plugins


class Process:
    """What is driven: a composition in the loop of a runner, with the faults of its leaves.

    Args:
        chain: What it is made of.
        folder: Where its files are.
        seed: Of the dice.
        runner: Shared by one process after the other.
    """

    def __init__(self, chain: Chain, folder: str, seed: int, runner: asyncio.Runner) -> None:
        self.chain = chain
        self.ledger = Ledger()
        self.complaints: list[str] = []
        self.hanging = asyncio.Event()
        self._was_ill = False
        self._folder = folder
        self._composition: Composition | None = None
        self._seed = seed
        self._loop = runner.get_loop()
        self._faults: dict[tuple[str, str], Faults] = {}
        standing.clear()

    def call(self, operation: Coroutine[Any, Any, T]) -> T:
        """The result of an operation, and of nothing else."""
        return self._loop.run_until_complete(operation)

    async def begin(self) -> None:
        """Build the composition."""
        self._loop.set_exception_handler(lambda _, context: self.complaints.append(str(context)))
        document = self.chain.document(self._folder, self._seed)
        self._seed += 1
        config = StoreConfig.parse(document, registry(), "chaos")
        self._composition = composition = Composition(config, registry())
        self.client = Client(await composition.services(), self.ledger, self.chain.lists_everything)
        for entry in await composition.entries():
            service = getattr(entry.service, "inner", None)
            if isinstance(service, FaultBlobService | FaultDirectoryService | FaultPathInfoService):
                key = entry.entry_id.name, entry.entry_id.kind.value
                before, faults = self._faults.get(key), service.faults
                self._faults[key] = faults
                faults.hanging = self.hanging
                if before is not None:
                    faults.rates = before.rates
                    if before.is_crashed:
                        faults.crash()

    async def end(self) -> None:
        """Close the composition, and see that nothing is left of it."""
        if self._composition is None:
            return
        composition, self._composition = self._composition, None
        await composition.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            raise Wrong(f"tasks go on after the composition was closed: {left}")
        if self.complaints:
            raise Wrong(f"nobody looked at: {self.complaints}")

    async def restart(self) -> None:
        """End and begin again: what was in memory is gone, the leaves are as they were."""
        await self.end()
        await self.begin()

    @property
    def leaves(self) -> list[str]:
        """The names of those that fail."""
        return sorted({name for name, _ in self._faults})

    def faults_of(self, leaf: str) -> Iterator[Faults]:
        """Those of its blobs, directories and path infos."""
        return (faults for (name, _), faults in sorted(self._faults.items()) if name == leaf)

    @property
    def may_fail(self) -> bool:
        """Whether something fails on purpose, or did and that may not have been noticed."""
        if any(faults.is_crashed or faults.rates != FaultRates() for faults in self._faults.values()):
            return True
        return self._was_ill and self.chain.recovers_late

    def note_trouble(self) -> None:
        """Something begins to fail on purpose, perhaps for one operation only."""
        self._was_ill = True

    @property
    def may_hang(self) -> bool:
        """Whether something waits for ever on purpose."""
        return any(faults.rates.hang_rate for faults in self._faults.values())

    @property
    def may_be_corrupt(self) -> bool:
        """Whether something gives wrong bytes on purpose."""
        rates = [faults.rates for faults in self._faults.values()]
        return any(rate.corrupt_rate or rate.truncate_rate for rate in rates)

    async def heal(self) -> None:
        """Nothing fails from now on; wait for what takes its time to notice."""
        for faults in self._faults.values():
            faults.heal()
            faults.rates = FaultRates()
        for _ in range(_MAX_TRIES):
            try:
                await self.client.has_blobs(0)
                await self.client.get_directories(0)
                await self.client.get_path_infos(0)
            except Unavailable:
                if not self.chain.recovers_late:
                    raise
                await asyncio.sleep(0.001)
            else:
                self._was_ill = False
                return
        raise Wrong("what was healed does not recover")
