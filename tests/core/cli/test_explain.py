"""``config explain``, of stores in files and of one that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.program import MIXED, Program
from tvix_store.digest import B3Digest

EMPTY = "blake3-rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI="


def test_a_path_is_looked_for_with_its_root(stored: Program) -> None:
    for location in (MIXED, MIXED.removeprefix("/nix/store/"), MIXED.removeprefix("/nix/store/")[:32]):
        lines = stored("config", "explain", location).lines
        assert lines[:3] == [
            f"path info {MIXED.removeprefix('/nix/store/')[:32]}",
            "ENTRY                    TYPE    ANSWER  NOTE",
            f"[pathinfoservices.root]  sqlite  has it  would serve it; {MIXED.removeprefix('/nix/store/')}",
        ]
        assert lines[4].startswith("directory blake3-")
        assert lines[6:] == ["[directoryservices.root]  sqlite  has it  would serve it"]


def test_a_digest_is_looked_for_among_blobs_and_directories(stored: Program) -> None:
    lines = stored("config", "explain", B3Digest.of(b"x").hex()).lines
    assert [line for line in lines if line.startswith("[")] == [
        "[blobservices.root]  sqlite  does not have it",
        "[directoryservices.root]  sqlite  does not have it",
    ]


def test_the_answers_as_json(stored: Program) -> None:
    (blobs, _) = json.loads(stored("config", "explain", "--json", EMPTY).text)
    assert blobs == {
        "kind": "blob",
        "name": EMPTY,
        "answers": [
            {
                "entry": "[blobservices.root]",
                "type": "sqlite",
                "presence": "present",
                "note": "",
                "would_serve": True,
            }
        ],
    }


def test_what_is_neither_a_digest_nor_a_path_is_refused(stored: Program) -> None:
    message = stored("config", "explain", "nonsense").error()
    assert message == "'nonsense' is neither a BLAKE3 digest nor a store path or its hash part"


def test_without_a_store_one_line_says_so(program: Program) -> None:
    message = program("config", "explain", "--store", "grpc+http://localhost:1", EMPTY).error()
    assert message.startswith("grpc+http://localhost:1: ")


RUNNING = """
[blobservices.root]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "cache"
near = "memory://"
far = "memory://"
[frontends.grpc]
type = "grpc"
listen = "{socket}"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a store in a process of its own."""
    folder = tmp_path_factory.mktemp("running")
    path = folder / "running.toml"
    path.write_text(RUNNING.format(socket=folder / "sock"))
    command = [str(Path(sys.executable).with_name("tvix-store")), "run", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("ready" in line for line in process.stderr), "the store did not start"
        yield f"grpc+unix://{folder}/sock"
        process.terminate()


def test_a_running_store_is_asked_for_the_entries_that_it_has(program: Program, running: str) -> None:
    lines = program("config", "explain", "--store", running, MIXED).lines
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "[pathinfoservices.root] cache does not have it",
        "[pathinfoservices.root] near memory does not have it",
        "[pathinfoservices.root] far memory does not have it",
    ]


def test_it_can_be_seen_as_a_part_of_another_composition(program: Program, running: str, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    kinds = ("blobservices", "directoryservices", "pathinfoservices")
    path.write_text("".join(f'[{kind}.root]\ntype = "grpc"\nurl = "{running}"\n' for kind in kinds))
    lines = program("config", "explain", "--config", path, MIXED).lines
    assert [" ".join(line.split()) for line in lines[2:]] == ["[pathinfoservices.root] grpc does not have it"]
