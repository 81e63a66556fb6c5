from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import U64_MAX
from tvix_store.narinfo import MAX_NARINFO_BYTES, NarInfo
from tvix_store.path_info import PathMetadata, Signature
from tvix_store.signing import is_key_name
from tvix_store.store_path import StorePath
from vectors import nix_narinfos as vectors

CASTORE = NarInfo.parse(vectors.CASTORE.encode())
DOCUMENTS = [
    *(document for document, _ in vectors.GENERATED),
    *vectors.REAL.values(),
    vectors.CASTORE,
    vectors.TVIX_CASTORE,
    vectors.SNIX_CASTORE,
]

LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)
NAMES = st.from_regex(r"[A-Za-z0-9+_?=][A-Za-z0-9+\-._?=]{0,20}", fullmatch=True)
STORE_PATHS = st.builds(StorePath, st.binary(min_size=20, max_size=20), NAMES)
SIGNATURES = st.builds(
    Signature, st.text(st.characters(codec="utf-8")).filter(is_key_name), st.binary(min_size=64, max_size=64)
)
HASHES = st.sampled_from(HashAlgorithm).flatmap(
    lambda algorithm: st.binary(min_size=algorithm.digest_size, max_size=algorithm.digest_size).map(
        lambda digest: NixHash(algorithm, digest)
    )
)
CONTENT_ADDRESSES = st.builds(
    ContentAddress, st.sampled_from([ContentAddressMethod.NAR, ContentAddressMethod.FLAT]), HASHES
)
METADATA = st.builds(
    PathMetadata,
    store_path=STORE_PATHS,
    nar_size=st.integers(1, U64_MAX),
    nar_sha256=st.binary(min_size=32, max_size=32),
    references=st.lists(STORE_PATHS).map(tuple),
    signatures=st.lists(SIGNATURES, unique=True).map(tuple),
    deriver=st.none() | STORE_PATHS,
    ca=st.none() | CONTENT_ADDRESSES,
)
NARINFOS = st.builds(
    NarInfo, METADATA, url=LINE, compression=LINE, file_hash=st.none() | HASHES, file_size=st.none() | st.integers(1, 9)
)


def changed(before: str, after: str) -> bytes:
    """The castore document with one thing changed."""
    assert vectors.CASTORE.count(before) == 1
    return vectors.CASTORE.replace(before, after).encode(errors="surrogateescape")


@pytest.mark.parametrize(("document", "fingerprint"), vectors.GENERATED)
def test_what_nix_wrote_is_read_and_written_again(document: str, fingerprint: str) -> None:
    narinfo = NarInfo.parse(document.encode())
    assert narinfo.metadata.fingerprint() == fingerprint
    assert narinfo.render() == document.encode()


@pytest.mark.parametrize("name", vectors.REAL)
def test_real_documents_are_written_again(name: str) -> None:
    document = vectors.REAL[name]
    rendered = NarInfo.parse(document.encode()).render().decode()
    # Not what is only another way to say the same.
    document = document.replace("Deriver: unknown-deriver\n", "")
    document = document.replace(
        "NarHash: sha256:60adfd293a4d81ad7cd7e47263cbb3fc846309ef91b154a08ba672b558f94ff3",
        "NarHash: sha256:1wsgz5cbawm6ifh59ccixw4n717wng5n6wp4sxyav0ad78lzvbb0",
    )
    assert rendered == document


def test_fields_of_a_real_document() -> None:
    narinfo = NarInfo.parse(vectors.REAL["curl-7.82.0-bin"].encode())
    assert narinfo.metadata.fingerprint() == vectors.CURL_FINGERPRINT
    assert narinfo.compression == "xz"
    assert (narinfo.file_size, narinfo.metadata.nar_size) == (68852, 196040)
    assert narinfo.file_hash is not None
    assert f"nar/{narinfo.file_hash.nixbase32()}.nar.xz" == narinfo.url
    assert str(narinfo.metadata.deriver) == "5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0"
    assert [signature.name for signature in narinfo.metadata.signatures] == ["cache.nixos.org-1", "test1"]


