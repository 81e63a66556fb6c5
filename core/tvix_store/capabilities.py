"""What a service states about itself, so that a composition that cannot work fails when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Capabilities", "Durability"]


class Durability(Enum):
    """What a put that returned survives."""

    NONE = "none"
    """Nothing: the object is gone when the process ends."""

    BATCHED = "batched"
    """The end of the process; power loss may take what was put last."""

    COMMIT = "commit"
    """Power loss, too."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The optional abilities of a service.

    Args:
        list: ``list`` enumerates everything stored; without it the method raises Unsupported.
        delete: ``delete`` removes objects; without it the method raises Unsupported.
        chunks: ``chunks`` can answer with more than an empty list. Blob services only.
        compact: ``compact`` gives space back; without it the method raises Unsupported. Blob services only.
        durability: What a put that returned survives.
    """

    list: bool = False
    delete: bool = False
    chunks: bool = False
    compact: bool = False
    durability: Durability = Durability.NONE
