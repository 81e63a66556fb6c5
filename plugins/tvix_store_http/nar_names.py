"""Which store path has a NAR of a given hash."""

from __future__ import annotations

from tvix_store.path_info import PathMetadata

__all__ = ["NarNames"]

_MAX_NAMES = 2**17
"""What is remembered, at some 250 bytes each; beyond that, the oldest is forgotten."""


class NarNames:
    """SHA-256 of NARs to digests of store paths, as far as they were seen.

    A path that changes its contents leaves a wrong entry behind: whoever uses one compares with the path info.
    """

    def __init__(self) -> None:
        self._digests: dict[bytes, bytes] = {}

    def note(self, metadata: PathMetadata) -> None:
        """Remember the NAR of a path."""
        digests, nar_sha256 = self._digests, metadata.nar_sha256
        if nar_sha256 not in digests:
            if len(digests) >= _MAX_NAMES:
                del digests[next(iter(digests))]
            digests[nar_sha256] = metadata.store_path.digest

    def forget(self, nar_sha256: bytes) -> None:
        """Do not answer it any more."""
        self._digests.pop(nar_sha256, None)

    def seen(self, nar_sha256: bytes) -> bytes | None:
        """Digest of a store path with that NAR; ``None`` if none was seen."""
        return self._digests.get(nar_sha256)
