import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from vectors.nix_hashes import DIGEST, FORMS, LENIENT_SRI, REJECTED, SHA512_NIXBASE32
from vectors.nix_store_paths import FILE_CONTENTS, FLAT_DIGESTS

ALGORITHMS = st.sampled_from(HashAlgorithm)
SHA256 = NixHash(HashAlgorithm.SHA256, bytes.fromhex(DIGEST))


@st.composite
def nix_hashes(draw: st.DrawFn) -> NixHash:
    algorithm = draw(ALGORITHMS)
    size = algorithm.digest_size
    return NixHash(algorithm, draw(st.binary(min_size=size, max_size=size)))


@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_the_same_hash(text: str) -> None:
    assert NixHash.parse(text, HashAlgorithm.SHA256) == SHA256


@pytest.mark.parametrize("text", [form for form in FORMS if form.startswith("sha256")])
def test_forms_with_an_algorithm_need_no_other(text: str) -> None:
    assert NixHash.parse(text) == SHA256


def test_every_form_is_written() -> None:
    base16, _, nixbase32, nix, base64, _, sri = FORMS
    assert (SHA256.hex(), SHA256.nixbase32(), SHA256.base64()) == (base16, nixbase32, base64)
    assert (SHA256.nix(), str(SHA256), SHA256.sri()) == (nix, nix, sri)


def test_base16_may_be_upper_case() -> None:
    assert NixHash.parse(f"sha256:{DIGEST.upper()}") == SHA256


@pytest.mark.parametrize(("text", "digest"), LENIENT_SRI)
def test_sri_is_read_leniently(text: str, digest: str) -> None:
    assert NixHash.parse(text).hex() == digest


def test_what_follows_an_sri_digest_may_hold_separators() -> None:
    assert NixHash.parse(f"{SHA256.sri()} a:b-c\n") == SHA256


def test_sha512_in_nixbase32() -> None:
    text, digest = LENIENT_SRI[-1]
    assert NixHash.parse(text).nixbase32() == SHA512_NIXBASE32
    assert NixHash.parse(f"sha512:{SHA512_NIXBASE32}").hex() == digest


@pytest.mark.parametrize(("text", "expected"), REJECTED)
def test_refused(text: str, expected: str | None) -> None:
    with pytest.raises(InvalidObject):
        NixHash.parse(text, HashAlgorithm(expected) if expected else None)


@pytest.mark.parametrize(
    "digest",
    [
        FORMS[4][:-2] + "p=",  # stray bits
        FORMS[4].replace("+", "-"),
        FORMS[4][:-2] + "é=",
        FORMS[4][:10] + "=" + FORMS[4][11:],
        DIGEST[:-1] + "g",
        DIGEST[:-1] + " ",
        DIGEST[:-1] + "é",
        FORMS[2].upper(),
        FORMS[2][:-1] + "u",
    ],
)
def test_malformed_digests_are_refused(digest: str) -> None:
    with pytest.raises(InvalidObject):
        NixHash.parse(f"sha256:{digest}")


@pytest.mark.parametrize("digest", [f" {FORMS[4]}", FORMS[4].replace("+", "-"), "é" * 43, "=" * 44, "A" * 44])
def test_malformed_sri_is_refused(digest: str) -> None:
    with pytest.raises(InvalidObject):
        NixHash.parse(f"sha256-{digest}")


@pytest.mark.parametrize("text", ["", ":", "-", "sha256", "sha256:", ":" + DIGEST, "x" * 5000])
def test_nonsense_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        NixHash.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_digest_has_the_length_of_its_algorithm() -> None:
    with pytest.raises(InvalidObject, match="19 bytes instead of 20"):
        NixHash(HashAlgorithm.SHA1, bytes(19))


@pytest.mark.parametrize("algorithm", HashAlgorithm)
def test_of_hashes_data(algorithm: HashAlgorithm) -> None:
    assert NixHash.of(algorithm, b"data").digest == hashlib.new(algorithm.value, b"data").digest()


@pytest.mark.parametrize(("tree", "algorithm", "digest", "nixbase32"), FLAT_DIGESTS)
def test_flat_digests(tree: str, algorithm: str, digest: str, nixbase32: str) -> None:
    nix_hash = NixHash.of(HashAlgorithm(algorithm), FILE_CONTENTS[tree])
    assert (nix_hash.hex(), nix_hash.nixbase32()) == (digest, nixbase32)


@given(nix_hashes())
def test_round_trip(nix_hash: NixHash) -> None:
    assert NixHash.parse(nix_hash.nix()) == NixHash.parse(nix_hash.sri()) == nix_hash
    for digest in (nix_hash.hex(), nix_hash.nixbase32(), nix_hash.base64()):
        assert NixHash.parse(digest, nix_hash.algorithm) == nix_hash
        assert NixHash.parse(f"{nix_hash.algorithm}:{digest}") == nix_hash


@given(st.text(), st.none() | ALGORITHMS)
def test_arbitrary_text_is_read_or_refused(text: str, expected: HashAlgorithm | None) -> None:
    with contextlib.suppress(InvalidObject):
        NixHash.parse(text, expected)


@given(st.sampled_from([*FORMS, *(text for text, _ in LENIENT_SRI)]), st.integers(0, 110), st.characters())
def test_damaged_text_is_read_or_refused(text: str, at: int, character: str) -> None:
    with contextlib.suppress(InvalidObject):
        NixHash.parse(text[:at] + character + text[at + 1 :], HashAlgorithm.SHA256)