@pytest.mark.parametrize(("before", "after"), vectors.ACCEPTED)
def test_variants_of_real_caches_are_taken(before: str, after: str) -> None:
    narinfo = NarInfo.parse(changed(before, after))
    deriver = narinfo.metadata.deriver
    assert deriver is None or str(deriver) == "n51dg1bkk64ck36i3bkaz2a5bk221m39-selfref"
    assert replace(narinfo.metadata, deriver=None) == CASTORE.metadata
    assert narinfo.url == CASTORE.url
    assert narinfo.compression == ("bzip2" if before.startswith("Compression") else "none")
    if not before.startswith("FileHash"):
        assert (narinfo.file_hash, narinfo.file_size) == (CASTORE.file_hash, CASTORE.file_size)


@pytest.mark.parametrize(("before", "after"), vectors.REJECTED)
def test_what_is_no_narinfo_is_refused_in_one_line(before: str, after: str) -> None:
    with pytest.raises(InvalidObject, match=r"\Anarinfo(: | line [0-9]+[: ])[^\n]+\Z"):
        NarInfo.parse(changed(before, after))


def test_the_error_names_line_key_and_reason() -> None:
    with pytest.raises(InvalidObject, match=r"narinfo line 7: NarSize: '0x348' is not a decimal number"):
        NarInfo.parse(changed("NarSize: 840", "NarSize: 0x348"))
    with pytest.raises(InvalidObject, match=r"narinfo line 9: NarSize for the second time, after line 7"):
        NarInfo.parse(changed("Sig: ", "NarSize: 840\nSig: "))
    with pytest.raises(InvalidObject, match=r"narinfo: NarSize is missing"):
        NarInfo.parse(changed("NarSize: 840\n", ""))


@pytest.mark.parametrize("text", ["+840", "0840", "+" + "0" * 100_000 + "840"])
def test_sizes_may_have_a_sign_and_zeros(text: str) -> None:
    assert NarInfo.parse(changed("NarSize: 840", f"NarSize: {text}")).metadata.nar_size == 840


@pytest.mark.parametrize("text", ["", "-1", "1_000", " 840", "٣", "1" * 5000, "++1"])
def test_other_numbers_are_not_sizes(text: str) -> None:
    with pytest.raises(InvalidObject, match="narinfo line 7: NarSize: "):
        NarInfo.parse(changed("NarSize: 840", f"NarSize: {text}"))


def test_file_size_may_be_unknown() -> None:
    for text in ("", "0"):
        assert NarInfo.parse(changed("FileSize: 840", f"FileSize: {text}")).file_size is None


@pytest.mark.parametrize(
    "text",
    [
        "EBD52279A8DF024C9FD5718DE4103BF5E760DC7F2CF49044EE7DEA87AB16911A".lower(),
        "EBD52279A8DF024C9FD5718DE4103BF5E760DC7F2CF49044EE7DEA87AB16911A",
        "69UieajfAkyf1XGN5BA79edg3H8s9JBE7n3qh6sWkRo=",
    ],
)
def test_nar_hash_is_read_in_every_form_and_written_in_one(text: str) -> None:
    before = "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb"
    assert NarInfo.parse(changed(before, f"NarHash: sha256:{text}")).render() == vectors.CASTORE.encode()


def test_references_keep_their_order_and_repetitions() -> None:
    listed = "i1j3ls10n66w1rqzxjmzvpg859cwk2yr-b 8hs40s8n82l21p9arah3dvpip2jbsphc-a i1j3ls10n66w1rqzxjmzvpg859cwk2yr-b"
    narinfo = NarInfo.parse(changed("References: ", f"References:  {listed.replace(' ', '  ')} "))
    assert " ".join(map(str, narinfo.metadata.references)) == listed
    assert f"\nReferences: {listed}\n".encode() in narinfo.render()


