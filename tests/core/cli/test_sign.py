"""``sign`` and ``verify-signatures``: what was stored before there was a key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes.program import MIXED, Program, Result
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import store_path
from vectors.nar import TREES, encode, materialise

ONE, TWO = SecretKey.generate("one"), SecretKey.generate("two")
TREE = TREES["complicated"]
LEAF, MIDDLE, ROOT, ALONE = (store_path(name) for name in ("leaf", "middle", "root", "alone"))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "one.secret"
    path.write_text(str(ONE))
    path.chmod(0o600)
    return path


@pytest.fixture
def chain(stored: Program, tmp_path: Path) -> Program:
    """A store with four more paths, which follow from no content: root refers to middle, middle to leaf."""
    references = {LEAF: [], MIDDLE: [LEAF], ROOT: [MIDDLE, ROOT], ALONE: []}
    graph = [_entry(path, references[path]) for path in references]
    for path in references:
        materialise(TREE, tmp_path / path.base_name)
    (tmp_path / "graph.json").write_text(json.dumps({"closure": graph}))
    assert stored("copy", tmp_path / "graph.json", "--store-dir", tmp_path).code == 0
    return stored


def _entry(path: StorePath, references: Sequence[StorePath]) -> dict[str, object]:
    nar = encode(TREE)
    return {
        "path": path.absolute(),
        "narHash": NixHash.of(HashAlgorithm.SHA256, nar).nix(),
        "narSize": len(nar),
        "references": [reference.absolute() for reference in references],
    }


def untrusted(program: Program, *arguments: object, keys: str = str(ONE.public)) -> list[str]:
    """The names of the paths that are not trusted."""
    result: Result = program("verify-signatures", "--trusted-public-keys", keys, *arguments)
    assert result.code == (1 if result.out else 0)
    assert result.err.startswith(f"{len(result.lines)} of ")
    return sorted(line.partition(" ")[0].rstrip(":").rpartition("-")[2] for line in result.lines)


def test_a_signed_path_is_trusted(chain: Program, key_file: Path) -> None:
    assert untrusted(chain) == ["alone", "leaf", "middle", "root"]
    result = chain("sign", "--key-file", key_file, LEAF.absolute())
    assert (result.code, result.text, result.err) == (0, f"{LEAF.absolute()}\n", "signatures added: 1\n")
    assert untrusted(chain) == ["alone", "middle", "root"]


def test_a_closure_is_signed(chain: Program, key_file: Path) -> None:
    result = chain("sign", "-r", "-k", key_file, ROOT.absolute())
    assert sorted(result.lines) == sorted(path.absolute() for path in (LEAF, MIDDLE, ROOT))
    assert untrusted(chain) == ["alone"]


def test_everything_is_signed(chain: Program, key_file: Path) -> None:
    result = chain("sign", "--all", "--key-file", key_file)
    assert len(result.lines) == 5  # the tree that is content-addressed, too
    assert untrusted(chain) == []
    assert chain("ls").lines != []


def test_what_is_signed_is_not_signed_again(chain: Program, key_file: Path) -> None:
    assert chain("sign", "--all", "-k", key_file).code == 0
    again = chain("sign", "--all", "-k", key_file, "-k", key_file)
    assert (again.code, again.out, again.err) == (0, b"", "signatures added: 0\n")


def test_several_keys_sign(chain: Program, key_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "two.secret"
    other.write_text(str(TWO))
    other.chmod(0o600)
    result = chain("sign", "-k", key_file, "-k", other, LEAF.absolute(), LEAF.absolute())
    assert result.err == "signatures added: 2\n"
    for key in (ONE, TWO):
        assert untrusted(chain, LEAF.absolute(), keys=str(key.public)) == []


def test_content_addressed_paths_are_trusted_without_keys(chain: Program) -> None:
    assert untrusted(chain, MIXED, keys="") == []
    assert untrusted(chain, keys="") == ["alone", "leaf", "middle", "root"]


def test_named_paths_and_what_they_refer_to(chain: Program, key_file: Path) -> None:
    assert chain("sign", "-k", key_file, ROOT.absolute()).code == 0
    assert untrusted(chain, ROOT.absolute()) == []
    assert untrusted(chain, "-r", ROOT.absolute()) == ["leaf", "middle"]


def test_the_reason_is_told(chain: Program, key_file: Path) -> None:
    (line,) = chain("verify-signatures", "--trusted-public-keys", str(TWO.public), LEAF.absolute()).lines
    assert line == f"{LEAF.absolute()} has no signature"
    assert chain("sign", "-k", key_file, LEAF.absolute()).code == 0
    (line,) = chain("verify-signatures", "--trusted-public-keys", str(TWO.public), LEAF.absolute()).lines
    assert line == f"{LEAF.absolute()} is signed by 'one' only, which is not trusted"


def test_a_path_that_is_not_there(chain: Program, key_file: Path) -> None:
    absent = store_path("absent").absolute()
    assert chain("sign", "-k", key_file, absent).error() == f"{absent}: no such path in the store"
    error = chain("verify-signatures", "--trusted-public-keys", "", absent).error()
    assert error == f"{absent}: no such path in the store"


def test_a_reference_that_is_not_there(chain: Program, key_file: Path, tmp_path: Path) -> None:
    materialise(TREE, tmp_path / store_path("torn").base_name)
    graph = [_entry(store_path("torn"), [store_path("absent")])]
    (tmp_path / "torn.json").write_text(json.dumps(graph))
    assert chain("copy", tmp_path / "torn.json", "--store-dir", tmp_path).code == 0
    error = chain("sign", "-r", "-k", key_file, store_path("torn").absolute()).error()
    assert error == f"{store_path('torn')} refers to {store_path('absent')}, which is not in the store"


@pytest.mark.parametrize("arguments", [[], ["--all", MIXED]])
def test_either_paths_or_all(stored: Program, key_file: Path, arguments: list[str]) -> None:
    result = stored("sign", "-k", key_file, *arguments)
    assert result.code == 2
    assert "give either store paths or --all" in result.err


def test_keys_that_are_none(stored: Program, tmp_path: Path) -> None:
    error = stored("sign", "--all", "-k", tmp_path / "absent").error(2)
    assert error == f"key file {tmp_path}/absent: No such file or directory"
    error = stored("verify-signatures", "--trusted-public-keys", "nonsense").error()
    assert error == "public key 'nonsense': expected NAME:BASE64"
