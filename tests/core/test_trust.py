from __future__ import annotations

from dataclasses import replace

import pytest

from tvix_store.errors import InvalidObject
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import PathMetadata, Signature
from tvix_store.signing import PublicKey, SecretKey, in_signing_order, parse_public_keys
from tvix_store.trust import Untrusted, check_trusted, is_content_addressed, signed_by
from vectors.nix_keys import KEYS
from vectors.nix_narinfos import CACHE_NIXOS_ORG, GENERATED, REAL, TEST1

NIXOS = PublicKey.parse(CACHE_NIXOS_ORG)
SPEC = PublicKey.parse(KEYS[0][1])
STRANGER = SecretKey.generate("stranger")


def real(name: str) -> PathMetadata:
    return NarInfo.parse(REAL[name].encode()).metadata


def generated(name: str) -> PathMetadata:
    document = next(document for document, _ in GENERATED if f"{name}\n" in document)
    return NarInfo.parse(document.encode()).metadata


CURL = real("curl-7.82.0-bin")
GCC = real("gcc-3.4.6")


@pytest.mark.parametrize("name", REAL)
def test_real_documents_are_signed(name: str) -> None:
    assert signed_by(real(name), [NIXOS]) is NIXOS
    check_trusted(real(name), [NIXOS])


@pytest.mark.parametrize(("document", "_"), GENERATED)
def test_generated_documents_are_signed(document: str, _: str) -> None:
    assert signed_by(NarInfo.parse(document.encode()).metadata, [SPEC]) is SPEC


def test_the_first_of_the_keys_that_signed_is_named() -> None:
    keys = parse_public_keys(f"{SPEC} {TEST1} {NIXOS}")
    assert signed_by(CURL, keys) is keys[1]
    assert signed_by(CURL, []) is None


def test_references_may_be_signed_sorted_or_as_they_are_listed() -> None:
    assert signed_by(GCC, [NIXOS]) is NIXOS
    assert signed_by(in_signing_order(GCC), [NIXOS]) is None
    ours = GCC.with_signatures(STRANGER.sign(GCC))
    assert signed_by(ours, [STRANGER.public]) is STRANGER.public


@pytest.mark.parametrize(("document", "_"), GENERATED)
def test_content_addressed_paths_need_no_signature(document: str, _: str) -> None:
    metadata = replace(NarInfo.parse(document.encode()).metadata, signatures=())
    assert is_content_addressed(metadata) is (metadata.ca is not None)
    if metadata.ca is not None:
        check_trusted(metadata, [])


def test_real_content_addressed_paths() -> None:
    assert [name for name in REAL if is_content_addressed(real(name))] == [
        name for name in REAL if "\nCA: " in REAL[name]
    ]


def test_a_content_address_of_something_else_does_not_count() -> None:
    metadata = replace(generated("-complicated"), ca=generated("-selfref").ca, signatures=())
    assert not is_content_addressed(metadata)
    with pytest.raises(Untrusted, match="has no signature, and does not follow from its content address fixed:r:"):
        check_trusted(metadata, [SPEC])


def test_references_are_part_of_a_content_address() -> None:
    metadata = replace(generated("-two"), signatures=())
    assert is_content_addressed(replace(metadata, references=metadata.references[::-1]))
    assert not is_content_addressed(replace(metadata, references=metadata.references[:1]))
    # Contents hashed as a flat file cannot have any.
    flat = real("regrrr_0.1.3.tar.gz")
    assert not is_content_addressed(replace(flat, references=(CURL.store_path,)))


def test_a_content_address_is_of_one_store_directory() -> None:
    assert not is_content_addressed(generated("-complicated"), "/gnu/store")


class TestUntrusted:
    def test_without_signature(self) -> None:
        with pytest.raises(Untrusted, match=f"/nix/store/{CURL.store_path} has no signature"):
            check_trusted(replace(CURL, signatures=()), [NIXOS])

    def test_by_strangers_only(self) -> None:
        with pytest.raises(Untrusted, match=r"is signed by 'cache.nixos.org-1, test1' only, which is not trusted"):
            check_trusted(CURL, [SPEC])
        with pytest.raises(Untrusted, match="not trusted"):
            check_trusted(CURL, [])

    def test_by_the_wrong_signature(self) -> None:
        signatures = (Signature(NIXOS.name, bytes(64)),)
        with pytest.raises(Untrusted, match=r"its signature by 'cache.nixos.org-1' is wrong"):
            check_trusted(replace(CURL, signatures=signatures), [NIXOS])

    def test_by_a_trusted_name_with_another_key(self) -> None:
        impostor = SecretKey.generate(NIXOS.name)
        with pytest.raises(Untrusted, match="is wrong"):
            check_trusted(CURL, [impostor.public])

    @pytest.mark.parametrize(
        "metadata", [replace(CURL, nar_size=196041), replace(CURL, nar_sha256=bytes(32)), replace(CURL, references=())]
    )
    def test_when_anything_that_is_signed_differs(self, metadata: PathMetadata) -> None:
        with pytest.raises(Untrusted):
            check_trusted(metadata, [NIXOS])

    def test_is_an_invalid_object(self) -> None:
        assert issubclass(Untrusted, InvalidObject)


def test_one_good_signature_among_wrong_ones_is_enough() -> None:
    wrong = tuple(Signature(NIXOS.name, bytes([i]) * 64) for i in range(20))
    assert signed_by(replace(CURL, signatures=wrong + CURL.signatures), [SPEC, NIXOS]) is NIXOS
    # But nobody is kept busy by tens of thousands.
    many = tuple(Signature(NIXOS.name, i.to_bytes(64, "little")) for i in range(64))
    assert signed_by(replace(CURL, signatures=many + CURL.signatures), [NIXOS]) is None
