"""``export``: what is asked for and all that it refers to, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.program import MIXED, Program
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.narinfo import NarInfo
from tvix_store.signing import SecretKey
from tvix_store.testing.fixtures import store_path
from tvix_store.trust import signed_by
from vectors.nar import TREES, encode, materialise

TOP, TREE = store_path("top"), TREES["complicated"]


@pytest.fixture
def with_references(stored: Program, tmp_path: Path) -> Program:
    """A store with a path more, which refers to itself and to the sample tree."""
    materialise(TREE, tmp_path / TOP.base_name)
    nar = encode(TREE)
    entry = {
        "path": TOP.absolute(),
        "narHash": NixHash.of(HashAlgorithm.SHA256, nar).nix(),
        "narSize": len(nar),
        "references": [TOP.absolute(), MIXED],
    }
    (tmp_path / "graph.json").write_text(json.dumps([entry]))
    assert stored("copy", tmp_path / "graph.json", "--store-dir", tmp_path).code == 0
    return stored


def narinfo(folder: Path, path: str) -> NarInfo:
    digest = path.removeprefix("/nix/store/").partition("-")[0]
    return NarInfo.parse((folder / f"{digest}.narinfo").read_bytes())


def test_a_closure_is_written(with_references: Program, tmp_path: Path) -> None:
    result = with_references("export", "--to", tmp_path / "cache", TOP.absolute())
    assert (result.code, result.lines, result.err) == (0, [MIXED, TOP.absolute()], "")
    written = narinfo(tmp_path / "cache", TOP.absolute())
    assert written.compression == "zstd"
    assert [path.absolute() for path in written.metadata.references] == [MIXED, TOP.absolute()]
    assert (tmp_path / "cache" / written.url).stat().st_size == written.file_size


def test_what_is_there_is_not_written_again(with_references: Program, tmp_path: Path) -> None:
    assert with_references("export", "--to", tmp_path / "cache", MIXED).lines == [MIXED]
    assert with_references("export", "--to", tmp_path / "cache", TOP.absolute()).lines == [TOP.absolute()]
    assert with_references("export", "--to", tmp_path / "cache", TOP.absolute(), MIXED).lines == []


def test_options(stored: Program, tmp_path: Path) -> None:
    key = SecretKey.generate("key")
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(str(key))
    options = ["--compression", "none", "--key-file", tmp_path / "key", "--write-nar-listing"]
    assert stored("export", "--to", tmp_path / "cache", *options, MIXED).code == 0
    written = narinfo(tmp_path / "cache", MIXED)
    assert (tmp_path / "cache" / written.url).read_bytes() == encode(TREES["mixed"])
    assert signed_by(written.metadata, [key.public]) is key.public
    assert len(list((tmp_path / "cache").glob("*.ls"))) == 1


def test_what_is_not_there(stored: Program, tmp_path: Path) -> None:
    assert stored("export", "--to", tmp_path / "cache", TOP.absolute()).error().endswith("no such path in the store")
    assert not (tmp_path / "cache").exists()


def test_the_folder_has_to_be_named(stored: Program) -> None:
    result = stored("export", MIXED)
    assert result.code == 2
    assert "--to" in result.err
