"""Path infos of another service, with faults."""

from __future__ import annotations

from tvix_store.around import AroundPathInfoService
from tvix_store.path_info import PathInfoService
from tvix_store_fault.faults import Faults

__all__ = ["FaultPathInfoService"]


class FaultPathInfoService(AroundPathInfoService):
    """A path info service that fails on purpose.

    Args:
        inner: The service; not closed with this.
        faults: What goes wrong.
    """

    relays = False

    def __init__(self, inner: PathInfoService, faults: Faults) -> None:
        super().__init__(inner, faults)
        self.faults = faults
