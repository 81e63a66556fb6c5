from __future__ import annotations

import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.errors import ConfigError, InvalidObject
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import Signature
from tvix_store.signing import PublicKey, SecretKey, in_signing_order, is_key_name, parse_public_keys
from tvix_store.testing.fixtures import PATH_INFO, PATH_INFO_SIGNED
from vectors import nix_keys as vectors
from vectors.nix_narinfos import GENERATED, REAL

SECRET, PUBLIC = vectors.KEYS[0]
KEY = SecretKey.parse(SECRET)
SIGNATURE = next(Signature.parse(text) for text in vectors.SIGNATURES if text.startswith(f"{KEY.name}:"))

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def double(point: tuple[int, int]) -> tuple[int, int]:
    """Of a point of the curve; RFC 8032, section 5.1.4."""
    x, y = point
    product = D * x * x * y * y
    return 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P


def point_at(y: int) -> tuple[int, int]:
    """A point with this y; RFC 8032, section 5.1.3."""
    x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x_squared, (P + 3) // 8, P)
    if x * x % P != x_squared:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == x_squared
    return x, y


@pytest.mark.parametrize(("secret", "public"), vectors.KEYS)
def test_golden_keys_are_read_and_written(secret: str, public: str) -> None:
    key = SecretKey.parse(f" {secret}\n")
    assert str(key) == secret
    assert str(key.public) == public
    assert PublicKey.parse(f"\t{public}\n") == key.public


def test_golden_signatures_are_by_one_key_each() -> None:
    keys = parse_public_keys("\n".join(public for _, public in vectors.KEYS))
    for signature in map(Signature.parse, vectors.SIGNATURES):
        assert [key.name for key in keys if key.verify(vectors.FINGERPRINT, signature)] == [signature.name]


@pytest.mark.parametrize("text", vectors.REJECTED_PUBLIC_KEYS)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidObject, match="public key"):
        PublicKey.parse(text)


@pytest.mark.parametrize("text", vectors.REJECTED_SECRET_KEYS)
def test_what_is_no_secret_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidObject, match="secret key") as caught:
        SecretKey.parse(text)
    data = text.partition(":")[2] or text.partition("=")[0]
    assert not data or data == "spec.example.org-1" or data[:20] not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a\n", "a\x00", "a\x85", "a\u2028", "\udcff"])
def test_names_no_key_can_have(name: str) -> None:
    assert not is_key_name(name)
    with pytest.raises(InvalidObject, match="a name is not empty and has no"):
        SecretKey.generate(name)


def test_names_are_otherwise_free() -> None:
    for name in ("cache.example.org-1", "under_score", "schlüssel", "a/b?c=d"):
        key = SecretKey.generate(name)
        assert SecretKey.parse(str(key)).name == key.public.name == name


def test_a_new_key_is_another_one() -> None:
    assert str(SecretKey.generate("a")) != str(SecretKey.generate("a"))


def test_the_secret_is_not_in_its_repr() -> None:
    assert repr(KEY) == "<SecretKey 'spec.example.org-1'>"
    assert SECRET.partition(":")[2] not in f"{[KEY]} {KEY!r}"


@pytest.mark.parametrize(("document", "fingerprint"), GENERATED)
def test_signs_as_nix_does(document: str, fingerprint: str) -> None:
    metadata = NarInfo.parse(document.encode()).metadata
    signature = KEY.sign(metadata)
    assert signature in metadata.signatures
    assert KEY.public.verify(fingerprint, signature)


def test_signing_fixture() -> None:
    key = next(SecretKey.parse(secret) for secret, _ in vectors.KEYS if secret.startswith("do.not.use:"))
    assert PATH_INFO.with_signatures(key.sign(PATH_INFO)) == PATH_INFO_SIGNED


def test_signs_over_sorted_and_unique_references() -> None:
    metadata = NarInfo.parse(REAL["gcc-3.4.6"].encode()).metadata
    ordered = in_signing_order(metadata)
    assert list(ordered.references) == sorted(metadata.references) != list(metadata.references)
    doubled = replace(metadata, references=metadata.references * 2)
    assert KEY.sign(doubled) == KEY.sign(ordered)
    assert KEY.public.verify(ordered.fingerprint(), KEY.sign(metadata))
    assert in_signing_order(ordered) is ordered


