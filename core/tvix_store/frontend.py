"""What a frontend is: one coroutine that serves the stores until it is cancelled, or until nobody can come any more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from tvix_store.blob import BlobService
from tvix_store.directory import DirectoryService
from tvix_store.explain import Explainer
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.path_info import PathInfoService

__all__ = ["Frontend", "Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """The services that a program works with: the roots of a composition.

    Putting a path info here waits for the blobs and directories that were put before to be durable.
    """

    blobs: BlobService
    directories: DirectoryService
    path_infos: PathInfoService
    nar_calculation: NarCalculationService
    explainer: Explainer | None = None
    """Says which of the entries behind the roots has what; ``None`` if there is no composition behind them."""


class Frontend(ABC):
    """Serves the stores to somebody outside of this process."""

    @abstractmethod
    async def serve(self, ready: Callable[[str], None]) -> None:
        """Serve until cancelled, then finish what is under way, within a deadline of the frontend's own.

        It may also end by itself, when what it served by has been taken away, as a filesystem is by ``umount``. The
        program then ends as after a signal: the other frontends finish, too.

        Args:
            ready: Called once, with the address, as soon as clients can connect.

        Raises:
            Unavailable: The address cannot be had, or serving failed.
        """

    def abandon(self) -> None:  # noqa: B027 - most leave nothing behind
        """Give back what would outlive the process, such as a mount; nothing, unless a frontend has such a thing.

        Called when the process ends at once, because of a second signal: in the event loop's thread, just before it
        does, at whatever point ``serve`` is. Must not wait.
        """
