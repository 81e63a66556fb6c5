"""What is known of a store path, and the path info service interface, which finds it by the path's digest."""

from __future__ import annotations

import base64
import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from tvix_store.capabilities import Capabilities
from tvix_store.content_address import ContentAddress
from tvix_store.errors import CorruptObject, InvalidObject, Unsupported
from tvix_store.explain import Explainer
from tvix_store.limits import BATCH_COUNT, U64_MAX
from tvix_store.nar_calculation import NarCalculationService
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.nodes import Node
from tvix_store.resource import AsyncResource, map_bounded
from tvix_store.statistics import ServiceStats
from tvix_store.store_path import STORE_DIR, StorePath
from tvix_store.verification import Damage, VerifyProgress, no_progress, verify_in_batches

__all__ = [
    "NAR_SHA256_BYTES",
    "OUTPUT_HASH_BYTES",
    "NarStream",
    "PathInfo",
    "PathInfoService",
    "PathMetadata",
    "Signature",
    "validate_nar_sha256",
]

NAR_SHA256_BYTES = 32
OUTPUT_HASH_BYTES = 20
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Signature:
    """An ed25519 signature of a path info's fingerprint.

    Args:
        name: Of the key; any text.
        data: 64 bytes.
    """

    name: str
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != SIGNATURE_BYTES:
            raise InvalidObject(
                f"signature {self.name[:80]!r}: {len(self.data)} bytes of data instead of {SIGNATURE_BYTES}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``NAME:BASE64``, as a narinfo has it.

        Raises:
            InvalidObject: No colon, an empty name, or data that is not the padded base64 of 64 bytes.
        """
        name, colon, data = text.partition(":")
        if not colon or not name:
            raise InvalidObject(f"signature {text[:80]!r}: expected NAME:BASE64")
        try:
            return cls(name, base64.b64decode(data, validate=True))
        except ValueError as exc:
            raise InvalidObject(f"signature {text[:80]!r}: {exc}") from exc

    def __str__(self) -> str:
        return f"{self.name}:{base64.b64encode(self.data).decode()}"


def validate_nar_sha256(store_path: StorePath, nar_sha256: bytes) -> None:
    """Check the length of the SHA-256 of the NAR of ``store_path``.

    Raises:
        InvalidObject: It is not 32 bytes.
    """
    if len(nar_sha256) != NAR_SHA256_BYTES:
        raise InvalidObject(
            f"path info {store_path}: invalid NAR SHA-256 length, {len(nar_sha256)} bytes instead of {NAR_SHA256_BYTES}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMetadata:
    """What is known of a store path without having its contents, as a narinfo states it.

    Args:
        store_path: The path.
        nar_size: Length of the contents as a NAR, in bytes.
        nar_sha256: SHA-256 of that NAR, 32 bytes.
        references: Paths that the contents mention, in the order they were given.
        signatures: In the order they were given.
        deriver: The derivation it was built from, without the ``.drv`` of its name.
        ca: How the path follows from its contents, if it does.

    Raises:
        InvalidObject: ``nar_sha256`` has another length, or ``nar_size`` does not fit 64 bits.
    """

    store_path: StorePath
    nar_size: int
    nar_sha256: bytes
    references: tuple[StorePath, ...] = ()
    signatures: tuple[Signature, ...] = ()
    deriver: StorePath | None = None
    ca: ContentAddress | None = None

    def __post_init__(self) -> None:
        validate_nar_sha256(self.store_path, self.nar_sha256)
        if not 0 <= self.nar_size <= U64_MAX:
            raise InvalidObject(f"path info {self.store_path}: NAR size {self.nar_size} does not fit 64 bits")

    def fingerprint(self, store_dir: str = STORE_DIR) -> str:
        """What signatures cover, with the references in the order they were given.

        Source: Nix manual, "Signature"; the Nix source's ``ValidPathInfo::fingerprint``.
        """
        references = ",".join(reference.absolute(store_dir) for reference in self.references)
        return (
            f"1;{self.store_path.absolute(store_dir)};sha256:{nixbase32(self.nar_sha256)};{self.nar_size};{references}"
        )

    def with_signatures(self, *signatures: Signature) -> Self:
        """A copy with ``signatures`` appended, but for those it has."""
        return replace(self, signatures=tuple(dict.fromkeys((*self.signatures, *signatures))))


@dataclass(frozen=True, slots=True, kw_only=True)
class PathInfo(PathMetadata):
    """What is known of a store path whose contents are in the store.

    Args:
        node: The root of the contents.
    """

    node: Node

    @classmethod
    def of(cls, metadata: PathMetadata, node: Node) -> Self:
        """``metadata`` with the root of the contents."""
        return cls(
            store_path=metadata.store_path,
            node=node,
            nar_size=metadata.nar_size,
            nar_sha256=metadata.nar_sha256,
            references=metadata.references,
            signatures=metadata.signatures,
            deriver=metadata.deriver,
            ca=metadata.ca,
        )


@dataclass(frozen=True, slots=True)
class NarStream:
    """A NAR that is on its way.

    Args:
        size: In bytes, as announced.
        pieces: Exactly that many bytes. Whoever may stop before the end closes it. It raises Unavailable if the source
            fails, and CorruptObject instead of ending if what came is not what was announced.
    """

    size: int
    pieces: AsyncGenerator[bytes]


class PathInfoService(AsyncResource):
    """Path infos keyed by the 20-byte digest of their store path. Backends write two methods.

    A path info is the commit point: whoever puts it has stored everything it refers to.
    """

    relays: ClassVar[bool] = False
    """Whether all it gives is what services that it was given gave it, unchanged. Core has checked that, and does not
    check it again. What a subclass says of itself holds for its subclasses."""

    @property
    def capabilities(self) -> Capabilities:
        """What this service can do beside the abstract methods; nothing, unless overridden."""
        return Capabilities()

    @abstractmethod
    async def get(self, digest: bytes) -> PathInfo | None:
        """The path info whose store path has this digest (20 bytes); ``None`` if absent."""

    @abstractmethod
    async def put(self, path_info: PathInfo) -> PathInfo:
        """Store a path info, in place of one with the same digest; visible and durable once this returns.

        Returns:
            What was stored, which may have more signatures than what was given.
        """

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        """What ``get`` finds, as far as it is known without having the contents; ``None`` if absent.

        A service that would have to fetch the contents for ``get`` answers this without doing so.
        The default is ``get``.
        """
        return await self.get(digest)

    async def open_nar(self, digest: bytes) -> NarStream | None:
        """The NAR of a path from where this service takes it, while it is being taken.

        ``None`` (this default) if there is nothing to wait for, or nothing at all: then ``get`` says what there is.
        """
        return None

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        """``get`` for each of ``digests``, in their order."""
        return await map_bounded(self.get, digests)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        """``put`` for each of ``path_infos``, one after the other in their order (this default) or in one commit.

        After a failure or a cancelled call, those up to some point may be there.
        """
        return [await self.put(path_info) for path_info in path_infos]

    def list(self) -> AsyncIterator[PathInfo]:
        """All path infos, in no particular order.

        Raises:
            Unsupported: The service does not state the capability.
        """
        raise Unsupported(f"{type(self).__name__} cannot list path infos")

    async def delete(self, digests: Sequence[bytes]) -> None:
        """Remove path infos; those that are absent are passed over.

        Raises:
            Unsupported: The service does not state the capability.
        """
        raise Unsupported(f"{type(self).__name__} cannot delete path infos")

    async def discard_corrupt(self, digest: bytes) -> None:
        """Forget the path info if what is stored under ``digest`` is not one, so that the next put heals it.

        Core calls this after it found that out, or after the service raised CorruptObject. A service that stores
        nothing itself does nothing (this default).
        """

    async def stats(self) -> ServiceStats:
        """How many path infos there are, and how much space they take.

        Raises:
            Unsupported: The service cannot say.
        """
        raise Unsupported(f"{type(self).__name__} has no statistics")

    async def verify(self, progress: VerifyProgress = no_progress) -> AsyncIterator[Damage]:
        """Read everything there is, and yield what is wrong with it.

        What is wrong is forgotten (``discard_corrupt``), so that the next put heals it. What is put or deleted
        meanwhile may be checked or not. What a path info refers to is not looked at.

        This default lists the path infos and gets each. Where one that is wrong ends the list, and the error names
        it as ``expected``, it is forgotten and the list begun again.

        Args:
            progress: Told how many path infos have been checked.

        Raises:
            Unsupported: The service cannot list what it holds.
            Unavailable: Something could not be read for another reason.
        """
        try:
            total = (await self.stats()).objects
        except Unsupported:
            total = None
        forgotten: set[str] = set()
        while True:
            try:
                async for damage in verify_in_batches(
                    _digests(self.list()), self._verify_batch, progress, batch_count=BATCH_COUNT, total=total
                ):
                    yield damage
                return
            except CorruptObject as exc:  # of the list: those of a batch do not come through
                named = exc.expected if exc.expected and re.fullmatch("[0-9a-f]{40}", exc.expected) else None
                if named in forgotten:
                    return  # it cannot be got out of the way
                yield Damage("path info", named, None, str(exc))
                if named is None:
                    return
                forgotten.add(named)
                await self.discard_corrupt(bytes.fromhex(named))

    async def _verify_batch(self, digests: Sequence[bytes]) -> tuple[Sequence[Damage], int]:
        """What is wrong with these, and how many they are; halves a batch until it is clear which one is wrong."""
        try:
            path_infos = await self.get_many(digests)
        except CorruptObject as exc:
            if len(digests) == 1:
                return [await self._damage(digests[0], str(exc))], 1
            half = len(digests) // 2
            damages, _ = await self._verify_batch(digests[:half])
            more_damages, _ = await self._verify_batch(digests[half:])
            return [*damages, *more_damages], len(digests)
        damages = []
        for digest, path_info in zip(digests, path_infos, strict=True):
            if path_info is not None and path_info.store_path.digest != digest:
                damages.append(await self._damage(digest, f"what is stored is about {path_info.store_path}"))
        return damages, len(digests)

    async def _damage(self, digest: bytes, reason: str) -> Damage:
        await self.discard_corrupt(digest)
        return Damage("path info", digest.hex(), None, reason)

    def nar_calculation(self) -> NarCalculationService | None:
        """The NAR calculation that comes with this service, as a remote store's does; ``None`` otherwise."""
        return None

    def explainer(self) -> Explainer | None:
        """What explains the composition that is behind this service, as a remote store's is; ``None`` otherwise."""
        return None


async def _digests(path_infos: AsyncIterator[PathInfo]) -> AsyncIterator[bytes]:
    async for path_info in path_infos:
        yield path_info.store_path.digest