def test_what_is_signed_has_a_signature_for_each_order_of_its_references() -> None:
    metadata = NarInfo.parse(REAL["gcc-3.4.6"].encode()).metadata
    signed = KEY.signed(metadata)
    assert replace(signed, signatures=metadata.signatures) == metadata
    *others, by_nix, by_snix = signed.signatures
    assert tuple(others) == metadata.signatures
    assert KEY.public.verify(in_signing_order(metadata).fingerprint(), by_nix)
    assert KEY.public.verify(metadata.fingerprint(), by_snix)
    assert KEY.signed(signed) == signed
    assert len(KEY.signed(PATH_INFO).signatures) == 1


def test_signature_depends_on_the_store_directory() -> None:
    assert KEY.public.verify(PATH_INFO.fingerprint("/gnu/store"), KEY.sign(PATH_INFO, "/gnu/store"))
    assert not KEY.public.verify(PATH_INFO.fingerprint(), KEY.sign(PATH_INFO, "/gnu/store"))


@given(st.integers(0, 511), st.integers(0, len(vectors.FINGERPRINT) - 1), st.integers(0, 6))
def test_no_bit_may_differ(bit: int, at: int, shift: int) -> None:
    assert KEY.public.verify(vectors.FINGERPRINT, SIGNATURE)
    data = bytearray(SIGNATURE.data)
    data[bit // 8] ^= 1 << bit % 8
    assert not KEY.public.verify(vectors.FINGERPRINT, Signature(KEY.name, bytes(data)))
    fingerprint = bytearray(vectors.FINGERPRINT.encode())
    fingerprint[at] ^= 1 << shift
    assert not KEY.public.verify(fingerprint.decode(), SIGNATURE)


def test_the_name_is_part_of_the_signature() -> None:
    assert not KEY.public.verify(vectors.FINGERPRINT, Signature("other", SIGNATURE.data))
    other = next(Signature.parse(text) for text in vectors.SIGNATURES if text.startswith("do.not.use:"))
    assert not KEY.public.verify(vectors.FINGERPRINT, Signature(KEY.name, other.data))


@pytest.mark.parametrize("y", [0, 1, P - 1, P, P + 1, 2**255 - 1])
def test_keys_everybody_can_sign_with_are_refused(y: int) -> None:
    for sign in (0, 1 << 255):
        with pytest.raises(InvalidObject, match="everybody can sign"):
            PublicKey("key", (y | sign).to_bytes(32, "little"))


@pytest.mark.parametrize(
    "encoded",
    [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ],
)
def test_points_of_order_eight_are_refused(encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert double(double(point_at(int.from_bytes(data, "little")))) == (0, P - 1)
    with pytest.raises(InvalidObject, match="everybody can sign"):
        PublicKey("key", data)


def test_a_list_of_keys_is_separated_by_white_space() -> None:
    publics = [public for _, public in vectors.KEYS]
    assert [str(key) for key in parse_public_keys(f" {' '.join(publics)}\n{publics[0]} ")] == publics
    assert parse_public_keys(" \n") == ()
    with pytest.raises(InvalidObject, match="public key 'nonsense'"):
        parse_public_keys(f"{publics[0]} nonsense")


class TestKeyFile:
    def test_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(f"{SECRET}\n")
        assert str(SecretKey.read(tmp_path / "key")) == SECRET

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"nonsense", "expected NAME:BASE64"),
            (b"k:\xff", "not UTF-8"),
            (bytes(4097), "more than 4096 bytes"),
            (PUBLIC.encode(), "32 bytes of data instead of 64"),
        ],
    )
    def test_with_something_else_is_refused_by_name(self, data: bytes, reason: str, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(data)
        with pytest.raises(ConfigError, match=f"key file {tmp_path}/key: .*{reason}"):
            SecretKey.read(tmp_path / "key")

    def test_that_is_absent_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=f"key file {tmp_path}/key: No such file"):
            SecretKey.read(tmp_path / "key")

    def test_made_by_nix_is_read(self, nix_store: str, tmp_path: Path) -> None:
        secret, public = tmp_path / "secret", tmp_path / "public"
        command = [nix_store, "--generate-binary-cache-key", "real_nix-1", str(secret), str(public)]
        subprocess.run(command, check=True, capture_output=True, env={"NIX_STORE_DIR": str(tmp_path / "store")})
        key = SecretKey.read(secret)
        assert str(key) == secret.read_text()
        assert str(key.public) == public.read_text()
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
