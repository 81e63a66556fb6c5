"""``stats``: a line for each store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.program import Program, Toml
from tvix_store.blob import BlobService
from tvix_store.cli.stats import EntryStats, _row
from tvix_store.composition import BuiltEntry
from tvix_store.config import Kind
from tvix_store.statistics import ServiceStats
from tvix_store.store_config import EntryId
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.plugin import MemoryBlobServiceConfig
from vectors.nar import TREES, materialise


def test_stats_count_what_was_imported(stored: Program) -> None:
    documents = json.loads(stored("stats", "--json").text)
    assert [document["kind"] for document in documents] == ["blob service", "directory service", "path info service"]
    assert {(document["name"], document["type"]) for document in documents} == {("root", "sqlite")}
    blobs, _, path_infos = documents
    assert blobs["objects"] > 1
    assert blobs["logical_bytes"] >= blobs["unique_bytes"] > 0
    assert blobs["stored_bytes"] > 0
    assert path_infos["objects"] == 1


def test_stats_are_a_table_for_people(stored: Program) -> None:
    header, *rows = stored("stats").lines
    assert header.split() == [
        *("NAME", "KIND", "TYPE", "OBJECTS", "LOGICAL", "UNIQUE", "STORED", "DEDUP", "COMPRESSION", "DETAILS"),
    ]
    assert [row.split()[:2] for row in rows] == [["root", "blob"], ["root", "directory"], ["root", "path"]]
    assert "bytes" in rows[0] or "kB" in rows[0]


def test_numbers_are_in_units_and_what_is_not_known_is_a_dash() -> None:
    entry = BuiltEntry(EntryId(Kind.BLOB, "disk"), MemoryBlobServiceConfig(type="memory"), MemoryBlobService())
    details = (("packs", 3), ("fill", 0.756), ("dead bytes", 2_000_000))
    assert list(_row(EntryStats(entry, ServiceStats(5, 3_000_000, 1_500_000, None, details), None))) == [
        *("disk", "blob service", "memory", "5", "3.0 MB", "1.5 MB", "-", "2.00x", "-"),
        "packs 3, fill 0.76, dead 2.0 MB",
    ]


def test_a_store_that_cannot_say_is_listed(program: Program, toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBlobService, "stats", BlobService.stats)
    text = '[blobservices.root]\ntype = "memory"\n[directoryservices.spare]\ntype = "memory"\n'
    result = program("stats", "--config", toml(text))
    assert result.code == 0
    _, root, spare = result.lines
    assert root.split()[:10] == ["root", "blob", "service", "memory", *"------"]
    assert root.endswith("MemoryBlobService has no statistics")
    assert spare.split()[:5] == ["spare", "directory", "service", "memory", "0"]
    documents = json.loads(program("stats", "--json", "--config", toml(text)).text)
    assert documents[0]["problem"] == "MemoryBlobService has no statistics"


def test_without_options_the_default_store_is_meant(program: Program, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert program("stats", "--state-dir", state).code == 0
    assert any(state.iterdir())
    assert len(program("stats").lines) == 4
    assert any((tmp_path / "xdg" / "tvix-store").iterdir())


def test_a_store_may_be_given_by_its_url(program: Program, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/x.sqlite"
    program("import", "--store", url, materialise(TREES["hello"], tmp_path / "hello"))
    assert [document["objects"] for document in json.loads(program("stats", "--json", "--store", url).text)] == [
        1,
        0,
        1,
    ]
