"""Our NARs against those of a real Nix; ``--dump`` and ``--restore`` need no store."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tvix_store.errors import InvalidObject
from tvix_store.nar_dump import dump_path
from tvix_store.nar_reader import NarReader
from vectors.nar import TREES, Dir, File, encode, materialise, read_back
from vectors.nar_streams import STREAMS, Stream

every_tree = pytest.mark.parametrize("name", TREES)


def restore(nix_store: str, data: bytes, path: Path) -> bool:
    return subprocess.run([nix_store, "--restore", path], input=data, capture_output=True, check=False).returncode == 0


@every_tree
def test_nix_dumps_the_same_bytes(nix_store: str, name: str, tmp_path: Path) -> None:
    path = materialise(TREES[name], tmp_path / "tree")
    dump = subprocess.run([nix_store, "--dump", path], capture_output=True, check=True).stdout
    assert b"".join(dump_path(path)) == dump


@every_tree
def test_nix_restores_what_we_dump(nix_store: str, name: str, tmp_path: Path) -> None:
    data = b"".join(dump_path(materialise(TREES[name], tmp_path / "tree")))
    assert restore(nix_store, data, tmp_path / "restored")
    assert read_back(tmp_path / "restored") == TREES[name]


def test_nix_restores_a_large_tree(nix_store: str, tmp_path: Path) -> None:
    files = {b"%05d" % i: File(b"%d" % i * (i % 30), i % 3 == 0) for i in range(2000)}
    tree = Dir({b"files": Dir(files), b"large": File(bytes(3_000_001))})
    assert restore(nix_store, b"".join(dump_path(materialise(tree, tmp_path / "tree"))), tmp_path / "restored")
    assert read_back(tmp_path / "restored") == tree


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_we_are_never_laxer_than_nix(nix_store: str, stream: Stream, tmp_path: Path) -> None:
    reader = NarReader()
    try:
        reader.feed(stream.data)
        reader.close()
    except InvalidObject:
        return
    assert restore(nix_store, stream.data, tmp_path / "restored")
    assert encode(read_back(tmp_path / "restored")) == stream.data


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_nix_2_8_restores_the_streams_it_is_said_to(nix_store: str, stream: Stream, tmp_path: Path) -> None:
    version = subprocess.run([nix_store, "--version"], capture_output=True, check=True, text=True).stdout
    if " 2.8." not in version:
        pytest.skip(f"recorded for Nix 2.8, this is {version.strip()}")
    assert restore(nix_store, stream.data, tmp_path / "restored") == stream.restored_by_nix_2_8