def test_the_same_signature_twice_is_one() -> None:
    line = next(line for line in vectors.CASTORE.split("\n") if line.startswith("Sig: "))
    assert NarInfo.parse(changed("CA: ", f"{line}\nCA: ")).metadata == CASTORE.metadata


def test_another_store_directory() -> None:
    document = vectors.CASTORE.replace("/nix/store", "/gnu/store").encode()
    narinfo = NarInfo.parse(document, "/gnu/store")
    assert narinfo == CASTORE
    assert narinfo.render("/gnu/store") == document


def test_empty_values_of_optional_keys_are_as_if_absent() -> None:
    narinfo = NarInfo.parse(changed("CA: ", "Deriver: \nSystem: \nCA: "))
    assert narinfo.metadata.deriver is None
    ca = next(line for line in vectors.CASTORE.split("\n") if line.startswith("CA: "))
    assert NarInfo.parse(changed(ca, "CA: ")).metadata.ca is None


def test_length_is_bounded() -> None:
    document = changed("CA: ", f"Foo: {'x' * MAX_NARINFO_BYTES}\nCA: ")
    with pytest.raises(LimitExceeded, match="more than 2097152"):
        NarInfo.parse(document)
    assert NarInfo.parse(document.replace(b"x" * 1000, b"")) == CASTORE


def test_a_signature_cannot_smuggle_lines_in() -> None:
    signature = Signature("key\nURL: nar/evil.nar\nFoo", bytes(64))
    narinfo = replace(CASTORE, metadata=CASTORE.metadata.with_signatures(signature))
    assert narinfo.render() == CASTORE.render()


def test_a_deriver_without_room_for_its_suffix_is_left_out() -> None:
    for name, written in (("a" * 207, True), ("a" * 208, False)):
        narinfo = replace(CASTORE, metadata=replace(CASTORE.metadata, deriver=StorePath(bytes(20), name)))
        assert (b"\nDeriver: " in narinfo.render()) is written
        assert (NarInfo.parse(narinfo.render()) == narinfo) is written


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(InvalidObject, match="complicated: URL: it is empty"):
        replace(CASTORE, url="")
    with pytest.raises(InvalidObject, match=r"URL: .* contains control characters"):
        replace(CASTORE, url="nar/x.nar\nSig: y")
    with pytest.raises(InvalidObject, match="Compression: it is empty"):
        replace(CASTORE, compression="")
    with pytest.raises(InvalidObject, match="NarSize is 0"):
        replace(CASTORE, metadata=replace(CASTORE.metadata, nar_size=0))
    with pytest.raises(InvalidObject, match="FileSize is 0"):
        replace(CASTORE, file_size=0)


@given(NARINFOS)
def test_what_is_written_is_read(narinfo: NarInfo) -> None:
    assert NarInfo.parse(narinfo.render()) == narinfo


@given(st.sampled_from(DOCUMENTS), st.randoms(use_true_random=False))
def test_lines_may_come_in_any_order(document: str, random: Random) -> None:
    lines = document.splitlines(keepends=True)
    signatures = [line for line in lines if line.startswith("Sig: ")]
    others = [line for line in lines if not line.startswith("Sig: ")]
    random.shuffle(others)
    assert NarInfo.parse("".join([*signatures, *others]).encode()) == NarInfo.parse(document.encode())


@given(
    st.sampled_from(DOCUMENTS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.binary(max_size=40)), max_size=4),
)
def test_no_bytes_raise_anything_else(document: str, edits: list[tuple[int, int, bytes]]) -> None:
    data = document.encode()
    for at, length, replacement in edits:
        data = data[:at] + replacement + data[at + length :]
    try:
        narinfo = NarInfo.parse(data)
    except InvalidObject:
        return
    assert NarInfo.parse(narinfo.render()).metadata.fingerprint() == narinfo.metadata.fingerprint()
