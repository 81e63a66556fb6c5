"""``compact``: every store that can be."""

from __future__ import annotations

import pytest

from fakes.program import Program, Toml
from tvix_store.capabilities import Capabilities
from tvix_store_memory.blob import MemoryBlobService

MEMORY = '[blobservices.root]\ntype = "memory"\n[blobservices.spare]\ntype = "memory"\n'


def test_what_cannot_be_compacted_is_passed_over(program: Program, toml: Toml) -> None:
    result = program("compact", "--config", toml(MEMORY))
    assert (result.code, result.out, result.err) == (0, b"", "none of the stores can be compacted\n")


def test_bytes_are_told_for_each_store(program: Program, toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    async def compact(service: MemoryBlobService) -> int:
        return 4096

    monkeypatch.setattr(MemoryBlobService, "compact", compact)
    monkeypatch.setattr(MemoryBlobService, "capabilities", Capabilities(compact=True))
    result = program("compact", "--config", toml(MEMORY))
    assert result.lines == ["[blobservices.root]: 4096 bytes freed", "[blobservices.spare]: 4096 bytes freed"]
    assert result.err == ""
