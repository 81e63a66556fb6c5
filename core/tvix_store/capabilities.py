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
        put: It takes puts; without it they raise Unsupported.
        list: ``list`` enumerates everything stored; without it the method raises Unsupported.
        delete: ``delete`` removes objects; without it the method raises Unsupported.
        chunks: ``chunks`` can answer with more than an empty list. Blob services only.
        verifies: What the service gives was checked by itself against the digest that was asked for, each piece in the
            thread that read it. The chunks that it lists were seen to hash to the blob together when it was put, and
            a list that has been damaged since is CorruptObject. So core does not hash again, and readers keep this
            promise after a seek, too. Only for services that store; what passes the calls of one on as they are may say
            so as well. Blob services only.
        compact: ``compact`` gives space back; without it the method raises Unsupported. Blob services only.
        durability: What a put that returned survives.
    """

    put: bool = True
    list: bool = False
    delete: bool = False
    chunks: bool = False
    verifies: bool = False
    compact: bool = False
    durability: Durability = Durability.NONE
