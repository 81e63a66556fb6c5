"""nix-cache-info: what a binary cache says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.limits import KIB
from tvix_store.store_path import STORE_DIR

__all__ = ["MAX_CACHE_INFO_BYTES", "CacheInfo"]

MAX_CACHE_INFO_BYTES = 64 * KIB

_PRIORITY_DIGITS = 9


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a ``nix-cache-info`` says.

    Args:
        store_dir: The store directory of the paths; ``None`` if it does not say.
        want_mass_query: Whether clients may ask for many paths at once.
        priority: Of several caches, clients ask the one with the lowest first; ``None`` if it does not say.
    """

    store_dir: str | None = STORE_DIR
    want_mass_query: bool = False
    priority: int | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a ``nix-cache-info``, as leniently as Nix does: what is not understood is passed over.

        Raises:
            InvalidObject: It is not UTF-8.
            LimitExceeded: It has more than ``MAX_CACHE_INFO_BYTES``.
        """
        if len(data) > MAX_CACHE_INFO_BYTES:
            raise LimitExceeded(f"nix-cache-info: {len(data)} bytes, which is more than {MAX_CACHE_INFO_BYTES}")
        try:
            text = data.decode()
        except UnicodeDecodeError as exc:
            raise InvalidObject(f"nix-cache-info: not UTF-8 at byte {exc.start}") from exc
        fields = {}
        for line in text.split("\n"):
            key, _, value = line.partition(":")
            fields[key] = value.strip()
        return cls(
            store_dir=fields.get("StoreDir") or None,
            want_mass_query=fields.get("WantMassQuery") == "1",
            priority=_priority(fields.get("Priority", "")),
        )

    def render(self) -> bytes:
        """Write the ``nix-cache-info``; what it does not say is left out."""
        lines = []
        if self.store_dir is not None:
            lines.append(f"StoreDir: {self.store_dir}\n")
        lines.append(f"WantMassQuery: {int(self.want_mass_query)}\n")
        if self.priority is not None:
            lines.append(f"Priority: {self.priority}\n")
        return "".join(lines).encode()


def _priority(text: str) -> int | None:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _PRIORITY_DIGITS:
        return None
    return int(text)
