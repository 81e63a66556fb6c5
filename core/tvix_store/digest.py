"""The name of everything in castore: a BLAKE3 digest, and bytes that carry theirs with them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Self

from blake3 import blake3

from tvix_store.errors import InvalidObject

__all__ = ["DIGEST_BYTES", "EMPTY_DIGEST", "B3Digest", "HashedBlob"]

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, order=True)
class B3Digest:
    """A BLAKE3-256 digest: 32 bytes, default hashing mode.

    ``str()`` gives ``blake3-`` and padded base64, as snix prints it; ``tvix_text`` the older ``b3:`` form.

    Raises:
        InvalidObject: ``raw`` is not 32 bytes long.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != DIGEST_BYTES:
            raise InvalidObject(f"invalid digest length: {len(self.raw)} bytes instead of {DIGEST_BYTES}")

    def __hash__(self) -> int:
        return hash(self.raw)

    @classmethod
    def of(cls, data: bytes | memoryview) -> Self:
        """The digest of ``data``."""
        return cls(blake3(data).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``blake3-BASE64``, ``b3:BASE64`` or 64 hex digits.

        Raises:
            InvalidObject: ``text`` is none of these.
        """
        for prefix in ("blake3-", "b3:"):
            if text.startswith(prefix):
                try:
                    return cls(base64.b64decode(text[len(prefix) :], validate=True))
                except (ValueError, InvalidObject) as exc:
                    raise InvalidObject(f"{text[:80]!r} is not a BLAKE3 digest: {exc}") from exc
        try:
            return cls(bytes.fromhex(text) if len(text) == 2 * DIGEST_BYTES else b"")
        except ValueError as exc:
            raise InvalidObject(f"{text[:80]!r} is not a BLAKE3 digest: {exc}") from exc
        except InvalidObject as exc:
            raise InvalidObject(
                f"{text[:80]!r} is not a BLAKE3 digest: expected blake3-BASE64, b3:BASE64 or 64 hex digits"
            ) from exc

    @property
    def tvix_text(self) -> str:
        """``b3:`` and padded base64, as tvix prints digests."""
        return f"b3:{base64.b64encode(self.raw).decode()}"

    def hex(self) -> str:
        """64 lower case hex digits."""
        return self.raw.hex()

    def __str__(self) -> str:
        return f"blake3-{base64.b64encode(self.raw).decode()}"


class HashedBlob:
    """The contents of a blob and their digest, which is computed here and nowhere else.

    There is no way to state the digest, so a service that is handed one need not hash it again.
    """

    __slots__ = ("data", "digest")

    data: bytes
    digest: B3Digest

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.digest = B3Digest(blake3(data).digest())

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"HashedBlob({self.digest}, {len(self.data)} bytes)"


EMPTY_DIGEST = B3Digest.of(b"")
"""Digest of the empty blob, and of the empty directory, whose encoding has no bytes."""
