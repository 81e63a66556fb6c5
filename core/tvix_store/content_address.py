"""Content addresses: what a store path was made from when it follows from its contents alone.

Written ``text:sha256:DIGEST``, ``fixed:r:ALGO:DIGEST`` (the NAR was hashed) or ``fixed:ALGO:DIGEST`` (the
bytes of one file were). Source: Nix manual, "Content-Addressing Store Objects".
"""

from dataclasses import dataclass
from enum import Enum
from typing import Self

from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nixbase32 import shown

__all__ = ["ContentAddress", "ContentAddressMethod"]


class ContentAddressMethod(Enum):
    """What was hashed; the value is what precedes the hash in a content address."""

    NAR = "fixed:r:"
    FLAT = "fixed:"
    TEXT = "text:"


@dataclass(frozen=True, slots=True)
class ContentAddress:
    """A hash of contents and what of the contents was hashed.

    Args:
        method: What was hashed.
        hash: The hash; sha256 if the method is text.

    Raises:
        InvalidObject: The method and the algorithm do not go together.
    """

    method: ContentAddressMethod
    hash: NixHash

    def __post_init__(self) -> None:
        if self.method is ContentAddressMethod.TEXT and self.hash.algorithm is not HashAlgorithm.SHA256:
            raise InvalidObject(f"content address {shown(str(self))}: text is hashed with sha256 only")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a content address; the digest may be base16, nixbase32 or padded base64.

        Raises:
            InvalidObject: The text is not a content address. The empty text, which stands for "none" in some
                places, is not one either.
        """
        # FLAT comes after NAR, because the start of one is the start of the other.
        for method in (ContentAddressMethod.NAR, ContentAddressMethod.FLAT, ContentAddressMethod.TEXT):
            if text.startswith(method.value):
                break
        else:
            raise InvalidObject(f"content address {shown(text)}: starts with neither 'fixed:' nor 'text:'")
        name, separator, digest_text = text.removeprefix(method.value).partition(":")
        if not separator:
            raise InvalidObject(f"content address {shown(text)}: lacks an algorithm or a digest")
        try:
            nix_hash = NixHash.from_digest_text(HashAlgorithm.parse(name), digest_text)
        except InvalidObject as exc:
            raise InvalidObject(f"content address {shown(text)}: {exc}") from exc
        return cls(method, nix_hash)

    def __str__(self) -> str:
        return f"{self.method.value}{self.hash.nix()}"
