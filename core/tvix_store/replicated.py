"""Services that keep the same objects in several places, and can see to it that all of them have all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from tvix_store.verification import VerifyProgress, no_progress

__all__ = ["ReplicatedService"]


class ReplicatedService(ABC):
    """What a service of replicas is beside a blob, directory or path info service; ``verify`` asks it to resync."""

    @abstractmethod
    async def resync(self, progress: VerifyProgress = no_progress) -> Mapping[str, int]:
        """Compare what the replicas list, and put what one lacks there from the others; durable when this returns.

        Args:
            progress: Told how many objects have been looked for.

        Returns:
            How many objects were put into each replica, by its name; those that lacked nothing are left out.

        Raises:
            Unsupported: Not all of them can list what they hold.
            StoreError: One of them failed. What was put before stays.
        """
