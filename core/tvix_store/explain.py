"""Where in a composition an object is, and who would give it to a reader: the question, and the form of answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tvix_store.digest import B3Digest

__all__ = ["Answer", "Explainer", "Explanation", "Presence"]


class Presence(Enum):
    """What a service says when it is asked for an object."""

    PRESENT = "has it"
    ABSENT = "does not have it"
    UNKNOWN = "error"
    """It could not find out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one entry of a composition says.

    Args:
        entry: As messages name it: ``[blobservices.root]``, ``[blobservices.root] near``.
        type: Its tag.
        presence: Whether it has the object.
        note: Why it could not find out, or what it has.
        would_serve: Whether a reader of the root would be given what this one has. ``False`` also where that is
            not certain.
    """

    entry: str
    type: str
    presence: Presence
    note: str = ""
    would_serve: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the entries of one kind say of one object.

    Args:
        kind: ``blob``, ``directory`` or ``path info``.
        name: Of the object.
        answers: The root's first.
    """

    kind: str
    name: str
    answers: Sequence[Answer]


class Explainer(ABC):
    """Asks the entries of a composition."""

    @abstractmethod
    async def explain(self, key: B3Digest | bytes) -> Sequence[Explanation]:
        """Ask every entry that the roots need for an object. That is a read, and a cache may be filled by it.

        Args:
            key: A digest: the blob and the directory of that digest are meant. Or the 20 bytes of a store path's: its
                path info, and the root of its contents if some entry knows that.

        Raises:
            Unsupported: The store cannot say.
            Unavailable: It cannot be reached.
        """
