"""Nix's own base 32, in which store path digests and most hashes are written.

The bytes are taken as one little-endian number, which is written most significant digit first: the end of
the text comes from the start of the bytes. There is no padding; the first digit may hold fewer than five bits.

Source: Nix manual, "Nix32 encoding"; https://nix.dev/manual/nix/latest/protocols/nix32
"""

import reprlib

from tvix_store.errors import InvalidObject

__all__ = ["ALPHABET", "decode", "decode_fixed", "encode", "encoded_length", "shown"]

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
"""The 32 digits, in ascending ASCII order, so texts of one length sort as the numbers they stand for."""

# Two digits per lookup halve the interpreted steps of `encode`.
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]
_DIGITS = ALPHABET.encode()
# int() reads base 32 with the digits 0-9 and a-v, in C and, the base being a power of two, in linear time.
_TO_INT_DIGITS = bytes.maketrans(_DIGITS, b"0123456789abcdefghijklmnopqrstuv")

_brief = reprlib.Repr()
_brief.maxstring = 120


def shown(text: str) -> str:
    """The text as error messages show it: quoted, escaped, on one line, long ones with their middle left out."""
    return _brief.repr(text)


def encoded_length(n_bytes: int) -> int:
    """How many characters ``n_bytes`` bytes take."""
    return (8 * n_bytes + 4) // 5


def encode(data: bytes) -> str:
    """Write bytes in nixbase32."""
    length = encoded_length(len(data))
    number = int.from_bytes(data, "little")
    pairs = [_PAIRS[number >> shift & 0x3FF] for shift in range((length - 1) // 2 * 10, -1, -10)]
    # An odd length has one digit too many in front, always a zero.
    return "".join(pairs)[-length:] if length else ""


def decode(text: str) -> bytes:
    """Read nixbase32 of any possible length.

    Raises:
        InvalidObject: No bytes have a text of this length, or as `decode_fixed`.
    """
    n_bytes = len(text) * 5 // 8
    if len(text) != encoded_length(n_bytes):
        raise InvalidObject(f"nixbase32 {shown(text)}: nothing encodes to {len(text)} characters")
    return decode_fixed(text, n_bytes)


def decode_fixed(text: str, n_bytes: int) -> bytes:
    """Read the nixbase32 of exactly ``n_bytes`` bytes.

    Raises:
        InvalidObject: The length is wrong, a character is not in the alphabet, or the first digit holds more
            bits than there are left.
    """
    if len(text) != encoded_length(n_bytes):
        raise InvalidObject(
            f"nixbase32 {shown(text)}: {len(text)} characters where {n_bytes} bytes take {encoded_length(n_bytes)}"
        )
    raw = text.encode("utf-8", "surrogatepass")
    if raw.translate(None, _DIGITS):
        bad = next(character for character in text if character not in ALPHABET)
        raise InvalidObject(f"nixbase32 {shown(text)}: {bad!r} is not in the alphabet")
    number = int(raw.translate(_TO_INT_DIGITS) or b"0", 32)
    if number >> 8 * n_bytes:
        raise InvalidObject(f"nixbase32 {shown(text)}: the first character is too large for {n_bytes} bytes")
    return number.to_bytes(n_bytes, "little")
