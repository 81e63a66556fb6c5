"""What is written down, and how much of it is kept."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tvix_store_guard.quarantine import Quarantine

pytestmark = pytest.mark.anyio


def noon() -> datetime:
    return datetime(2026, 1, 2, 12, tzinfo=UTC)


async def test_a_finding_is_a_line(tmp_path: Path) -> None:
    quarantine = Quarantine("guard", str(tmp_path), 1000, now=noon)
    await quarantine.note("blob", "blake3-x", "it is\nrotten")
    await quarantine.note("directory", None, "one of several")
    first, second = map(json.loads, (tmp_path / "corrupt.jsonl").read_text().splitlines())
    assert first == {
        "time": "2026-01-02T12:00:00.000+00:00",
        "entry": "guard",
        "kind": "blob",
        "digest": "blake3-x",
        "reason": "it is\nrotten",
    }
    assert (second["kind"], second["digest"]) == ("directory", None)


async def test_there_are_at_most_two_files_of_that_length(tmp_path: Path) -> None:
    quarantine = Quarantine("guard", str(tmp_path), 1000)
    for number in range(50):
        await quarantine.note("blob", f"blob {number}", "rotten")
    newer, older = (tmp_path / name for name in sorted(os.listdir(tmp_path)))
    assert (newer.name, older.name) == ("corrupt.jsonl", "corrupt.jsonl.1")
    assert max(newer.stat().st_size, older.stat().st_size) <= 1000
    assert "blob 49" in newer.read_text()


async def test_what_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    await Quarantine("guard", str(tmp_path / "file"), 1000).note("blob", None, "rotten")
    assert "guard: what is corrupt cannot be written to" in caplog.text
