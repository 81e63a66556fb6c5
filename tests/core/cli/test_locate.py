"""Locations that are not there, for each command that takes one."""

from __future__ import annotations

import pytest

from fakes.program import MIXED, SOURCE_PATHS, Program


@pytest.mark.parametrize("command", [["ls"], ["cat"], ["nar", "dump"], ["nar", "hash"]])
@pytest.mark.parametrize(
    ("location", "message"),
    [
        (SOURCE_PATHS["hello"], "no such path in the store"),
        (f"{MIXED}/void", "has no such file"),
        (f"{MIXED}/zero/void", "has no such file"),
        ("nonsense", "too short"),
        ("/nonsense", "is not below /nix/store"),
        (f"{MIXED}/..", "parent directory"),
    ],
)
def test_what_is_not_there_is_one_line(stored: Program, command: list[str], location: str, message: str) -> None:
    assert message in stored(*command, location).error()
