"""How much a service holds, and what it takes to hold it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServiceStats"]


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """What a service says about its contents as a whole.

    Args:
        objects: How many there are as callers see them: blobs, directories or path infos.
        logical_bytes: Their contents added up; ``None`` if not known.
        unique_bytes: The same after de-duplication of the pieces they are stored in; ``None`` if not known.
        stored_bytes: What they take on disk, with index and all; ``None`` if not known.
        details: Name and value of what else there is to say, such as packs, frames or dead bytes.
    """

    objects: int
    logical_bytes: int | None = None
    unique_bytes: int | None = None
    stored_bytes: int | None = None
    details: tuple[tuple[str, int | float | str], ...] = ()

    @property
    def deduplication(self) -> float | None:
        """How many times the unique bytes the logical ones are; ``None`` if not known."""
        return _ratio(self.logical_bytes, self.unique_bytes)

    @property
    def compression(self) -> float | None:
        """How many times the stored bytes the unique ones are; ``None`` if not known."""
        return _ratio(self.unique_bytes, self.stored_bytes)


def _ratio(whole: int | None, part: int | None) -> float | None:
    return whole / part if whole and part else None
