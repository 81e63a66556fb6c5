"""Fetching NARs: one download for all who want a path at the same time, stored and passed on as it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from tvix_store.content_address_check import check_content_address
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, Unavailable
from tvix_store.flights import Flight, Flights
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.ingest import Ingested
from tvix_store.limits import KIB, MIB
from tvix_store.nar_ingest import ingest_nar
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import NarStream, PathInfo, PathMetadata
from tvix_store.resource import AsyncResource, task_group
from tvix_store.spool import Spool, SpoolReader
from tvix_store_nix.decompression import decompressed
from tvix_store_nix.stored import StoredNars
from tvix_store_nix.upstream import Upstream

__all__ = ["FetchOptions", "Fetches"]

_HASH_IN_THREAD_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Bounds of fetching.

    Args:
        spool_dir: Where NARs are while several read them.
        max_fetches: How many NARs are fetched at once; further ones wait.
    """

    spool_dir: str
    max_fetches: int = 6


class Fetches(AsyncResource):
    """The NARs of one upstream that are being fetched.

    Args:
        name: Of the entry, for messages.
        upstream: Where they come from; not closed with this.
        services: Where their contents go; of these, the blobs and the directories.
        options: Bounds.
        forget: Told the digest of a path whose NAR is not what its narinfo says, which may be out of date.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        services: Services,
        options: FetchOptions,
        forget: Callable[[bytes], None],
    ) -> None:
        self.name = name
        self._upstream = upstream
        self._services = services
        self._options = options
        self._forget = forget
        self._slots = asyncio.Semaphore(options.max_fetches)
        self._stored = StoredNars(services)
        self._flights: Flights[bytes, PathInfo] = Flights()
        self._spools: dict[Flight[PathInfo], Spool] = {}

    async def get(self, narinfo: NarInfo) -> PathInfo:
        """Store the contents of a path, unless they are.

        A fetch that is under way goes on until it has ended or nobody waits for it, here or behind ``open``, any more.

        Raises:
            CorruptObject: What came is not what the narinfo says; names the path and what is wrong.
            DanglingReference: The upstream has a narinfo, but no NAR.
            Unavailable: The NAR cannot be had, or not be stored.
        """
        return await self._flights.join(narinfo.metadata.store_path.digest, lambda: self._fetch(narinfo, None))

    async def open(self, narinfo: NarInfo) -> NarStream | None:
        """The NAR of a path as it comes in; ``None`` if it is stored already, or was once a fetch has ended.

        Raises:
            CorruptObject, DanglingReference, Unavailable: As ``get``, if it fails before there is something to read.
        """
        digest = narinfo.metadata.store_path.digest
        flight = self._flights.find(digest)
        if flight is None:
            if await self._stored.find(narinfo.metadata) is not None:
                return None
            flight = self._flights.find(digest) or self._start(narinfo)
        spool = self._spools.get(flight)
        if spool is None:  # it began with ``get``, which keeps nothing but the contents
            await flight.result()
            return None
        flight.hold()
        reader = SpoolReader(spool, flight.release)
        try:
            await spool.wait_beyond(0)
        except BaseException:
            await reader.aclose()
            raise
        return NarStream(spool.size, reader)

    def _start(self, narinfo: NarInfo) -> Flight[PathInfo]:
        spool = Spool(self._options.spool_dir, narinfo.metadata.nar_size)
        flight = self._flights.start(narinfo.metadata.store_path.digest, lambda: self._fetch(narinfo, spool))
        self._spools[flight] = spool
        flight.task.add_done_callback(lambda _: self._spools.pop(flight))
        return flight

    async def _fetch(self, narinfo: NarInfo, spool: Spool | None) -> PathInfo:
        try:
            async with self._slots:
                path_info = await self._stored.find(narinfo.metadata) if spool is None else None
                if path_info is None:
                    path_info = PathInfo.of(narinfo.metadata, (await self._ingested(narinfo, spool)).node)
                await self._commit(path_info)
        except asyncio.CancelledError:
            if spool is not None:
                spool.fail(Unavailable(f"{self.name}: closed while fetching {narinfo.metadata.store_path}"))
            raise
        except Exception as exc:
            if isinstance(exc, CorruptObject):
                self._forget(narinfo.metadata.store_path.digest)
            if spool is not None:
                spool.fail(exc)
            raise
        if spool is not None:
            spool.finish()
        self._stored.remember(path_info)
        return path_info

    async def _ingested(self, narinfo: NarInfo, spool: Spool | None) -> Ingested:
        """Download, check and store.

        Raises:
            As ``get``.
        """
        file = _File(narinfo)
        metadata = narinfo.metadata
        blobs, directories = self._services.blobs, self._services.directories
        try:
            async with (
                aclosing(self._upstream.stream(narinfo.url, is_compressed=narinfo.compression != "none")) as received,
                aclosing(file.counted(received)) as counted,
                aclosing(decompressed(counted, narinfo.compression, metadata.nar_size)) as nar,
                aclosing(nar if spool is None else _spooled(nar, spool)) as pieces,
            ):
                ingested = await ingest_nar(pieces, blobs, directories)
            file.check()
            _check_nar(metadata, ingested)
        except DanglingReference as exc:
            raise DanglingReference(f"{self.name}: {metadata.store_path}: {exc}") from exc
        except CorruptObject as exc:
            raise CorruptObject(
                f"{self.name}: {metadata.store_path}: {exc}", expected=exc.expected, actual=exc.actual
            ) from exc
        except InvalidObject as exc:
            raise CorruptObject(f"{self.name}: {metadata.store_path}: the NAR at {narinfo.url[:200]}: {exc}") from exc
        return ingested

    async def _commit(self, path_info: PathInfo) -> None:
        """Make sure that the contents may be referred to: they are what the path says, and durable."""
        blobs, directories = self._services.blobs, self._services.directories
        try:
            await check_content_address(path_info, blobs, directories)
        except InvalidObject as exc:
            raise CorruptObject(f"{self.name}: {exc}") from exc
        async with task_group() as group:
            group.create_task(blobs.sync())
            group.create_task(directories.sync())

    async def aclose(self) -> None:
        await self._flights.aclose()


class _File:
    """The file that a narinfo refers to, while it comes."""

    def __init__(self, narinfo: NarInfo) -> None:
        self._narinfo = narinfo
        self._n_bytes = 0
        nar_size = narinfo.metadata.nar_size
        # No compression makes it much longer, but some have padding that decodes to nothing.
        self._max_bytes = narinfo.file_size or nar_size + nar_size // 8 + MIB
        self._expected = narinfo.file_hash
        if narinfo.compression == "none" and self._expected == _nar_hash(narinfo.metadata):
            self._expected = None  # the NAR is going to be hashed
        self._hasher = None if self._expected is None else self._expected.algorithm.hasher()

    async def counted(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The same pieces.

        Raises:
            CorruptObject: They are more than the narinfo says.
        """
        async for piece in pieces:
            self._n_bytes += len(piece)
            if self._n_bytes > self._max_bytes:
                raise CorruptObject(f"the file at {self._where} goes on behind {self._max_bytes} bytes")
            if self._hasher is not None:
                if len(piece) > _HASH_IN_THREAD_BYTES:
                    await asyncio.to_thread(self._hasher.update, piece)
                else:
                    self._hasher.update(piece)
            yield piece

    @property
    def _where(self) -> str:
        return self._narinfo.url[:200]

    def check(self) -> None:
        """Compare with the narinfo, at the end.

        Raises:
            CorruptObject: It is another file.
        """
        size = self._narinfo.file_size
        if size is not None and size != self._n_bytes:
            raise CorruptObject(f"the file at {self._where} has {self._n_bytes} bytes, FileSize is {size}")
        if self._hasher is None or self._expected is None:
            return
        actual = NixHash(self._expected.algorithm, self._hasher.digest())
        if actual != self._expected:
            raise CorruptObject(
                f"the file at {self._where} has {actual}, FileHash is {self._expected}",
                expected=str(self._expected),
                actual=str(actual),
            )


def _nar_hash(metadata: PathMetadata) -> NixHash:
    return NixHash(HashAlgorithm.SHA256, metadata.nar_sha256)


def _check_nar(metadata: PathMetadata, ingested: Ingested) -> None:
    if ingested.nar.size != metadata.nar_size:
        raise CorruptObject(f"the NAR has {ingested.nar.size} bytes, NarSize is {metadata.nar_size}")
    expected, actual = _nar_hash(metadata), NixHash(HashAlgorithm.SHA256, ingested.nar.sha256)
    if actual != expected:
        raise CorruptObject(f"the NAR has {actual}, NarHash is {expected}", expected=str(expected), actual=str(actual))


async def _spooled(pieces: AsyncIterator[bytes], spool: Spool) -> AsyncGenerator[bytes]:
    async for piece in pieces:
        await spool.write(piece)
        yield piece
