"""``copy``, and the reference graphs that it reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fakes.program import Program, Result
from tvix_store.cli.copy import parse_reference_graph
from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.testing.fixtures import store_path
from vectors.nar import TREES, Tree, encode, materialise


class NixStore:
    """A store directory and its reference graph."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.closure: list[dict[str, Any]] = []
        path.mkdir()

    def add(self, name: str, tree: Tree, *references: str, **more: Any) -> str:
        path = store_path(name)
        materialise(tree, self.path / path.base_name)
        entry = {
            "path": path.absolute(),
            "references": list(references),
            "narHash": NixHash(HashAlgorithm.SHA256, hashlib.sha256(encode(tree)).digest()).nix(),
            "narSize": len(encode(tree)),
            "closureSize": 1,
            "valid": True,
        }
        self.closure.append({**entry, **more})
        return path.absolute()

    def json(self) -> Path:
        path = self.path.parent / "graph.json"
        path.write_text(json.dumps({"closure": self.closure, "other": 1}))
        return path


@pytest.fixture
def nix(tmp_path: Path) -> NixStore:
    return NixStore(tmp_path / "nix-store")


@pytest.fixture
def copy(program: Program, config: Path, nix: NixStore) -> Program:
    def run(*arguments: object, stdin: str = "") -> Result:
        return program("copy", "--config", config, "--store-dir", nix.path, *arguments, stdin=stdin)

    return run


def test_copy_stores_what_is_listed(copy: Program, program: Program, config: Path, nix: NixStore) -> None:
    a = nix.add("a", TREES["mixed"])
    b = nix.add("b", TREES["hello"], a, deriver="/nix/store/" + store_path("b").base_name + ".drv")
    assert copy(nix.json()) == Result(0, b"", "")
    assert sorted(program("ls", "--config", config).lines) == sorted([a, b])
    assert program("nar", "dump", "--config", config, a).out == encode(TREES["mixed"])


def test_copy_reads_stdin_and_the_variable_of_nix(
    copy: Program, program: Program, config: Path, nix: NixStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nix.add("a", TREES["hello"])
    assert copy("-", stdin=nix.json().read_text()).code == 0
    monkeypatch.setenv("NIX_ATTRS_JSON_FILE", str(nix.json()))
    assert copy().code == 0
    assert program("ls", "--config", config).lines == [path]


def test_copy_takes_references_first(copy: Program, program: Program, config: Path, nix: NixStore) -> None:
    b = nix.add("b", TREES["hello"], store_path("a").absolute(), narSize=1)
    a = nix.add("a", TREES["exec"], store_path("a").absolute())
    assert store_path("b").base_name in copy(nix.json()).error()
    assert program("ls", "--config", config).lines == [a]
    assert b not in program("ls", "--config", config).lines


def test_copy_passes_over_what_is_stored(copy: Program, nix: NixStore) -> None:
    path = nix.add("a", TREES["hello"])
    assert copy(nix.json()).code == 0
    (nix.path / path.removeprefix("/nix/store/")).unlink()
    assert copy(nix.json()).code == 0


@pytest.mark.parametrize("wrong", [{"narSize": 127}, {"narHash": f"sha256:{'0' * 52}"}])
def test_copy_refuses_contents_that_are_not_as_listed(
    copy: Program, program: Program, config: Path, nix: NixStore, wrong: dict[str, Any]
) -> None:
    nix.add("a", TREES["hello"], **wrong)
    message = copy(nix.json()).error()
    assert f"{store_path('a').base_name}: the NAR has sha256:" in message
    assert "and 128 bytes, the reference graph says" in message
    assert program("ls", "--config", config).lines == []


def test_copy_of_a_path_that_is_gone(copy: Program, nix: NixStore) -> None:
    path = nix.add("a", TREES["hello"])
    (nix.path / path.removeprefix("/nix/store/")).unlink()
    assert copy(nix.json()).error().endswith("No such file or directory")


def test_copy_refuses_a_circle(copy: Program, nix: NixStore) -> None:
    nix.add("a", TREES["hello"], store_path("b").absolute())
    nix.add("b", TREES["hello"], store_path("a").absolute())
    assert "store paths refer to each other in a circle" in copy(nix.json()).error()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "expected an object with the key 'closure'"),
        ('{"closure": 3}', "expected an object with the key 'closure'"),
        ('{"closure": [3]}', "entry 0 is not an object"),
        ('{"closure": [{}]}', "entry 0: references is missing"),
    ],
)
def test_copy_of_what_is_no_reference_graph(copy: Program, text: str, message: str) -> None:
    assert message in copy("-", stdin=text).error()


def test_copy_of_a_file_that_is_not_there(copy: Program) -> None:
    assert copy("/absent.json").error() == "/absent.json: No such file or directory"


ENTRY: dict[str, Any] = {
    "path": store_path("a").absolute(),
    "references": [store_path("c").absolute(), store_path("b").absolute(), store_path("b").absolute()],
    "narHash": NixHash.of(HashAlgorithm.SHA256, b"").nix(),
    "narSize": 5,
}


def test_a_reference_graph_is_read() -> None:
    (path_info,) = parse_reference_graph({"closure": [ENTRY]})
    assert path_info.store_path == store_path("a")
    assert path_info.references == tuple(sorted([store_path("b"), store_path("c")]))
    assert (path_info.nar_size, path_info.nar_sha256) == (5, hashlib.sha256(b"").digest())
    assert (path_info.deriver, path_info.signatures, path_info.ca) == (None, (), None)


@pytest.mark.parametrize(
    "document",
    [[ENTRY], {"closure": [ENTRY]}, {ENTRY["path"]: {key: ENTRY[key] for key in ENTRY if key != "path"}}],
    ids=["list", "closure", "by path"],
)
def test_a_reference_graph_has_several_forms(document: object) -> None:
    assert [path_info.store_path for path_info in parse_reference_graph(document)] == [store_path("a")]


def test_a_reference_graph_may_have_sri_hashes() -> None:
    sri = NixHash.of(HashAlgorithm.SHA256, b"").sri()
    assert parse_reference_graph([{**ENTRY, "narHash": sri}]) == parse_reference_graph([ENTRY])


def test_a_deriver_is_kept_without_its_drv() -> None:
    (path_info,) = parse_reference_graph([{**ENTRY, "deriver": f"{store_path('d').absolute()}.drv"}])
    assert path_info.deriver == store_path("d")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("path", 3, "path is missing or not a string"),
        ("path", "/nix/var/x", "/nix/var/x"),
        ("narSize", "5", "narSize is missing or not a number"),
        ("narSize", True, "narSize is missing or not a number"),
        ("narSize", -1, "does not fit 64 bits"),
        ("narHash", None, "narHash is missing or not a string"),
        ("narHash", "md5:00000000000000000000000000", "md5"),
        ("references", None, "references is missing or not a list of strings"),
        ("references", [3], "references is missing or not a list of strings"),
        ("signatures", ["nonsense"], "expected NAME:BASE64"),
        ("ca", "nonsense", "nonsense"),
    ],
)
def test_a_wrong_entry_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(InvalidObject, match=f"^{3 if value == 3 else '/nix/'}.*: .*") as caught:
        parse_reference_graph([{**ENTRY, key: value}])
    assert message in str(caught.value)
