from __future__ import annotations

import base64

import pytest

from tvix_store.digest import EMPTY_DIGEST, B3Digest, HashedBlob
from tvix_store.errors import InvalidObject
from tvix_store.testing.fixtures import GOLDEN_BLOBS
from vectors.castore import BLOBS, BlobVector

RAW = bytes(range(32))


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.name) for vector in BLOBS])
def test_golden_blobs(vector: BlobVector) -> None:
    digest = B3Digest.of(vector.data)
    assert digest.hex() == vector.hex
    assert str(digest) == f"blake3-{vector.base64}"
    assert digest.tvix_text == f"b3:{vector.base64}"
    assert HashedBlob(vector.data).digest == digest


def test_fixtures_for_authors_are_golden() -> None:
    vectors = {vector.name.removesuffix("_BLOB").removeprefix("BLOB_"): vector for vector in BLOBS}
    for name, blob in GOLDEN_BLOBS.items():
        assert (blob.data, blob.digest.hex()) == (vectors[name].data, vectors[name].hex)


@pytest.mark.parametrize("text", [str(B3Digest(RAW)), B3Digest(RAW).tvix_text, RAW.hex(), RAW.hex().upper()])
def test_every_way_to_write_a_digest_is_read(text: str) -> None:
    assert B3Digest.parse(text) == B3Digest(RAW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "blake3-",
        "b3:",
        RAW.hex()[:-1],
        RAW.hex() + "0",
        "g" * 64,
        "blake3-" + base64.b64encode(RAW).decode().rstrip("="),
        "blake3-" + base64.b64encode(RAW).decode().replace("=", "-"),
        "b3:" + base64.b64encode(RAW[:-1]).decode(),
        "b3:" + base64.b64encode(RAW).decode() + "\n",
        "sha256:" + RAW.hex(),
        "b3:é",
        " " * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidObject, match="is not a BLAKE3 digest"):
        B3Digest.parse(text)


@pytest.mark.parametrize("length", [0, 2, 31, 33, 64])
def test_digest_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidObject, match=f"invalid digest length: {length} bytes"):
        B3Digest(bytes(length))


def test_digests_are_values() -> None:
    assert {B3Digest(RAW), B3Digest(bytes(bytearray(RAW)))} == {B3Digest(RAW)}
    assert B3Digest(bytes(32)) < B3Digest(RAW)
    assert B3Digest.of(b"") == EMPTY_DIGEST == B3Digest.of(memoryview(b""))


def test_hashed_blob_cannot_be_told_its_digest() -> None:
    blob = HashedBlob(b"Hello World!")
    assert len(blob) == 12
    assert repr(blob) == f"HashedBlob({B3Digest.of(b'Hello World!')}, 12 bytes)"
    with pytest.raises(TypeError):
        HashedBlob(b"Hello World!", B3Digest(RAW))  # type: ignore[call-arg]
