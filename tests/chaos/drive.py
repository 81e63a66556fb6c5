"""Runs machines until enough was done."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from typing import cast

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky, FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from chaos.chains import Chain
from chaos.machine import ChaosMachine, Tally

__all__ = ["drive"]

_RULES_PER_MACHINE = 50
_MACHINES_PER_SEED = 10


def drive(
    chain: Chain,
    runner: asyncio.Runner,
    tally: Tally,
    *,
    n_steps: int,
    seed: int,
    phases: Sequence[Phase] = (Phase.generate, Phase.shrink),
) -> None:
    """Run machines until there were ``n_steps`` operations; fail with the shortest that fails.

    Args:
        chain: What is driven.
        runner: Of the loop for all of them.
        tally: Counts what is done.
        n_steps: How many operations.
        seed: The same one, and those that follow it, give the same machines.
        phases: Without ``shrink`` it fails with the first.
    """
    logging.disable()  # what fails on purpose, and what is found, would be told of thousands of times
    try:
        while tally.n_operations < n_steps:
            run_state_machine_as_test(
                cast(type[RuleBasedStateMachine], hypothesis.seed(seed)(lambda: ChaosMachine(chain, runner, tally))),
                settings=settings(
                    max_examples=_MACHINES_PER_SEED,
                    stateful_step_count=_RULES_PER_MACHINE,
                    deadline=None,
                    database=None,
                    print_blob=True,
                    report_multiple_bugs=False,
                    phases=phases,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            seed += 1
            gc.collect()
    except (Flaky, FlakyStrategyDefinition) as exc:
        raise (tally.failure or exc) from exc
    finally:
        logging.disable(logging.NOTSET)
