import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from vectors.nix_content_addresses import REJECTED, ROWS


@st.composite
def content_addresses(draw: st.DrawFn) -> ContentAddress:
    method = draw(st.sampled_from(ContentAddressMethod))
    text = method is ContentAddressMethod.TEXT
    algorithm = HashAlgorithm.SHA256 if text else draw(st.sampled_from(HashAlgorithm))
    size = algorithm.digest_size
    return ContentAddress(method, NixHash(algorithm, draw(st.binary(min_size=size, max_size=size))))


@pytest.mark.parametrize(("text", "method", "algorithm", "digest"), ROWS)
def test_parse(text: str, method: str, algorithm: str, digest: str) -> None:
    ca = ContentAddress.parse(text)
    assert ca.method is ContentAddressMethod[method]
    assert ca.hash == NixHash(HashAlgorithm(algorithm), bytes.fromhex(digest))


@pytest.mark.parametrize("text", [row[0] for row in ROWS])
def test_write(text: str) -> None:
    assert str(ContentAddress.parse(text)) == text


@pytest.mark.parametrize("text", REJECTED)
def test_refused_and_shown(text: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        ContentAddress.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "text:sha256-tKUWgSFh8w3Jvpwsb2AYtiBpxY3vr873FuZCYfsR5xk=",
        "fixed:r:sha1",
        "fixed:",
        "fixed:git:sha1:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw",
        "fixed:r:sha1:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw\n",
        "x" * 5000,
    ],
)
def test_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        ContentAddress.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_text_takes_sha256_only() -> None:
    with pytest.raises(InvalidObject, match="sha256 only"):
        ContentAddress(ContentAddressMethod.TEXT, NixHash(HashAlgorithm.SHA1, bytes(20)))


@given(content_addresses())
def test_round_trip(ca: ContentAddress) -> None:
    assert ContentAddress.parse(str(ca)) == ca


@given(content_addresses())
def test_other_encodings_are_read(ca: ContentAddress) -> None:
    for digest in (ca.hash.hex(), ca.hash.hex().upper(), ca.hash.base64()):
        assert ContentAddress.parse(f"{ca.method.value}{ca.hash.algorithm}:{digest}") == ca
