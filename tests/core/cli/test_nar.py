"""``nar``: dump and hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.program import MIXED, Program
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nar_dump import dump_path
from vectors.nar import TREES, encode


def test_nar_dump(stored: Program, tmp_path: Path) -> None:
    assert stored("nar", "dump", MIXED).out == encode(TREES["mixed"])
    below = b"".join(dump_path(tmp_path / "mixed" / "share"))
    assert stored("nar", "dump", f"{MIXED}/share").out == below


@pytest.mark.parametrize("form", ["nix", "sri", "base16"])
def test_nar_hash(stored: Program, form: str) -> None:
    nix_hash = NixHash.of(HashAlgorithm.SHA256, encode(TREES["mixed"]))
    text = {"nix": nix_hash.nix(), "sri": nix_hash.sri(), "base16": nix_hash.hex()}[form]
    assert stored("nar", "hash", "--format", form, MIXED).text == f"{text}\n"
    assert stored("nar", "hash", "--size", "--format", form, MIXED).text == f"{text} 1416\n"
