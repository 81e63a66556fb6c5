import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store import nixbase32
from tvix_store.errors import InvalidObject
from vectors.nix_base32 import REJECTED, ROWS


def encode_bit_by_bit(data: bytes) -> str:
    """The definition, one bit at a time."""
    bits = [byte >> i & 1 for byte in data for i in range(8)]
    bits += [0] * (-len(bits) % 5)
    digits = [sum(bit << i for i, bit in enumerate(bits[at : at + 5])) for at in range(0, len(bits), 5)]
    return "".join("0123456789abcdfghijklmnpqrsvwxyz"[digit] for digit in reversed(digits))


@pytest.mark.parametrize(("digest", "text"), ROWS)
def test_encode(digest: str, text: str) -> None:
    assert nixbase32.encode(bytes.fromhex(digest)) == text


@pytest.mark.parametrize(("digest", "text"), ROWS)
def test_decode(digest: str, text: str) -> None:
    assert nixbase32.decode(text) == bytes.fromhex(digest)


@pytest.mark.parametrize("text", REJECTED)
def test_decode_refuses_and_shows_the_text(text: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        nixbase32.decode(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["é" * 2, "\ud800" * 2, "\u0660" * 2, "00\n0", "+0", "0_00"])
def test_what_int_would_accept_or_choke_on_is_refused(text: str) -> None:
    with pytest.raises(InvalidObject, match="not in the alphabet"):
        nixbase32.decode(text)


@pytest.mark.parametrize(("text", "n_bytes"), [("00", 2), ("", 1), ("0", 0), ("0" * 31, 20), ("0" * 33, 20)])
def test_decode_fixed_refuses_other_lengths(text: str, n_bytes: int) -> None:
    with pytest.raises(InvalidObject, match="characters where"):
        nixbase32.decode_fixed(text, n_bytes)


@given(st.binary(max_size=80))
def test_encode_agrees_with_the_definition(data: bytes) -> None:
    assert nixbase32.encode(data) == encode_bit_by_bit(data)


@given(st.binary(max_size=80))
def test_round_trip(data: bytes) -> None:
    text = nixbase32.encode(data)
    assert len(text) == nixbase32.encoded_length(len(data))
    assert nixbase32.decode(text) == nixbase32.decode_fixed(text, len(data)) == data


@given(st.text(nixbase32.ALPHABET, max_size=80))
def test_a_text_either_is_refused_or_the_only_one_of_its_bytes(text: str) -> None:
    try:
        data = nixbase32.decode(text)
    except InvalidObject:
        return
    assert nixbase32.encode(data) == text


@given(st.lists(st.binary(min_size=20, max_size=20)))
def test_texts_sort_as_reversed_bytes(digests: list[bytes]) -> None:
    assert sorted(map(nixbase32.encode, digests)) == [
        nixbase32.encode(digest) for digest in sorted(digests, key=lambda digest: digest[::-1])
    ]


def test_shown_is_short_and_on_one_line() -> None:
    assert nixbase32.shown("a\nb") == r"'a\nb'"
    assert len(nixbase32.shown("x" * 10_000)) <= 120
