"""The directory service interface: directories keyed by the BLAKE3 of their canonical encoding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import ClassVar

from tvix_store.capabilities import Capabilities
from tvix_store.closure import LeavesToRoot
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, LimitExceeded, Unsupported
from tvix_store.limits import BATCH_BYTES, BATCH_COUNT, MAX_CLOSURE_BYTES
from tvix_store.nodes import Directory
from tvix_store.resource import AsyncResource, map_bounded
from tvix_store.statistics import ServiceStats
from tvix_store.verification import Damage, VerifyProgress, no_progress, verify_in_batches
from tvix_store.wire import decode_directory

__all__ = ["ClosurePutter", "DirectoryPutter", "DirectoryService"]


class DirectoryPutter(AsyncResource):
    """One closure being uploaded. Closing the resource without ``close`` discards what was put."""

    @abstractmethod
    async def put_many(self, directories: Sequence[Directory]) -> None:
        """Add directories, leaves first: each only refers to ones that were added before it.

        Raises:
            InvalidObject: That does not hold, or a reference states a wrong size.
        """

    @abstractmethod
    async def close(self) -> B3Digest:
        """Check that it is one whole tree and store it.

        Returns:
            The digest of the root; everything is visible, and durable as the service states.

        Raises:
            InvalidObject: Nothing was added, or there are several roots. Nothing is stored then.
        """


class DirectoryService(AsyncResource):
    """Directories keyed by their digest. Backends write two methods; the rest build on them.

    A service takes a directory whose children it does not hold: a cache may have been asked for the root alone.
    What a path info refers to must be whole, and whoever puts the path info has seen to that.
    """

    relays: ClassVar[bool] = False
    """Whether all it gives is what services that it was given gave it, unchanged. Core has checked that, and does not
    check it again. What a subclass says of itself holds for its subclasses."""

    @property
    def capabilities(self) -> Capabilities:
        """What this service can do beside the abstract methods; nothing, unless overridden."""
        return Capabilities()

    @abstractmethod
    async def get(self, digest: B3Digest) -> Directory | None:
        """The directory with this digest; ``None`` if absent."""

    @abstractmethod
    async def put(self, directory: Directory) -> None:
        """Store one directory under ``directory.digest``; visible and durable once this returns."""

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        """``get`` for each of ``digests``, in their order."""
        return await map_bounded(self.get, digests)

    async def put_many(self, directories: Sequence[Directory]) -> None:
        """Store directories that need not belong together; all visible and durable once this returns.

        After a failure or a cancelled call, some of them may be there.
        """
        await map_bounded(self.put, directories)

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        """The whole tree below ``root``: the root first, each directory once, after one that refers to it.

        Yields nothing if the root is absent.

        Raises:
            DanglingReference: A directory below the root is absent.
        """
        seen = {root}
        level = [root]
        while level:
            following: list[B3Digest] = []
            for start in range(0, len(level), BATCH_COUNT):
                digests = level[start : start + BATCH_COUNT]
                for digest, directory in zip(digests, await self.get_many(digests), strict=True):
                    if directory is None:
                        if digest == root:
                            return
                        raise DanglingReference(f"directory {digest} does not exist, below {root}")
                    yield directory
                    for _, child in directory.directories():
                        if child.digest not in seen:
                            seen.add(child.digest)
                            following.append(child.digest)
            level = following

    async def put_multiple_start(self) -> DirectoryPutter:
        """Start the upload of one closure; nothing is visible before ``DirectoryPutter.close`` returns."""
        return ClosurePutter(self)

    def list(self) -> AsyncIterator[B3Digest]:
        """The digests of all directories, in no particular order.

        Raises:
            Unsupported: The service does not state the capability.
        """
        raise Unsupported(f"{type(self).__name__} cannot list directories")

    async def delete(self, digests: Sequence[B3Digest]) -> None:
        """Remove directories; those that are absent are passed over.

        Raises:
            Unsupported: The service does not state the capability.
        """
        raise Unsupported(f"{type(self).__name__} cannot delete directories")

    async def discard_corrupt(self, digest: B3Digest) -> None:
        """Forget the directory if what is stored under ``digest`` is not it, so that the next put heals it.

        Core calls this after it found that out, or after the service raised CorruptObject. A service that stores
        nothing itself does nothing (this default).
        """

    async def stats(self) -> ServiceStats:
        """How many directories there are, and how much space they take.

        Raises:
            Unsupported: The service cannot say.
        """
        raise Unsupported(f"{type(self).__name__} has no statistics")

    async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        """Read everything there is, and yield what is wrong with it.

        What is wrong is forgotten (``discard_corrupt``), so that the next put heals it. What is put or deleted
        meanwhile may be checked or not. Whether children exist is not looked at. This default lists the
        directories and gets each.

        Args:
            progress: Told how many directories have been checked.

        Raises:
            Unsupported: The service cannot list what it holds.
            Unavailable: Something could not be read for another reason.
        """
        try:
            total = (await self.stats()).objects
        except Unsupported:
            total = None
        async for damage in verify_in_batches(
            self.list(), self._verify_batch, progress, batch_count=BATCH_COUNT, total=total
        ):
            yield damage

    async def _verify_batch(self, digests: Sequence[B3Digest]) -> tuple[Sequence[Damage], int]:
        """What is wrong with these, and how many they are; halves a batch until it is clear which one is wrong."""
        try:
            directories = await self.get_many(digests)
        except CorruptObject as exc:
            if len(digests) == 1:
                return [await self._damage(digests[0], str(exc))], 1
            half = len(digests) // 2
            damages, _ = await self._verify_batch(digests[:half])
            more_damages, _ = await self._verify_batch(digests[half:])
            return [*damages, *more_damages], len(digests)
        damages = []
        for digest, directory in zip(digests, directories, strict=True):
            if directory is not None and directory.digest != digest:
                damages.append(await self._damage(digest, f"what is stored hashes to {directory.digest}"))
        return damages, len(digests)

    async def _damage(self, digest: B3Digest, reason: str) -> Damage:
        await self.discard_corrupt(digest)
        return Damage("directory", str(digest), None, reason)

    async def sync(self) -> None:
        """Wait until everything that was put before is durable, if the service promises durability at all.

        A service whose puts are durable when they return, or never, has nothing to do (this default). One that
        states ``Durability.BATCHED`` overrides it, and a combinator asks the services it writes to.
        """


class ClosurePutter(DirectoryPutter):
    """Holds the encodings of a closure until it is known to be whole, then puts it in batches, leaves first.

    Args:
        service: Where to put it.
        max_bytes: How large the encodings may be together.
    """

    def __init__(self, service: DirectoryService, max_bytes: int = MAX_CLOSURE_BYTES) -> None:
        self._service = service
        self._max_bytes = max_bytes
        self._validator = LeavesToRoot()
        self._encoded: list[bytes] = []
        self._bytes = 0
        self._root: B3Digest | None = None

    async def put_many(self, directories: Sequence[Directory]) -> None:
        for directory in directories:
            if self._validator.add(directory):
                self._encoded.append(directory.encode())
                self._bytes += len(self._encoded[-1])
                if self._bytes > self._max_bytes:
                    raise LimitExceeded(f"directory closure is larger than {self._max_bytes} bytes")

    async def close(self) -> B3Digest:
        if self._root is None:
            root = self._validator.finish()
            await self.store(self._encoded)
            self._encoded.clear()
            self._root = root
        return self._root

    async def store(self, encoded: Sequence[bytes]) -> None:
        """Put what is now known to be a whole closure: the canonical encodings, leaves first.

        In batches of directories (this default); a service that keeps encodings overrides it to take them at once.
        """
        for batch in _batches(encoded):
            await self._service.put_many([decode_directory(directory) for directory in batch])

    async def aclose(self) -> None:
        self._encoded.clear()


def _batches(encoded: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    start = n_bytes = 0
    for end, item in enumerate(encoded):
        if end > start and (end - start == BATCH_COUNT or n_bytes + len(item) > BATCH_BYTES):
            yield encoded[start:end]
            start, n_bytes = end, 0
        n_bytes += len(item)
    if start < len(encoded):
        yield encoded[start:]
