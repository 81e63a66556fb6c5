"""Which paths there are: found by a part of the name, by what refers to them, and by the hash of their NAR.

A path info service finds a path by its digest alone, so the rest is an index in memory, made from its list. It holds
bytes and numbers rather than objects: about 100 bytes for a path, its name twice, and 4 for each reference. There is
one per frontend (``Site.catalog``).
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tvix_store.path_info import NAR_SHA256_BYTES, OUTPUT_HASH_BYTES, PathInfo, PathInfoService
from tvix_store.resource import AsyncResource
from tvix_store.store_path import StorePath

__all__ = ["Catalog", "Index", "Row"]

_AT_ONCE = 128  # path infos that are taken from the list before others get their turn
_PAUSE = 10
"""No list is made before this many times as long as the last one took has passed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One path, as the list of paths shows it.

    Args:
        store_path: The path.
        nar_size: In bytes.
        n_references: How many paths it refers to, itself included if it does.
        is_signed: Whether it has a signature, by whomever.
    """

    store_path: StorePath
    nar_size: int
    n_references: int
    is_signed: bool


class _Listed:
    """What is taken from path infos for an index, in the order they come."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.digests = bytearray()
        self.nar_sha256 = bytearray()
        self.nar_sizes = array("Q")
        self.references = bytearray()
        self.n_references = array("I")
        self.signed = bytearray()

    def add(self, path_info: PathInfo) -> None:
        self.names.append(path_info.store_path.name.encode())
        self.digests += path_info.store_path.digest
        self.nar_sha256 += path_info.nar_sha256
        self.nar_sizes.append(path_info.nar_size)
        self.references += b"".join([reference.digest for reference in path_info.references])
        self.n_references.append(len(path_info.references))
        self.signed.append(bool(path_info.signatures))


class Index:
    """The paths there were at one time, numbered in the order of their names.

    Args:
        listed: What is known of them; a path that came twice counts once.
    """

    def __init__(self, listed: _Listed) -> None:
        digests = [bytes(digest) for digest in _cut(listed.digests, OUTPUT_HASH_BYTES)]
        came = {digest: position for position, digest in enumerate(digests)}
        order = sorted(came.values(), key=lambda position: (listed.names[position], digests[position]))
        self._names = b"".join(b"%b\n" % listed.names[position] for position in order)
        self._folded = self._names.lower()
        self._starts = array("Q", [0])
        for position in order:
            self._starts.append(self._starts[-1] + len(listed.names[position]) + 1)
        nar_hashes = list(_cut(listed.nar_sha256, NAR_SHA256_BYTES))
        self._digests = b"".join(digests[position] for position in order)
        self._nar_sha256 = b"".join(nar_hashes[position] for position in order)
        self._nar_sizes = array("Q", (listed.nar_sizes[position] for position in order))
        self._n_references = array("I", (listed.n_references[position] for position in order))
        self._signed = bytes(listed.signed[position] for position in order)
        self._by_digest = array("I", sorted(range(len(order)), key=self.digest))
        self._by_nar = array("I", sorted(range(len(order)), key=self._nar_hash))
        self._referrer_ends, self._referrers = _invert(listed, digests, order)

    def __len__(self) -> int:
        return len(self._signed)

    def digest(self, number: int) -> bytes:
        """The digest of the path with this number, 20 bytes."""
        return self._digests[OUTPUT_HASH_BYTES * number : OUTPUT_HASH_BYTES * (number + 1)]

    def store_path(self, number: int) -> StorePath:
        """The path with this number."""
        name = self._names[self._starts[number] : self._starts[number + 1] - 1]
        return StorePath(self.digest(number), name.decode())

    def row(self, number: int) -> Row:
        """What the list shows of the path with this number."""
        return Row(
            self.store_path(number), self._nar_sizes[number], self._n_references[number], bool(self._signed[number])
        )

    def number(self, digest: bytes) -> int | None:
        """The number of the path with this digest; ``None`` if there is none."""
        return self._find(self._by_digest, self.digest, digest)

    def number_by_nar(self, nar_sha256: bytes) -> int | None:
        """The number of a path whose NAR has this SHA-256, 32 bytes; ``None`` if there is none."""
        return self._find(self._by_nar, self._nar_hash, nar_sha256)

    def search(self, text: str) -> Sequence[int]:
        """The numbers of the paths whose name has each word of ``text`` in it, in any case; all if there is no word.

        Takes some milliseconds for each hundred thousand paths, and some hundred if most of them match.
        """
        words = sorted(text.lower().encode("utf-8", "surrogateescape").split(), key=len, reverse=True)
        if not words:
            return range(len(self))
        found = array("I")
        names, starts = self._folded, self._starts
        position = names.find(words[0])
        while position >= 0:
            number = bisect_right(starts, position) - 1
            following = starts[number + 1]
            if all(names.find(word, starts[number], following) >= 0 for word in words[1:]):
                found.append(number)
            position = names.find(words[0], following)
        return found

    def referrers(self, digest: bytes) -> Sequence[int]:
        """The numbers of the paths that refer to the one with this digest; empty also if that is not listed."""
        number = self.number(digest)
        if number is None:
            return ()
        start = self._referrer_ends[number - 1] if number else 0
        return self._referrers[start : self._referrer_ends[number]]

    def _nar_hash(self, number: int) -> bytes:
        return self._nar_sha256[NAR_SHA256_BYTES * number : NAR_SHA256_BYTES * (number + 1)]

    @staticmethod
    def _find(numbers: Sequence[int], key: Callable[[int], bytes], wanted: bytes) -> int | None:
        at = bisect_left(numbers, wanted, key=key)
        return numbers[at] if at < len(numbers) and key(numbers[at]) == wanted else None


