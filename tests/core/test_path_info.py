from __future__ import annotations

from dataclasses import replace

import pytest

from tvix_store.errors import InvalidObject
from tvix_store.limits import U64_MAX
from tvix_store.path_info import PathInfo, Signature
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import PATH_INFO, PATH_INFO_SIGNED, PATH_INFO_SYMLINK, SIGNATURE, store_path

DUMMY = "00000000000000000000000000000000-dummy"
TEXT = "do.not.use:xl4q2L5wQMou13ZQ9/YPqK1z/DSIYycTtndVNfp2ybT8Cpg+yPv1sCQN8VVWppnq5BXTuMhjaq7K/ebYN4LYBg=="
"""The signature of the signing fixture, vectors-castore.md section 7."""


def test_fingerprint_of_the_signing_fixture() -> None:
    assert PATH_INFO.fingerprint() == (
        f"1;/nix/store/{DUMMY};sha256:0000000000000000000000000000000000000000000000000000;0;/nix/store/{DUMMY}"
    )


def test_fingerprint_does_not_depend_on_signatures() -> None:
    assert PATH_INFO_SIGNED.fingerprint() == PATH_INFO.fingerprint()


def test_fingerprint_keeps_the_order_of_references_and_names_the_store() -> None:
    path_info = replace(PATH_INFO_SYMLINK, references=(store_path("b"), store_path("a")))
    assert path_info.fingerprint("/gnu/store") == (
        f"1;/gnu/store/{DUMMY};sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89;136;"
        f"/gnu/store/{store_path('b')},/gnu/store/{store_path('a')}"
    )


def test_fingerprint_without_references_ends_in_a_semicolon() -> None:
    assert PATH_INFO_SYMLINK.fingerprint().endswith(";136;")


class TestSignature:
    def test_text_is_read_and_written(self) -> None:
        assert Signature.parse(TEXT) == SIGNATURE
        assert str(SIGNATURE) == TEXT

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "expected NAME:BASE64"),
            ("do.not.use", "expected NAME:BASE64"),
            (TEXT.removeprefix("do.not.use"), "expected NAME:BASE64"),
            (TEXT[:-1], "padding"),
            (TEXT + "AAAA", ""),
            ("key:AAAA", "3 bytes of data instead of 64"),
            (TEXT[:-4] + "\n" + TEXT[-4:], ""),
            ("key:é", ""),
            (TEXT.replace("/", "_"), ""),
        ],
    )
    def test_what_is_no_signature_is_refused(self, text: str, reason: str) -> None:
        with pytest.raises(InvalidObject, match=f"signature .*{reason}"):
            Signature.parse(text)

    @pytest.mark.parametrize("length", [0, 63, 65])
    def test_data_is_64_bytes(self, length: int) -> None:
        with pytest.raises(InvalidObject, match=f"signature 'key': {length} bytes"):
            Signature("key", bytes(length))


class TestPathInfo:
    @pytest.mark.parametrize("length", [0, 2, 31, 33])
    def test_nar_sha256_is_32_bytes(self, length: int) -> None:
        with pytest.raises(InvalidObject, match=f"{DUMMY}: invalid NAR SHA-256 length, {length} bytes"):
            replace(PATH_INFO, nar_sha256=bytes(length))

    @pytest.mark.parametrize("size", [-1, U64_MAX + 1])
    def test_nar_size_fits_64_bits(self, size: int) -> None:
        with pytest.raises(InvalidObject, match=f"{DUMMY}: NAR size {size} does not fit"):
            replace(PATH_INFO, nar_size=size)

    def test_signatures_are_added_once_and_behind(self) -> None:
        other = Signature("other", bytes(64))
        assert PATH_INFO.with_signatures(SIGNATURE) == PATH_INFO_SIGNED
        assert PATH_INFO_SIGNED.with_signatures(other, SIGNATURE, other).signatures == (SIGNATURE, other)

    def test_is_a_value(self) -> None:
        same = PathInfo(
            store_path=StorePath(bytes(20), "dummy"),
            node=PATH_INFO.node,
            nar_size=0,
            nar_sha256=bytes(32),
            references=PATH_INFO.references,
            ca=PATH_INFO.ca,
        )
        assert same == PATH_INFO
        assert len({same, PATH_INFO, PATH_INFO_SIGNED}) == 2
