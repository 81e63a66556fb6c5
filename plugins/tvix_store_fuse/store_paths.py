"""What is in the mount root: the store paths, by name, and what is remembered of them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from tvix_store.errors import InvalidObject, StoreError, Unavailable
from tvix_store.flights import Flight, Flights
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.resource import AsyncResource
from tvix_store.store_path import StorePath
from tvix_store_fuse.in_time import each_in_time, in_time
from tvix_store_fuse.listings import RootListing

__all__ = ["Found", "StorePaths", "parse_name"]

logger = logging.getLogger(__name__)

_MAX_KNOWN = 10_000
_KNOWN_S = 2.0
"""How long to wait for news of a store path that was seen before: there hardly ever are any."""
_MAX_LATE = 64


def parse_name(name: bytes) -> StorePath | None:
    """The store path with this base name; ``None`` if no store path can be called so."""
    try:
        return StorePath.from_base_name(name.decode("ascii"))
    except (InvalidObject, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class Found:
    """A store path.

    Args:
        path_info: What is known of it.
        is_certain: Whether the store has said so just now; otherwise it has said so before, and does not answer.
    """

    path_info: PathInfo
    is_certain: bool


class StorePaths(AsyncResource):
    """The store paths by name. Who asks for the same at the same time shares one call.

    Those used last are remembered, and all that were listed, for when the store does not answer: what a store path
    is does not change, so that a store which is away takes nothing away that was seen.

    Args:
        service: Not closed with this.
        timeout_s: How long a call on it may take, and each item of its list.
        max_known: How many are remembered beside the listed ones.
    """

    def __init__(self, service: PathInfoService, timeout_s: float = 60.0, max_known: int = _MAX_KNOWN) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self._max_known = max_known
        self._known: OrderedDict[bytes, PathInfo] = OrderedDict()
        self._listing: RootListing | None = None
        self._gets: Flights[bytes, PathInfo | None] = Flights()
        self._late: set[Flight[PathInfo | None]] = set()  # whoever waited for these was told that it takes too long
        self._lists: Flights[None, RootListing] = Flights()

    @property
    def listing(self) -> RootListing | None:
        """What ``list`` has given last, which it keeps up to date; ``None`` if it was never called."""
        return self._listing

    def known(self, name: bytes) -> PathInfo | None:
        """What is remembered of a store path; ``None`` if it was not seen, or long ago."""
        path_info = self._known.get(name)
        if path_info is None and self._listing is not None:
            path_info = self._listing.path_info(name)
        return path_info

    async def find(self, path: StorePath) -> Found | None:
        """The store path, if the store has it, under exactly this name; ``None`` if it does not.

        Raises:
            StoreError: The store could not say, and it was not seen before.
        """
        name = path.base_name.encode()
        known = self.known(name)
        try:
            path_info = await self._get(path, self._timeout_s if known is None else min(self._timeout_s, _KNOWN_S))
        except StoreError as exc:
            if known is None:
                raise
            logger.warning("%s is shown as it was seen before: %s", path, exc)
            return Found(known, is_certain=False)
        if path_info is None or path_info.store_path != path:
            self._known.pop(name, None)
            if self._listing is not None:
                self._listing.replace(name, None)
            return None
        self._remember(name, path_info)
        return Found(path_info, is_certain=True)

    async def _get(self, path: StorePath, timeout_s: float) -> PathInfo | None:
        """What the store has, if it answers in time.

        A call that takes longer goes on: a store that fetches may need more time for a large path than anybody should
        be kept waiting. Who asks again makes a call of their own, since the first may never end; those services that
        fetch have one fetch for both.
        """
        flight = self._gets.find(path.digest)
        if flight is None or flight in self._late:
            flight = self._gets.start(path.digest, lambda: self._service.get(path.digest))
        flight.hold()
        try:
            return await in_time(flight.result(), timeout_s, f"path info {path}")
        except Unavailable:
            if not flight.task.done() and len(self._late) < _MAX_LATE and flight not in self._late:
                flight.hold()
                self._late.add(flight)
                flight.task.add_done_callback(partial(self._landed, flight))
            raise
        finally:
            flight.release()

    def _landed(self, flight: Flight[PathInfo | None], _: object) -> None:
        self._late.discard(flight)
        flight.release()

    def _remember(self, name: bytes, path_info: PathInfo) -> None:
        self._known[name] = path_info
        self._known.move_to_end(name)
        if len(self._known) > self._max_known:
            self._known.popitem(last=False)
        if self._listing is not None:
            self._listing.replace(name, path_info)

    async def list(self) -> RootListing:
        """All store paths, read anew; those that were listed before keep their positions.

        Raises:
            StoreError: The store could not say, or cannot list. The listing is as it was before then.
        """
        return await self._lists.join(None, self._list)

    async def _list(self) -> RootListing:
        path_infos: list[PathInfo] = []
        async with aclosing(each_in_time(self._service.list(), self._timeout_s, "list of store paths")) as items:
            async for path_info in items:
                path_infos.append(path_info)
        if self._listing is None:
            self._listing = RootListing()
        self._listing.update(path_infos)
        for name, path_info in self._known.items():
            self._known[name] = self._listing.path_info(name) or path_info
        return self._listing

    async def aclose(self) -> None:
        """Cancel what is under way."""
        try:
            await self._gets.aclose()
        finally:
            await self._lists.aclose()
