"""The hashes Nix names contents by, and every way it writes them.

Source: Nix manual, "nix hash"; Subresource Integrity, https://www.w3.org/TR/SRI/
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from typing import Self

from tvix_store import nixbase32
from tvix_store.errors import InvalidObject
from tvix_store.nixbase32 import shown

__all__ = ["HashAlgorithm", "NixHash"]

_TAGGED = re.compile(r"([^:-]*)([:-])(.*)", re.DOTALL)


class HashAlgorithm(Enum):
    """A hash algorithm; the value is its name in every textual form."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Look up an algorithm by its lower case name.

        Raises:
            InvalidObject: There is no such algorithm.
        """
        try:
            return cls(name)
        except ValueError:
            raise InvalidObject(f"hash algorithm {shown(name)}: not one of {', '.join(a.value for a in cls)}") from None

    @property
    def digest_size(self) -> int:
        """The length of a digest in bytes."""
        return _DIGEST_SIZES[self]

    def hasher(self) -> "hashlib._Hash":
        """A fresh `hashlib` object."""
        return hashlib.new(self.value, usedforsecurity=False)

    def __str__(self) -> str:
        return self.value


_DIGEST_SIZES = {
    HashAlgorithm.MD5: 16,
    HashAlgorithm.SHA1: 20,
    HashAlgorithm.SHA256: 32,
    HashAlgorithm.SHA512: 64,
}


@dataclass(frozen=True, slots=True)
class NixHash:
    """A digest and the algorithm it was made with.

    Args:
        algorithm: The algorithm.
        digest: As many bytes as the algorithm yields.

    Raises:
        InvalidObject: The digest has another length.
    """

    algorithm: HashAlgorithm
    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != self.algorithm.digest_size:
            raise InvalidObject(
                f"{self.algorithm} digest {shown(self.digest.hex())}: "
                f"{len(self.digest)} bytes instead of {self.algorithm.digest_size}"
            )

    @classmethod
    def of(cls, algorithm: HashAlgorithm, data: bytes) -> Self:
        """Hash bytes that are in memory anyway."""
        hasher = algorithm.hasher()
        hasher.update(data)
        return cls(algorithm, hasher.digest())

    @classmethod
    def parse(cls, text: str, expected: HashAlgorithm | None = None) -> Self:
        """Read ``algo:digest``, SRI ``algo-base64`` or, with ``expected`` given, a bare digest.

        SRI is read as leniently as Nix reads it: what follows the base64 of a digest is ignored, padding may
        be missing or wrong, and stray bits in the last character do not matter. Everything else is strict.

        Args:
            text: The hash.
            expected: The algorithm known from elsewhere; one in the text must agree with it.

        Raises:
            InvalidObject: The text is none of these forms.
        """
        tagged = _TAGGED.fullmatch(text)
        if tagged is None:
            if expected is None:
                raise InvalidObject(f"hash {shown(text)}: names no algorithm, and none is implied")
            return cls.from_digest_text(expected, text)
        name, separator, digest_text = tagged.groups()
        algorithm = HashAlgorithm.parse(name)
        if expected is not None and algorithm is not expected:
            raise InvalidObject(f"hash {shown(text)}: {algorithm} where {expected} is expected")
        if separator == ":":
            return cls.from_digest_text(algorithm, digest_text)
        return cls(algorithm, _decode_sri_digest(algorithm, digest_text))

    @classmethod
    def from_digest_text(cls, algorithm: HashAlgorithm, text: str) -> Self:
        """Read a digest alone: base16 in either case, nixbase32 or padded base64, told apart by the length.

        Raises:
            InvalidObject: The length fits none of the three, or the text is not well-formed.
        """
        size = algorithm.digest_size
        if len(text) == nixbase32.encoded_length(size):
            return cls(algorithm, nixbase32.decode_fixed(text, size))
        try:
            if len(text) == 2 * size:
                return cls(algorithm, binascii.unhexlify(text))
            if len(text) == _base64_length(size):
                digest = base64.b64decode(text, validate=True)
                # Two texts for one digest would be one too many: unused bits have to be zero.
                if base64.b64encode(digest).decode() != text:
                    raise InvalidObject(f"{algorithm} digest {shown(text)}: not canonical base64")
                return cls(algorithm, digest)
        except ValueError as exc:
            raise InvalidObject(f"{algorithm} digest {shown(text)}: {exc}") from exc
        raise InvalidObject(
            f"{algorithm} digest {shown(text)}: {len(text)} characters are neither base16, nixbase32 nor base64"
        )

    def hex(self) -> str:
        """The digest alone in lower case base16."""
        return self.digest.hex()

    def nixbase32(self) -> str:
        """The digest alone in nixbase32."""
        return nixbase32.encode(self.digest)

    def base64(self) -> str:
        """The digest alone in padded base64."""
        return base64.b64encode(self.digest).decode()

    def nix(self) -> str:
        """The form of narinfo files and content addresses: ``algo:`` and nixbase32."""
        return f"{self.algorithm}:{self.nixbase32()}"

    def sri(self) -> str:
        """The form of Subresource Integrity: ``algo-`` and padded base64."""
        return f"{self.algorithm}-{self.base64()}"

    def __str__(self) -> str:
        return self.nix()


def _base64_length(n_bytes: int) -> int:
    return (n_bytes + 2) // 3 * 4


def _decode_sri_digest(algorithm: HashAlgorithm, text: str) -> bytes:
    padded_length = _base64_length(algorithm.digest_size)
    unpadded_length = (8 * algorithm.digest_size + 5) // 6
    digits = text[:padded_length].rstrip("=")
    if len(digits) != unpadded_length:
        raise InvalidObject(
            f"SRI hash {shown(f'{algorithm}-{text}')}: {len(digits)} base64 digits instead of {unpadded_length}"
        )
    try:
        return base64.b64decode(digits + "=" * (padded_length - unpadded_length), validate=True)
    except ValueError as exc:
        raise InvalidObject(f"SRI hash {shown(f'{algorithm}-{text}')}: {exc}") from exc
