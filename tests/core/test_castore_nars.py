from __future__ import annotations

import hashlib

import pytest

from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nar_dump import dump_path
from tvix_store.store_path import store_path_for_ca
from vectors.castore_nars import NARS, STORE_PATHS
from vectors.nar import materialise


@pytest.mark.parametrize("name", NARS)
def test_the_nar_of_a_fixture(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    tree, size, sha256 = NARS[name]
    data = b"".join(dump_path(materialise(tree, tmp_path_factory.mktemp("nar") / "tree")))
    assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)


@pytest.mark.parametrize(("fixture", "name"), STORE_PATHS)
def test_the_store_path_of_a_fixture(fixture: str, name: str) -> None:
    nar_hash = NixHash(HashAlgorithm.SHA256, bytes.fromhex(NARS[fixture][2]))
    path = store_path_for_ca(name, ContentAddress(ContentAddressMethod.NAR, nar_hash))
    assert str(path) == STORE_PATHS[fixture, name]


def test_hashes_of_the_fixtures_with_other_algorithms(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nar")
    symlink = b"".join(dump_path(materialise(NARS["symlink"][0], folder / "symlink")))
    complicated = b"".join(dump_path(materialise(NARS["complicated"][0], folder / "complicated")))
    assert hashlib.sha1(symlink).hexdigest() == "424eeaaa9cc016bab030bf007cb1be6483e7ba9e"
    assert (
        hashlib.sha512(complicated).hexdigest().startswith("1f5d43941411f35f09211f8596b426ee6e4dd3af1639e0ed2273cbe4")
    )
    assert hashlib.md5(b"Hello World!").hexdigest() == "ed076287532e86365e841e92bfc50d8c"
