"""The NAR calculation service interface: how large the NAR of a node is, and its SHA-256."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from tvix_store.errors import DanglingReference, Unsupported
from tvix_store.nodes import Node

__all__ = ["FirstNarCalculation", "NarCalculationService", "NarDigest"]


@dataclass(frozen=True, slots=True)
class NarDigest:
    """Size in bytes and SHA-256 (32 bytes) of a NAR."""

    size: int
    sha256: bytes


class NarCalculationService(ABC):
    """Finds size and SHA-256 of the NAR of a node. ``nar_render.RenderingNarCalculation`` is the default."""

    @abstractmethod
    async def calculate_nar(self, node: Node) -> NarDigest:
        """Size and SHA-256 of the contents of ``node`` as a NAR.

        Raises:
            DanglingReference: A blob or directory below ``node`` is absent.
            InvalidObject: A blob is longer or shorter than its node says.
        """


class FirstNarCalculation(NarCalculationService):
    """Asks ``first``, which is nearer to the contents if it has them, and ``second`` if it has not.

    A remote store has what this one has only if it is behind all three services.
    """

    def __init__(self, first: NarCalculationService, second: NarCalculationService) -> None:
        self._first = first
        self._second = second

    async def calculate_nar(self, node: Node) -> NarDigest:
        try:
            return await self._first.calculate_nar(node)
        except (DanglingReference, Unsupported):
            return await self._second.calculate_nar(node)
