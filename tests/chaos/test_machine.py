"""The machine finds what breaks a promise."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import Phase

from chaos.chains import BLOBS, Chain, Entries, disk
from chaos.drive import drive
from chaos.ledger import Wrong
from chaos.machine import Tally

_LOST = r"was acknowledged, and is said to be absent|a chunk that is absent|is visible, and its contents are not"


def _chain(mistake: str) -> Chain:
    def entries(kind: str, folder: str) -> Entries:
        if kind != BLOBS:
            return disk("root", kind, folder)
        return {"root": {"type": "careless", "inner": "disk", "mistake": mistake}, **disk("disk", kind, folder)}

    return Chain(entries)


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        ("a failure is a miss", _LOST),
        ("a failed put is fine", _LOST),
        ("a task goes on", r"tasks go on after the composition was closed"),
        ("nobody looks at a failure", r"nobody looked at: .*never retrieved"),
    ],
)
def test_a_broken_promise_is_found(mistake: str, found: str) -> None:
    with asyncio.Runner() as runner, pytest.raises(Wrong, match=found):
        drive(_chain(mistake), runner, Tally(), n_steps=20_000, seed=1, phases=[Phase.generate])
