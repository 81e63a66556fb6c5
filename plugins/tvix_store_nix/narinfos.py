"""narinfos of an upstream: asked for once, checked, and remembered for a short time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvix_store.cache_info import MAX_CACHE_INFO_BYTES, CacheInfo
from tvix_store.errors import ConfigError, InvalidObject, LimitExceeded
from tvix_store.flights import Flights
from tvix_store.limits import KIB, MIB
from tvix_store.narinfo import MAX_NARINFO_BYTES, NarInfo
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.signing import PublicKey
from tvix_store.store_path import STORE_DIR
from tvix_store.trust import check_trusted
from tvix_store_nix.upstream import Upstream

__all__ = ["NarInfoPolicy", "NarInfos"]

_TTL_S = 60.0
_IN_THREAD_BYTES = 64 * KIB
_ENTRY_BYTES = 512
"""What an answer takes beside the text of the narinfo, roughly."""


@dataclass(frozen=True, slots=True)
class NarInfoPolicy:
    """What is believed, and for how long.

    Args:
        public_keys: Whose signatures count. ``None``: nothing has to be signed; empty: only what is content-addressed
            is believed.
        max_nar_bytes: Longer NARs are refused.
        negative_ttl_s: How long an absent path counts as absent.
        max_remembered_bytes: How much memory the answers may take.
    """

    public_keys: Sequence[PublicKey] | None = None
    max_nar_bytes: int | None = None
    negative_ttl_s: float = 30.0
    max_remembered_bytes: int = 16 * MIB


class NarInfos:
    """The narinfos of one upstream.

    Args:
        name: Of the entry, for messages.
        upstream: The upstream; not closed with this.
        policy: What is believed.
        clock: Seconds from some point on.
    """

    def __init__(
        self, name: str, upstream: Upstream, policy: NarInfoPolicy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._upstream = upstream
        self._policy = policy
        self._clock = clock
        self._flights: Flights[bytes, NarInfo | None] = Flights()
        self._cache_info: CacheInfo | None = None
        self._cache_info_flights: Flights[None, CacheInfo] = Flights()
        self._remembered: OrderedDict[bytes, tuple[float, int, NarInfo | None]] = OrderedDict()
        self._remembered_bytes = 0

    async def get(self, digest: bytes) -> NarInfo | None:
        """The narinfo of the store path with this digest; ``None`` if the upstream has none.

        Raises:
            InvalidObject: What it has is not a narinfo of that path, not trusted, or about too long a NAR.
            ConfigError: It is a cache for another store directory.
            Unavailable: It cannot be asked.
        """
        remembered = self._remembered.get(digest)
        if remembered is not None and remembered[0] > self._clock():
            return remembered[2]
        return await self._flights.join(digest, lambda: self._fetch(digest))

    async def _fetch(self, digest: bytes) -> NarInfo | None:
        await self._check_store_dir()
        file_name = f"{nixbase32(digest)}.narinfo"
        data = await self._upstream.read(file_name, MAX_NARINFO_BYTES)
        if data is None:
            self._remember(digest, None, self._policy.negative_ttl_s, 0)
            return None
        self.forget(digest)
        try:
            if len(data) > _IN_THREAD_BYTES:
                narinfo = await asyncio.to_thread(self._checked, digest, data)
            else:
                narinfo = self._checked(digest, data)
        except InvalidObject as exc:
            raise type(exc)(f"{self.name}: {file_name}: {exc}") from exc
        self._remember(digest, narinfo, _TTL_S, len(data))
        return narinfo

    def _checked(self, digest: bytes, data: bytes) -> NarInfo:
        narinfo = NarInfo.parse(data)
        metadata = narinfo.metadata
        if metadata.store_path.digest != digest:
            raise InvalidObject(f"it is about another path, {metadata.store_path}")
        limit = self._policy.max_nar_bytes
        if limit is not None and metadata.nar_size > limit:
            raise LimitExceeded(f"the NAR of {metadata.store_path} has {metadata.nar_size} bytes, more than {limit}")
        if self._policy.public_keys is not None:
            check_trusted(metadata, self._policy.public_keys)
        return narinfo

    async def _check_store_dir(self) -> None:
        if self._cache_info is None:
            self._cache_info = await self._cache_info_flights.join(None, self._fetch_cache_info)
        store_dir = self._cache_info.store_dir
        if store_dir not in (None, STORE_DIR):
            raise ConfigError(f"{self.name}: nix-cache-info: the upstream's StoreDir is {store_dir}, not {STORE_DIR}")

    async def _fetch_cache_info(self) -> CacheInfo:
        data = await self._upstream.read("nix-cache-info", MAX_CACHE_INFO_BYTES)
        try:
            return CacheInfo(store_dir=None) if data is None else CacheInfo.parse(data)
        except InvalidObject as exc:
            raise type(exc)(f"{self.name}: {exc}") from exc

    def _remember(self, digest: bytes, narinfo: NarInfo | None, ttl_s: float, n_bytes: int) -> None:
        self.forget(digest)
        cost = n_bytes + _ENTRY_BYTES
        self._remembered[digest] = (self._clock() + ttl_s, cost, narinfo)
        self._remembered_bytes += cost
        while self._remembered_bytes > self._policy.max_remembered_bytes:
            self.forget(next(iter(self._remembered)))

    def forget(self, digest: bytes) -> None:
        """Ask again the next time."""
        remembered = self._remembered.pop(digest, None)
        if remembered is not None:
            self._remembered_bytes -= remembered[1]

    async def aclose(self) -> None:
        """End what is under way."""
        try:
            await self._flights.aclose()
        finally:
            await self._cache_info_flights.aclose()