def _cut(data: bytes | bytearray, size: int) -> Iterator[bytes]:
    return (bytes(data[start : start + size]) for start in range(0, len(data), size))


def _invert(listed: _Listed, digests: Sequence[bytes], order: Sequence[int]) -> tuple[array[int], array[int]]:
    """For each path of ``order``, what refers to it: where its part of the second array ends, and that array."""
    numbers = {digests[position]: number for number, position in enumerate(order)}
    starts = [0, *accumulate(listed.n_references)]
    targets, sources = array("I"), array("I")
    counts = array("Q", bytes(8 * len(order)))
    for number, position in enumerate(order):
        start, end = OUTPUT_HASH_BYTES * starts[position], OUTPUT_HASH_BYTES * starts[position + 1]
        for digest in set(_cut(listed.references[start:end], OUTPUT_HASH_BYTES)):
            target = numbers.get(digest)
            if target is not None:
                targets.append(target)
                sources.append(number)
                counts[target] += 1
    ends_of = array("Q", accumulate(counts))
    following = array("Q", (end - count for end, count in zip(ends_of, counts, strict=True)))
    referrers = array("I", bytes(array("I").itemsize * len(targets)))
    for target, source in zip(targets, sources, strict=True):  # sources ascend, so the referrers of each path do, too
        referrers[following[target]] = source
        following[target] += 1
    return ends_of, referrers


class Catalog(AsyncResource):
    """The index of what a path info service lists, made anew when it is asked for and has become old.

    Args:
        path_infos: What is listed.
        max_age_s: How old an index may be. Where making one takes long, it may be ten times as old as that takes.
        patience_s: How long to wait for a new one, if there is an old one or the caller can do without.
    """

    def __init__(self, path_infos: PathInfoService, *, max_age_s: float = 5.0, patience_s: float = 1.0) -> None:
        self._path_infos = path_infos
        self._max_age_s = max_age_s
        self._patience_s = patience_s
        self._index: Index | None = None
        self._good_until = 0.0
        self._n_listed = 0
        self._making: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait([self._making])

    @property
    def can_list(self) -> bool:
        """Whether there can be an index at all."""
        return self._path_infos.capabilities.list

    async def index(self) -> Index:
        """What there is, or was a short time ago.

        A list that is being made is waited for by everybody. It does not belong to whoever asked first, and goes on if
        that one goes away.

        Raises:
            Unsupported: The service cannot list what it holds.
            StoreError: Listing has failed.
        """
        index = await self._wait(None)
        assert index is not None
        return index

    async def index_soon(self) -> Index | None:
        """The same, but ``None`` if making the first one takes longer than ``patience_s``."""
        return await self._wait(self._patience_s)

    @property
    def n_listed(self) -> int:
        """How many paths the list that is being made has so far."""
        return self._n_listed

    async def _wait(self, timeout_s: float | None) -> Index | None:
        if self._making is None and (self._index is None or self._now() >= self._good_until):
            self._making = asyncio.create_task(self._make())
            self._making.add_done_callback(self._made)
        if (making := self._making) is not None:
            await asyncio.wait([making], timeout=timeout_s if self._index is None else self._patience_s)
            if making.done():
                making.result()
        return self._index

    async def digest_by_nar(self, nar_sha256: bytes) -> bytes | None:
        """The digest of a path whose NAR has this SHA-256 (32 bytes), which may have been deleted since.

        ``None`` if there was none a short time ago, or the service cannot list what it holds.
        """
        if not self.can_list:
            return None
        index, number = self._index, None
        if index is not None:
            number = index.number_by_nar(nar_sha256)
        if index is None or number is None:
            index = await self.index()
            number = index.number_by_nar(nar_sha256)
        return None if number is None else index.digest(number)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _make(self) -> None:
        start = self._now()
        listed = _Listed()
        async for path_info in self._path_infos.list():
            listed.add(path_info)
            self._n_listed = len(listed.names)
            if not self._n_listed % _AT_ONCE:
                await asyncio.sleep(0)
        self._index = await asyncio.to_thread(Index, listed)
        took = self._now() - start
        self._good_until = self._now() + max(self._max_age_s, _PAUSE * took if self._max_age_s else 0)

    def _made(self, making: asyncio.Task[None]) -> None:
        self._making = None
        if not making.cancelled():
            making.exception()  # told to whoever waits, and no news if nobody does
