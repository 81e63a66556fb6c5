"""Stores whose parts fail keep the promises of the design.

A run can be repeated with the seed it prints, and made longer: ``CHAOS_SEED=5 CHAOS_STEPS=1000000 pytest tests/chaos``.
"""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from chaos.chains import CHAINS
from chaos.drive import drive
from chaos.machine import Tally

_STEPS = int(os.environ.get("CHAOS_STEPS", "50000"))
_SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(2**32)))


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.timeout(max(600, _STEPS // 50))
def test_the_promises_hold(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    began = time.monotonic()
    try:
        with asyncio.Runner() as runner:
            seed = _SEED + 1_000_000 * list(CHAINS).index(name)
            drive(CHAINS[name], runner, tally, n_steps=_STEPS // len(CHAINS), seed=seed)
    finally:
        with capsys.disabled():
            seconds = time.monotonic() - began
            print(f"\n{name}: {tally.n_operations} steps and {tally.n_checks} checks of all in {seconds:.1f} s")
            print(f"  CHAOS_SEED={_SEED} {dict(tally.events)}")
