"""Which shard an object belongs to: weighted rendezvous hashing of its digest and the names of the shards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from blake3 import blake3

__all__ = ["Rendezvous"]

T = TypeVar("T")

_BITS = 52  # so that the middle of each step is a float, strictly between 0 and 1


class Rendezvous:
    """The owner of a digest is the shard with the highest score.

    The score is ``-weight / ln(u)``, where ``u`` is between 0 and 1: the first 52 bits of BLAKE3 of the name in UTF-8,
    a zero byte and the digest, as a big-endian number, plus a half, by 2**52. So a shard has a part of the objects as
    large as its weight among all; and one that is added or removed, or whose weight changes, changes the owner only of
    objects that it has or had. Equal scores, which do not happen, go to the name that sorts first.

    Args:
        weights: By name; each above zero.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._shards = [(name, name.encode() + b"\0", -weight) for name, weight in sorted(weights.items())]

    def owner(self, digest: bytes) -> str:
        """The name of the shard that an object with this digest belongs to."""
        best, owner = 0.0, ""
        for name, prefix, negative_weight in self._shards:
            first = int.from_bytes(blake3(prefix + digest).digest(length=8), "big") >> (64 - _BITS)
            score = negative_weight / math.log((first + 0.5) / 2**_BITS)
            if score > best:
                best, owner = score, name
        return owner

    def parts(self, items: Iterable[tuple[bytes, T]]) -> dict[str, list[T]]:
        """Items by their owners, in their order.

        Args:
            items: Each with its digest.
        """
        parts: dict[str, list[T]] = {}
        for digest, item in items:
            parts.setdefault(self.owner(digest), []).append(item)
        return parts
